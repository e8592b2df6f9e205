"""Says beforehand what will not fit into memory, as a process that is killed cannot."""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Bytes that this process can still get, or None where the system does not tell."""
    if not _MEMINFO.is_file():
        return None
    rows = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    free = int(rows["MemAvailable"].split()[0]) * 1024
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
    if free is not None and needed > free:
        raise MemoryError(
            f"{what} needs about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are available"
        )
