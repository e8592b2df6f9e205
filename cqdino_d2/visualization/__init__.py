"""Pictures for people: boxes, sheets, curves, videos."""
