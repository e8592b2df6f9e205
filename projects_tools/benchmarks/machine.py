"""What a benchmark ran on, and which code."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path


def processor_name() -> str:
    """As Linux tells it; neither `platform` nor psutil knows a processor's name there."""
    source = Path("/proc/cpuinfo")
    lines = source.read_text().splitlines() if source.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def commit() -> str | None:
    """That of the code that runs, "-dirty" behind it where files differ; None outside git."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git
        return None
    return told.stdout.strip() or None
