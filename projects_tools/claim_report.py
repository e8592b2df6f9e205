"""The report of `run_claim.py`: tables, plots and whether the paper's claim holds."""

from pathlib import Path


def write_report(output: Path, path: Path) -> None:
    """Writes nothing yet."""
