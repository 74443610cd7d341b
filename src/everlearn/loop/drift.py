"""An error-rate drift detector that survives restarts without pickling its insides.

River's ADWIN keeps its buckets to itself. We keep the newest inputs instead, and hold to one
invariant: *the detector is an ADWIN that was fed exactly these inputs*. So it can be made again from
them, bit for bit, in any process.
"""

from __future__ import annotations

from typing import Any

import msgspec

KEPT = 2048
"""Inputs that survive a trim; a trim happens at twice as many."""


class DriftState(msgspec.Struct):
    """The detector's inputs since its last reset, and what it has said so far.

    ``last`` is the position of the newest warning, and ``changed`` how many rows had matured when the
    loss began to rise, by the detector's own estimate; ``None`` once another champion answers.
    """

    inputs: list[float] = []
    warnings: int = 0
    last: int | None = None
    changed: int | None = None


class ErrorDrift:
    """ADWIN (Bifet & Gavaldà 2007) over the losses of the champion, in prediction order."""

    def __init__(self, state: DriftState, delta: float = 0.002) -> None:
        self.state = state
        self._delta = delta
        self._adwin: Any = None

    def _fed(self) -> Any:
        if self._adwin is None:
            from river.drift import ADWIN

            self._adwin = ADWIN(delta=self._delta)
            for value in self.state.inputs:
                self._adwin.update(value)
        return self._adwin

    def reset(self) -> None:
        """Forget the past: another champion answers now."""
        self.state.inputs.clear()
        self._adwin = None

    def update(self, loss: float) -> tuple[float, float, int] | None:
        """Take in a loss; ``None``, or if the mean has risen: before, after, and over how many inputs."""
        adwin = self._fed()
        before = adwin.estimation
        adwin.update(loss)
        self.state.inputs.append(loss)
        if adwin.drift_detected:
            after, width = adwin.estimation, int(adwin.width)
            self.reset()
            if after > before:
                self.state.warnings += 1
                return before, after, width
        elif len(self.state.inputs) >= 2 * KEPT:
            del self.state.inputs[:-KEPT]
            self._adwin = None
        return None
