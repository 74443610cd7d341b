"""River's detectors of a rising loss, to a budget of false alarms, and from stored state.

Their bounds are for independent losses. Where losses hang together, a mean varies as one of fewer losses,
by the inefficiency; so the logarithm in a bound is taken so many times. Their state is kept outside of
them, so that they can be made again, bit for bit, in any process.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

from everlearn.loop.cusum import Rise

KEPT = 2048
"""Inputs of ADWIN that survive a trim; a trim happens at twice as many."""

LEAST = 1e-300
"""The smallest confidence asked for: the logarithm of its inverse is finite."""

GRADE = 1.5
"""The inefficiency is used in steps of this factor, so that it seldom changes."""


class Detector(Protocol):
    """A detector beside the CUSUM."""

    def update(self, loss: float) -> Rise | None:
        """Take in a loss; what has risen, if it has."""

    def retune(self, inefficiency: float) -> None:
        """The losses hang together otherwise than thought."""

    def reset(self) -> None:
        """Forget the past."""


def graded(inefficiency: float) -> float:
    """The inefficiency as a power of ``GRADE``, rounded up but for noise about 1."""
    return GRADE ** max(0, math.ceil(math.log(inefficiency / 1.15) / math.log(GRADE)))


def adwin_delta(budget: float, inefficiency: float) -> float:
    """ADWIN's delta for so many false alarms in 10,000 losses, found on streams of independent losses.

    On losses of 1 to 45% errors a delta of 0.1 gives 0.1 false rises in 10,000, and 0.3 gives 0.6, at most.
    The logarithm in its bound (section 3.2) is of 2 ln(n) / delta, with some thousands for n.
    """
    return _powered(min(0.25 * budget**0.6, 0.8), 16.0, inefficiency)


def hddm_confidence(budget: float, inefficiency: float) -> float:
    """HDDM-A's confidence for so many false alarms in 10,000 losses.

    0.001 gives 0.3 at most, at 45% errors, and none at 10%. The logarithm in its bound is of 2 / confidence.
    """
    return _powered(min(0.002 * budget, 0.1), 2.0, inefficiency)


def _powered(confidence: float, over: float, inefficiency: float) -> float:
    """The confidence that makes ln(over / confidence) so many times as great."""
    return max(over * float((confidence / over) ** inefficiency), LEAST)


class Adwin:
    """ADWIN (Bifet & Gavaldà 2007). River's keeps its buckets to itself, so we keep the newest inputs.

    *The detector is an ADWIN that was fed exactly these inputs.* So it can be made again from them.
    """

    def __init__(self, inputs: list[float], budget: float, inefficiency: float) -> None:
        self._inputs, self._budget, self._inefficiency = inputs, budget, inefficiency
        self._adwin: Any = None

    def _fed(self) -> Any:
        from river.drift import ADWIN

        self._adwin = ADWIN(delta=adwin_delta(self._budget, self._inefficiency))
        for value in self._inputs:
            self._adwin.update(value)
        return self._adwin

    def update(self, loss: float) -> Rise | None:
        """Take in a loss; what has risen, if it has."""
        adwin, inputs = self._adwin or self._fed(), self._inputs
        adwin.update(loss)
        inputs.append(loss)
        if adwin.drift_detected:
            width, after = int(adwin.width), float(adwin.estimation)
            older = inputs[:-width] or inputs
            before = math.fsum(older) / len(older)
            self.reset()
            return Rise("adwin", before, after, width) if after > before else None
        if len(inputs) >= 2 * KEPT:
            del inputs[:-KEPT]
            self._adwin = None
        return None

    def retune(self, inefficiency: float) -> None:
        """Use another delta from now on, on the same inputs."""
        self._inefficiency, self._adwin = inefficiency, None

    def reset(self) -> None:
        """Forget the past."""
        self._inputs.clear()
        self._adwin = None


class HddmA:
    """HDDM-A (Frías-Blanco et al. 2015), for a rise. Its state is three running means and their counts."""

    def __init__(self, means: list[float], budget: float, inefficiency: float) -> None:
        self._means, self._budget, self._inefficiency = means, budget, inefficiency
        self._hddm: Any = None

    def _made(self) -> Any:
        from river.drift.binary import HDDMA

        confidence = hddm_confidence(self._budget, self._inefficiency)
        self._hddm = hddm = HDDMA(drift_confidence=confidence, warning_confidence=confidence)
        for mean, at in zip(_parts(hddm), range(0, len(self._means), 2), strict=False):
            mean.n, mean._mean = int(self._means[at]), self._means[at + 1]
        return hddm

    def update(self, loss: float) -> Rise | None:
        """Take in a loss; what has risen, if it has."""
        hddm = self._hddm or self._made()
        hddm.update(loss)
        least, _, whole = _parts(hddm)
        if hddm.drift_detected:
            width = int(whole.n - least.n)
            after = (whole.get() * whole.n - least.get() * least.n) / width
            rise = Rise("hddm_a", least.get(), after, width)
            self.reset()
            return rise
        self._means[:] = [value for mean in _parts(hddm) for value in (float(mean.n), mean.get())]
        return None

    def retune(self, inefficiency: float) -> None:
        """Use another confidence from now on."""
        self._inefficiency, self._hddm = inefficiency, None

    def reset(self) -> None:
        """Forget the past."""
        self._means.clear()
        self._hddm = None


def _parts(hddm: Any) -> tuple[Any, Any, Any]:
    return hddm._x_min, hddm._x_max, hddm._z
