"""The report about a results file: plots, galleries, one page."""
