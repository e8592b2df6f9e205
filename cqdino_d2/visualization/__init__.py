"""Figures: boxes, sheets, curves, videos."""
