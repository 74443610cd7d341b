"""The watch over a champion's loss: it says when the loss has risen, and survives restarts.

Detectors are named by the model's spec; each keeps to the same budget of false alarms on stable losses.
``cusum`` is ours (:mod:`everlearn.loop.cusum`) and always at work, because the others are tuned by what it
learns of the losses; ``adwin`` and ``hddm_a`` are river's (:mod:`everlearn.loop.river_detectors`). One change
is one warning: when one detector says that the loss has risen, all begin anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from everlearn.loop.cusum import Cusum, CusumState, Rise
from everlearn.loop.river_detectors import Adwin, Detector, HddmA, graded
from everlearn.spec import DriftSpec

__all__ = ["DriftState", "ErrorDrift", "Rise"]


class DriftState(msgspec.Struct):
    """What the detectors know since their last restart, and what they have said so far.

    ``inputs`` are ADWIN's, ``means`` HDDM-A's; ``inefficiency`` is what these two reckon with. ``last`` is
    the position of the newest warning, and ``changed`` how many rows had matured when the loss began to
    rise, by the detector's own estimate; ``None`` once another champion answers.
    """

    inputs: list[float] = []
    warnings: int = 0
    last: int | None = None
    changed: int | None = None
    cusum: CusumState = msgspec.field(default_factory=CusumState)
    means: list[float] = []
    inefficiency: float = 1.0


class ErrorDrift:
    """The detectors at work on the losses of the champion, in prediction order."""

    def __init__(self, state: DriftState, spec: DriftSpec | None = None) -> None:
        spec = spec or DriftSpec()
        self.state = state
        self._cusum = Cusum(state.cusum, spec.false_alarms)
        self._heeded = "cusum" in spec.detectors
        self._others = self._make(spec)
        self._alone = self._heeded and not self._others
        self._seen = state.cusum.calibrated

    def _make(self, spec: DriftSpec) -> list[Detector]:
        state, settings = self.state, (spec.false_alarms, self.state.inefficiency)
        others: list[Detector] = []
        if "adwin" in spec.detectors:
            others.append(Adwin(state.inputs, *settings))
        if "hddm_a" in spec.detectors:
            others.append(HddmA(state.means, *settings))
        return others

    def reset(self) -> None:
        """Forget the past: another champion answers now."""
        self._cusum.restart()
        self._begin()

    def update_all(self, losses: Sequence[float]) -> tuple[int, Rise | None]:
        """Take in losses up to the first that shows a rise: how many, and what has risen."""
        update = self._cusum.update if self._alone else self.update
        for place, loss in enumerate(losses):
            rise = update(loss)
            if rise is not None:
                if self._alone:
                    self._warned()
                return place + 1, rise
        return len(losses), None

    def update(self, loss: float) -> Rise | None:
        """Take in a loss in [0, 1]; ``None``, or what has risen."""
        cusum = self._cusum
        rise = cusum.update(loss)
        if not self._alone:
            if not self._heeded:
                rise = None
            if cusum.state.calibrated != self._seen:
                self._retune()
            for detector in self._others:
                found = detector.update(loss)
                if found is not None and rise is None:
                    rise = found
                    cusum.rose(found.width)
        if rise is not None:
            self._warned()
        return rise

    def _warned(self) -> None:
        self.state.warnings += 1
        self._begin()

    def _retune(self) -> None:
        self._seen = self._cusum.state.calibrated
        inefficiency = graded(self._cusum.state.inefficiency)
        if self._seen and inefficiency != self.state.inefficiency:
            self.state.inefficiency = inefficiency
            for detector in self._others:
                detector.retune(inefficiency)

    def _begin(self) -> None:
        self._seen = self._cusum.state.calibrated
        for detector in self._others:
            detector.reset()
