"""What answers for each model in this process, within the memory that it may take."""

from __future__ import annotations

import time
from collections.abc import Container

from loguru import logger

from everlearn.api.served import Served

DEFAULT_BYTES = 1 << 30
AFTER = 0.9
"""Down to which share of the limit room is made, so that it need not be made for every load."""


class ServedCache(dict[str, Served]):
    """The served versions by model, up to ``limit`` bytes of them; with more, those go that were asked for
    longest ago. None goes that is ``in_use``, nor one that was just loaded, however large it is.

    It is changed under the lock of its model, and room is made in whichever thread has loaded something.
    """

    def __init__(self, limit: int = DEFAULT_BYTES, in_use: Container[str] = ()) -> None:
        super().__init__()
        self.limit = limit
        self.asked: dict[str, float] = {}
        self._in_use = in_use

    @property
    def bytes(self) -> int:
        """What all of them take."""
        return sum(served.weight for served in list(self.values()))

    def ask(self, model: str) -> float:
        """Note that a model is asked for now; returns when it was before (``time.monotonic``)."""
        before = self.asked.get(model, float("-inf"))
        self.asked[model] = time.monotonic()
        return before

    def asked_within(self, model: str, seconds: float) -> bool:
        """Whether a model was asked for lately."""
        return time.monotonic() - self.asked.get(model, float("-inf")) <= seconds

    def make_room(self, loaded: str) -> int:
        """Let versions go until there is room; returns how many went. ``loaded`` stays."""
        total = self.bytes
        if total <= self.limit:
            return 0
        gone = 0
        for model in sorted(self, key=lambda name: self.asked.get(name, float("-inf"))):
            if model == loaded or model in self._in_use:
                continue
            served = self.pop(model, None)
            if served is not None:
                total -= served.weight
                gone += 1
            if total <= self.limit * AFTER:
                break
        logger.debug("{} models went out of memory for {}: {:.1f} MiB are left", gone, loaded, total / 2**20)
        return gone
