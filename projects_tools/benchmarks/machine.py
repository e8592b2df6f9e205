"""What a benchmark ran on, which code, and the file that it leaves for others to read."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cqdino_d2.files import write_atomically

TOOL = Path(__file__).resolve().parents[1] / "benchmark.py"


def processor_name() -> str:
    """As Linux tells it; neither `platform` nor psutil knows a processor's name there."""
    source = Path("/proc/cpuinfo")
    lines = source.read_text().splitlines() if source.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def commit() -> str | None:
    """That of the code that runs, "-dirty" behind it where files differ; None outside git."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty"]
    command += ["--exclude=*", "--abbrev=10"]  # its hash, no tag
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git
        return None
    return told.stdout.strip() or None


def processor_with_family() -> str:
    """The name and, as some machines give no fuller one, the family."""
    source = Path("/proc/cpuinfo")
    lines = source.read_text().splitlines() if source.is_file() else []
    families = (line.split(":", 1)[1].strip() for line in lines if line.startswith("cpu family"))
    family = next(families, "")
    return f"{processor_name()} family {family}" if family else processor_name()


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--json``."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")


def write_figures(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Writes what was measured, whole or not at all; nothing without a path."""
    if path is not None:
        text = json.dumps(figures, indent=1) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))


def figures_of_process(
    arguments: Sequence[str],
    *,
    file: Path | None = None,
    output: bool = True,
    timeout: float | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """What a benchmark gives in a fresh process.

    Args:
        arguments: of `benchmark.py`.
        file: JSON that it writes; None where its last line is the JSON.
        output: whether it gives any; else success alone counts.
        timeout: seconds.
        threads: of its libraries, by default as many as they choose.

    Returns:
        The figures; where there are none ``{"failure": why}``.
    """
    command = [sys.executable, "-W", "ignore", str(TOOL), *arguments]
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    options = {"capture_output": True, "text": True, "env": environment, "timeout": timeout}
    if file is not None:
        file.unlink(missing_ok=True)
    try:
        done = subprocess.run(command, **options)
    except subprocess.TimeoutExpired:
        return {"failure": f"it took more than {timeout:.0f} s"}
    if file is not None and file.is_file():  # a benchmark that misses its bar ends with 1
        return json.loads(file.read_text(encoding="utf-8"))
    if file is None and done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1]) if output else {}
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}, out of memory?"]
    return {"failure": said[-1][:150]}
