"""What every runner shares: the jobs that it reads, the clock, and the memory. Needs numpy alone.

A runner is a process that measures one learner. Each line of its standard input is a job or a stretch,
and is answered by one line of JSON. A job is an object:

learner      its name in the runner
parameters   keyword parameters, where the runner takes some
task         "classification" or "regression"
data         an ``.npz`` file with ``X`` float64 (n, d) and ``y`` (n,): class numbers int64, or float64
classes      how many classes there are (0: regression)
delay        how many rows late labels come
seed         of the learner
out          where to write the answers: ``.npz`` with ``picks`` (n,) and ``answers`` (n, k)
stretches    true: do not run the stream, but make the learner ready for stretches

Before its first job a runner warms up (compilers) on the first rows, with a learner that is thrown away.
The answer has ``rows``, ``seconds``, ``peak_bytes`` (the most that the resident memory grew from before
the learner was made, beside rows and answers; null after the first job of a process, which leaves room
behind), ``state_bytes`` (null where nothing tells); or ``failed``, a reason. A stretch ``[start, end]``
is answered by the seconds it took.

Row i is answered, then row ``i - delay`` is learned with its label.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

WARM_ROWS = 300
NONE = -1


class Session(Protocol):
    """One learner over one stream. It fills ``picks`` and ``answers`` as it goes."""

    picks: Any
    answers: Any

    def begin(self) -> None:
        """Make the learner; rows and room for answers are there already and count for no one."""

    def run(self, start: int, end: int, delay: int) -> None:
        """Answer rows ``start`` to ``end`` and learn those that are ``delay`` older."""

    def size(self) -> int | None:
        """The bytes of the learned state."""


def room(job: dict[str, Any], n: int) -> tuple[Any, Any]:
    """Room for what is picked (n,) and for the probabilities (n, k)."""
    if job["task"] == "regression":
        return np.full(n, np.nan), None
    return np.full(n, NONE, dtype=np.int64), np.zeros((n, job["classes"]), dtype=np.float32)


def resident(field: str = "VmRSS") -> int:
    """The resident memory of this process in bytes (``VmHWM``: its peak); 0 where /proc is missing."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """Let the peak of the resident memory start again from what it is now."""
    gc.collect()
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def load(job: dict[str, Any]) -> tuple[Any, Any]:
    with np.load(job["data"]) as data:
        return data["X"], data["y"]


def warm(make: Any, job: dict[str, Any]) -> None:
    """Run the first rows with a learner that is thrown away."""
    X, y = (part[:WARM_ROWS] for part in load(job))
    session = make(job, X, y)
    session.begin()
    session.run(0, len(X), 0)
    session.size()


def timed(session: Session, start: int, end: int, delay: int) -> float:
    started = time.perf_counter()
    session.run(start, end, delay)
    return time.perf_counter() - started


def whole(session: Session, job: dict[str, Any], first: bool) -> dict[str, Any]:
    """Run the whole stream."""
    forget_peak()
    before, rows = resident(), len(session.picks)
    session.begin()
    seconds = timed(session, 0, rows, job["delay"])
    peak = max(resident("VmHWM") - before, 0)
    if job.get("out"):
        kept = {} if session.answers is None else {"answers": session.answers}
        np.savez_compressed(job["out"], picks=session.picks, **kept)
    return {
        "rows": rows,
        "seconds": seconds,
        "peak_bytes": peak if first else None,
        "state_bytes": session.size(),
    }


class Server:
    """Answers line by line."""

    def __init__(self, make: Any) -> None:
        self._make, self._warm, self._first = make, False, True
        self._session: Any = None

    def answer(self, asked: Any) -> Any:
        """The answer to a job or to a stretch."""
        if isinstance(asked, list):
            return timed(self._session, asked[0], asked[1], 0)
        if not self._warm:
            warm(self._make, asked)
            self._warm = True
        self._session = self._make(asked, *load(asked))
        if asked.get("stretches"):
            self._session.begin()
            return {"ready": True}
        result = whole(self._session, asked, self._first)
        self._first, self._session = False, None
        return result


def main(make: Any) -> None:
    """Serve jobs. ``make(job, X, y)`` gives a :class:`Session`."""
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not get in between
    server = Server(make)
    for line in sys.stdin:
        try:
            answer = server.answer(json.loads(line))
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        out.write(json.dumps(answer) + "\n")
        out.flush()
