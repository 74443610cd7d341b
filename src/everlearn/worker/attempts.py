"""How often a job is tried, how long it waits in between, and how an attempt can go wrong."""

from __future__ import annotations

import hashlib
import traceback as tracebacks
from dataclasses import dataclass

from everlearn.loop.drive import is_passing, words_of

MAX_ATTEMPTS = 5
FIRST_WAIT = 2.0
MOST_WAIT = 600.0
MOST_TRACEBACK = 20_000
"""Characters of a traceback that are kept, its end."""


@dataclass
class Failure(Exception):
    """An attempt that went wrong: why, where, and whether it is worth another (``passing``)."""

    words: str
    passing: bool = False
    traceback: str | None = None

    def __str__(self) -> str:
        return self.words


class Stopped(Exception):
    """The worker is to stop before the job was done."""


def failure_of(error: Exception) -> Failure:
    """An error as the failure of an attempt."""
    if isinstance(error, Failure):
        return error
    text = "".join(tracebacks.format_exception(error))
    return Failure(words_of(error), is_passing(error), text[-MOST_TRACEBACK:])


def retry_wait(job: str, attempt: int) -> float:
    """Seconds to wait after an attempt (the first is 1): about 2, 4, 8, …, never above ten minutes.

    The jitter (a factor from 0.75 to 1.25) hangs on the job's id alone, so that many jobs which failed
    together do not come back together, and yet it can be told beforehand when each will.

    >>> [round(retry_wait("spam-12", attempt)) for attempt in (1, 2, 3, 20)]
    [2, 4, 7, 600]
    """
    drawn = hashlib.sha256(f"{job}:{attempt}".encode()).digest()
    jitter = 0.75 + 0.5 * int.from_bytes(drawn[:4], "big") / 2**32
    return min(FIRST_WAIT * 2.0 ** min(attempt - 1, 20) * jitter, MOST_WAIT)
