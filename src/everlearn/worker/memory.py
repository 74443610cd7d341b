"""How much memory processes use, and how much there is."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
SHARE = 0.75
"""What a job may use of the memory there is, where no setting says how much."""


def resident(pid: int) -> int | None:
    """The MiB that a process has in memory; ``None`` where that cannot be known."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def usual_limit() -> int | None:
    """Three quarters of the memory of this machine or container, in MiB; ``None`` where nobody knows."""
    known = [size for size in (_machine(), *map(_written, _CGROUPS)) if size]
    return int(SHARE * min(known)) >> 20 if known else None


def _machine() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _written(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such group, or "max"
        return None
