"""What a benchmark ran on."""

from __future__ import annotations

import platform
from pathlib import Path


def processor_name() -> str:
    """As Linux tells it; neither `platform` nor psutil knows a processor's name there."""
    source = Path("/proc/cpuinfo")
    lines = source.read_text().splitlines() if source.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
