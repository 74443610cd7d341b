"""Memory that was freed goes back to the system; the C library would keep it, in case it is wanted again."""

from __future__ import annotations

import ctypes
import sys
import time

EVERY = 1.0
"""Seconds between two times at least: it takes some milliseconds, and the locks of the allocator in turn."""


class Trimmer:
    """Gives freed memory back, soon after it was told that there is some; without glibc it does nothing."""

    def __init__(self) -> None:
        self._trim = None
        if sys.platform == "linux":
            self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._wanted, self._done = False, float("-inf")

    def freed(self) -> None:
        """Note that something large was let go of."""
        self._wanted = True

    def trim(self) -> bool:
        """Give back what is free, unless there is nothing or it was done just now; returns whether it did."""
        now = time.monotonic()
        if self._trim is None or not self._wanted or now - self._done < EVERY:
            return False
        self._wanted, self._done = False, now
        self._trim(0)
        return True
