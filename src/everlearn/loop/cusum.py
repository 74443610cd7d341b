"""A CUSUM over the losses of a model, which learns what is normal and how high chance alone climbs.

Page 1954: S = max(0, S + loss - mean - allowance), and an alarm when S passes a threshold. The mean is
that of the losses since the last restart (as in the Page-Hinkley test), the threshold is calibrated on
them, again each time their number has doubled (:mod:`everlearn.loop.cusum_calibration`). A mirrored sum
with a higher threshold notices that losses have fallen, and lets the detector learn its mean anew, without
an alarm.

After an alarm it learns anew from the losses that follow. What it knew is put aside: if these losses say
that the alarm was a false one, that comes back. A detector that forgets all it knew at each
false alarm is most of its time a beginner: four points of 10% would take it a third longer to notice.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from everlearn.loop.cusum_calibration import SCALE, calibrate

FIRST = 250
"""Losses before the first calibration, and so before the first alarm."""

KEPT = 6000
"""Newest losses that calibration sees; they are trimmed to it when there are ``SLACK`` more."""
SLACK = 2000

LOOKS = 5
"""Histories of ``KEPT`` losses, one after the other, that calibration joins before it becomes rare."""

LONGEST = 32_768
"""The mean forgets as if it were of so many losses, at most."""

FALL = 1.5
"""The threshold for a fall, in thresholds for a rise: a fall needs no hurry, and costs what was learned."""

SURE = 4.6
"""Log odds, 100 to 1, at which it is settled whether an alarm was a false one; ``WAIT`` losses at most."""
WAIT = 4000

OFF = 1e9
"""The allowance and the threshold before the first calibration: nothing passes them."""


class Rise(NamedTuple):
    """A rise of the mean loss: by which detector, from what to what, over how many losses since it began.

    ``after`` is over those losses; a little too high, as it is because it was high that there was an alarm.
    """

    detector: str
    before: float
    after: float
    width: int


class Normal(msgspec.Struct):
    """What is normal: the mean of ``count`` losses since the restart, and what was calibrated on them.

    ``calibrated`` is the count at which that was done last, ``looks`` how often on a full history, and
    ``budget`` for which budget.
    """

    count: int = 0
    mean: float = 0.0
    allowance: float = OFF
    threshold: float = OFF
    spread: float = 0.0
    inefficiency: float = 1.0
    calibrated: int = 0
    looks: int = 0
    budget: float = 0.0


class Doubt(msgspec.Struct):
    """What was normal before an alarm, and the evidence on whether it still is.

    ``sign`` is 1 for a rise, -1 for a fall. ``evidence`` for the change is the sum of what the losses since
    were beyond ``middle``, half way from the mean before to the least change worth an alarm; it settles the
    matter at ``enough`` either way.
    """

    was: Normal
    sign: int
    middle: float
    enough: float
    evidence: float = 0.0


class CusumState(Normal):
    """All that the detector knows; its size is bounded, by ``history`` (a byte a loss, newest last).

    ``above`` is the sum for a rise and ``rise_from`` the count at which it was 0 last, ``below`` and
    ``fall_from`` the same for a fall. At the count ``due`` it looks after its history and calibration.
    """

    above: float = 0.0
    rise_from: int = 0
    below: float = 0.0
    fall_from: int = 0
    due: int = FIRST
    doubt: Doubt | None = None
    history: bytearray = msgspec.field(default_factory=bytearray)


class Cusum:
    """The detector at work on a state: ``budget`` false alarms in 10,000 stable losses."""

    def __init__(self, state: CusumState, budget: float = 1.0) -> None:
        self.state = state
        self._budget = budget
        self._keep = state.history.append
        if state.calibrated and state.budget != budget:
            state.calibrated, state.due = 1, state.count + 1

    def update(self, loss: float) -> Rise | None:
        """Take in a loss in [0, 1]; what has risen, if it has. It has restarted then."""
        s = self.state
        self._keep(0 if loss == 0.0 else SCALE if loss == 1.0 else int(loss * SCALE + 0.5))
        s.count = count = s.count + 1
        s.mean = mean = s.mean + (loss - s.mean) / (count if count < LONGEST else LONGEST)
        over, allowance = loss - mean, s.allowance
        above = s.above + over - allowance
        if above <= 0.0:
            s.above, s.rise_from = 0.0, count
        elif above > s.threshold:
            return self._changed(1, count - s.rise_from)
        else:
            s.above = above
        below = s.below - over - allowance
        if below <= 0.0:
            s.below, s.fall_from = 0.0, count
        elif below > FALL * s.threshold:
            return self._changed(-1, count - s.fall_from)
        else:
            s.below = below
        if s.doubt is not None and self._weigh(s.doubt, loss):
            return None
        if count >= s.due:
            self._tend()
        return None

    def restart(self) -> None:
        """Forget the past: another champion answers now."""
        s = self.state
        s.history.clear()
        s.doubt = None
        _set(s, Normal())
        self._begin()

    def rose(self, width: int) -> None:
        """Another detector says that the loss rose so many losses ago."""
        self._restarted(1, width)

    def _begin(self) -> None:
        s = self.state
        s.above = s.below = 0.0
        s.rise_from = s.fall_from = s.count
        s.due = min(_next(s), s.count + SLACK)

    def _changed(self, sign: int, width: int) -> Rise | None:
        """A sum has passed its threshold. Only what takes back a doubtful change is not one itself."""
        doubt = self.state.doubt
        if doubt is not None and doubt.sign == -sign and doubt.evidence < 0.0:
            self._return(doubt)
            return None
        change = self._restarted(sign, width)
        return change if sign > 0 else None

    def _restarted(self, sign: int, width: int) -> Rise:
        """Learn anew, from the losses that follow: those that led to the alarm are no fair sample."""
        s, was = self.state, _copy(self.state)
        rise = _described(s, sign, width)
        if was.calibrated:
            least = 2 * was.allowance
            middle = rise.before + sign * min(least, abs(rise.after - rise.before)) / 2
            s.doubt = Doubt(was, sign, middle, SURE * was.spread * was.inefficiency / least)
        _set(s, Normal())
        self._begin()
        return rise

    def _weigh(self, doubt: Doubt, loss: float) -> bool:
        """Wald's sequential test (1945) of whether the losses since a change are as before it or after it.

        Whether the change has been taken back.
        """
        doubt.evidence += doubt.sign * (loss - doubt.middle)
        if doubt.evidence < -doubt.enough:
            self._return(doubt)
            return True
        if doubt.evidence > doubt.enough or self.state.count > WAIT:
            self.state.doubt = None
        return False

    def _return(self, doubt: Doubt) -> None:
        """The alarm was a false one: what was normal is so still, and all losses since belong to it."""
        s, was = self.state, doubt.was
        known = min(was.count, LONGEST)
        was.mean = (was.mean * known + s.mean * s.count) / (known + s.count)
        was.count += s.count
        s.doubt = None
        _set(s, was)
        if s.count - s.calibrated >= 2 * KEPT or s.budget != self._budget:
            self._calibrate()
        self._begin()

    def _tend(self) -> None:
        s = self.state
        if s.count >= _next(s):
            self._calibrate()
        if len(s.history) > KEPT:
            del s.history[:-KEPT]
        s.due = min(_next(s), s.count + SLACK)

    def _calibrate(self) -> None:
        """Calibrate on the history, and join that with what was found on earlier parts of a long one."""
        s = self.state
        found = calibrate(s.history[-min(s.count, KEPT) :], min(s.count, LONGEST), self._budget)
        s.looks = s.looks + 1 if s.count >= KEPT and s.budget == self._budget else 0
        share = 1.0 / max(s.looks, 1)
        for name, value in zip(found._fields, found, strict=True):
            setattr(s, name, getattr(s, name) + (value - getattr(s, name)) * share)
        s.calibrated, s.budget = s.count, self._budget


def _next(normal: Normal) -> int:
    """The count at which to calibrate next: when it has doubled, and on every new history at first."""
    done = normal.calibrated
    return max(FIRST, done + (min(done, KEPT) if normal.looks < LOOKS else done))


def _described(state: CusumState, sign: int, width: int) -> Rise:
    """From what to what the mean loss has changed, and when, within the ``width`` newest losses.

    The sum may have been above 0 by chance before the change. It is likeliest to have come where the sum of
    the losses beyond the middle of both means is least (Page 1954), were both means known.
    """
    losses = np.frombuffer(bytes(state.history[-width:]), np.uint8) / SCALE
    known, start = min(state.count, LONGEST), 0
    for _ in range(3):
        middle = (state.mean + float(losses[start:].mean())) / 2
        start = int(np.argmin(np.cumsum(np.concatenate([[0.0], sign * (losses - middle)]))[:-1]))
    newest = losses[start:]
    width, total = len(newest), float(newest.sum())
    before = (state.mean * known - total) / (known - width) if width < known else state.mean
    return Rise("cusum", min(max(before, 0.0), 1.0), total / width, width)


def _copy(normal: Normal) -> Normal:
    return Normal(*(getattr(normal, name) for name in Normal.__struct_fields__))


def _set(normal: Normal, to: Normal) -> None:
    for name in Normal.__struct_fields__:
        setattr(normal, name, getattr(to, name))
