"""What the processes of one installation know of each other: who lives, and whose death is theirs too."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

PARENT = "EVERLEARN_PARENT_PID"
_PR_SET_PDEATHSIG = 1
_GRACE = 3.0


def identity() -> str:
    """This process as ``host/namespace:pid:start-time``: no other process, now or later, has the same.

    The namespace is that of the numbers of processes: containers that share a host's name do not share it.
    """
    return f"{_place()}:{os.getpid()}:{_started(os.getpid())}"


def is_dead(owner: str | None) -> bool:
    """Whether an :func:`identity` is of a process of this host that no longer runs.

    ``False`` where that cannot be known: another host, or text that is no identity.
    """
    parts = (owner or "").rsplit(":", 2)
    if len(parts) != 3 or parts[0] != _place() or not parts[1].isdigit():
        return False
    pid = int(parts[1])
    return not pid_lives(pid) or _started(pid) != parts[2]


def pid_lives(pid: int) -> bool:
    """Whether a process with this number runs (a zombie does not)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state(pid) != "Z"


def die_with_parent(on_orphaned: Callable[[], None] | None = None) -> None:
    """End this process when the supervisor that started it is gone, even by ``kill -9``.

    Does nothing in a process that no supervisor started. On Linux the kernel sends SIGTERM; elsewhere,
    and should that be missed, a thread looks each second. After SIGTERM's grace it ends hard.
    """
    parent = os.environ.get(PARENT, "")
    if not parent.isdigit():
        return
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    threading.Thread(target=_watch, args=(int(parent), on_orphaned), name="lifeline", daemon=True).start()


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Call ``stop`` on SIGTERM and on Ctrl-C."""

    def handle(_signum: int, _frame: FrameType | None) -> None:
        stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


def _place() -> str:
    """Where the number of this process means something: its host, and there its namespace."""
    try:
        namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:  # another system than Linux
        namespace = "0"
    return f"{socket.gethostname()}/{namespace}"


def _watch(parent: int, on_orphaned: Callable[[], None] | None) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    if on_orphaned is not None:
        on_orphaned()
        time.sleep(_GRACE)
    os._exit(1)


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` after the command; empty where there is no such file."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _started(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else "0"


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""
