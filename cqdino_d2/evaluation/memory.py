"""Says beforehand what will not fit into memory, as a process that is killed cannot."""

from __future__ import annotations

from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int:
    """Bytes that this process can still get, by the machine and, in a container, by its limit."""
    free = psutil.virtual_memory().available  # of the machine: psutil knows no containers
    limit, used = _CGROUP / "memory.max", _CGROUP / "memory.current"
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        free = min(free, int(most) - int(used.read_text()))
    return free


def require_memory(needed: float, what: str) -> None:
    """Makes sure that some bytes are there.

    Args:
        needed: bytes.
        what: needs them; for the message.

    Raises:
        MemoryError: they are not there.
    """
    free = available_memory()
    if needed > free:
        raise MemoryError(
            f"{what} needs about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are available"
        )
