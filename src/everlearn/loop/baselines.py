"""The honest baselines: what answering with the newest label, or the most frequent one, would score."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

import msgspec

from everlearn.predictor import class_key
from everlearn.types import Output, Scalar

MAX_TURNS = 4000
"""How many changes of the newest label are kept for the no-change baseline."""


class Baselines(msgspec.Struct, dict=True):
    """What is known of the labels so far, and what was known at earlier positions.

    ``turns`` and ``leads`` are the positions at which the newest label and the most frequent class
    (regression: the mean) changed, newest last: a baseline must not know labels that came later.
    """

    counts: list[tuple[bool | int | float | str, int]] = []
    rows: int = 0
    total: float = 0.0
    turns: list[tuple[int, bool | int | float | str]] = []
    leads: list[tuple[int, bool | int | float | str]] = []

    def __post_init__(self) -> None:
        # Not stored, made again from what is: where each class stands in ``counts``, and where the
        # newest answers of ``before`` were found (rows are scored in order, so the next is near).
        self._places = {label: place for place, (label, _) in enumerate(self.counts)}
        self._turn_hint = self._lead_hint = 0

    def learn(self, seq: int, value: Scalar, regression: bool, past: bool = True) -> None:
        """Take in a label that arrived at a position; without ``past``, :meth:`before` is not asked."""
        assert value is not None
        self.rows += 1
        if regression:
            self.total += float(value)
            lead: Scalar = self.total / self.rows
        else:
            lead = self._count(value)
        turns, leads = self.turns, self.leads
        if past and (not turns or turns[-1][1] != value):
            _turn(turns, seq, value)
        if not leads or leads[-1][1] != lead:
            _turn(leads, seq, lead)

    def _count(self, value: bool | int | float | str) -> Scalar:
        """Count a class; the most frequent one now, of several the one that was seen first."""
        counts = self.counts
        place = self._places.get(value)
        if place is None:
            place = self._places[value] = len(counts)
            counts.append((value, 0))
        label, count = counts[place]
        count += 1
        counts[place] = (label, count)
        if not self.leads:
            return label
        lead = self.leads[-1][1]
        at = self._places[lead]
        most = counts[at][1]
        return label if count > most or (count == most and place < at) else lead

    def forget(self, seq: int, value: bool | int | float | str, regression: bool, at: int) -> bool:
        """Uncount a label that was learned at the position ``seq``, as of ``at``; whether it was counted."""
        if not self.rows or not (regression or self._uncount(value)):
            return False
        self.turns = [turn for turn in self.turns if turn[0] != seq]
        self.rows -= 1
        if not self.rows:
            self.counts, self.total, self.turns, self.leads = [], 0.0, [], []
            self._places = {}
            return True
        if regression:
            self.total -= float(value)
        lead = self.total / self.rows if regression else max(self.counts, key=lambda one: one[1])[0]
        if not self.leads or self.leads[-1][1] != lead:
            _turn(self.leads, at, lead)
        return True

    def _uncount(self, value: bool | int | float | str) -> bool:
        place = self._places.get(value)
        if place is None:
            return False
        label, count = self.counts[place]
        if count > 1:
            self.counts[place] = (label, count - 1)
        else:
            del self.counts[place]
            self._places = {one: number for number, (one, _) in enumerate(self.counts)}
        return True

    def majority(self) -> Output:
        """The running majority class with the classes' shares, or the running mean."""
        if not self.leads:
            return Output(None)
        shares = {class_key(label): count / self.rows for label, count in self.counts}
        return Output(self.leads[-1][1], shares or None)

    def before(self, seq: int) -> tuple[Scalar, Scalar]:
        """What no-change and majority would have answered at a position; ``None`` for not known."""
        turns, leads = self.turns, self.leads
        self._turn_hint = turn = _place_before(turns, seq, self._turn_hint)
        if leads and leads[-1][0] < seq:  # the lead seldom changes
            lead = len(leads)
        else:
            self._lead_hint = lead = _place_before(leads, seq, self._lead_hint)
        return turns[turn - 1][1] if turn else None, leads[lead - 1][1] if lead else None


def _turn(turns: list[tuple[int, Any]], seq: int, value: Scalar) -> None:
    turns.append((seq, value))
    if len(turns) > 2 * MAX_TURNS:
        del turns[:-MAX_TURNS]


def _place_before(turns: list[tuple[int, Any]], seq: int, hint: int) -> int:
    """How many turns came before a position: looked for at the hint, just after it, and at the end."""
    size = len(turns)
    if not size or turns[-1][0] < seq:
        return size
    if 0 < hint < size and turns[hint - 1][0] < seq:
        if turns[hint][0] >= seq:
            return hint
        if turns[hint + 1][0] >= seq:  # there is one: the newest is not before the position
            return hint + 1
    return bisect_left(turns, (seq,))
