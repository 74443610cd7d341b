"""Evidence in words: what a ledger row's numbers say, sentence by sentence.

Ledgers outlive the code that wrote them, so everything here reads defensively: a number that is missing,
or is none, leaves its sentence out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from everlearn.loop import evidence as ev
from everlearn.spec import ModelSpec

BARS = {
    "superiority": "proven better",
    "non_inferiority": "no segment worse than the margin",
    "forgetting": "no protected regime forgotten",
    "calibration": "calibration",
    "latency": "latency",
    "servable": "servable artifact",
}
"""The bars of the gate in words."""

SAME = 1e-3
"""How far log e may lie from the recorded one for a "what if" of its rows to be trusted."""

FARTHEST = 1000
"""So many times the rows so far are looked ahead."""


class Facts:
    """Evidence with typed answers: what is missing or of another type is ``None`` or empty."""

    def __init__(self, values: object) -> None:
        self._values: Mapping[Any, Any] = values if isinstance(values, Mapping) else {}

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def number(self, *names: str) -> float | None:
        """The first of these that is a finite number."""
        return next((x for x in map(number_of, map(self._values.get, names)) if x is not None), None)

    def text(self, name: str) -> str:
        """A text, on one line; empty if it is none."""
        value = self._values.get(name)
        return " ".join(value.split()) if isinstance(value, str) else ""

    def flag(self, name: str) -> bool | None:
        """True or false; ``None`` if it is neither."""
        value = self._values.get(name)
        return value if isinstance(value, bool) else None

    def part(self, name: str) -> Facts:
        """A mapping inside; empty if it is none."""
        return Facts(self._values.get(name))

    def parts(self) -> Iterator[tuple[str, Facts]]:
        """The mappings inside by name."""
        for name, value in self._values.items():
            if isinstance(value, Mapping):
                yield str(name), Facts(value)

    def list_of(self, name: str) -> list[Any]:
        """A list; empty if it is none."""
        value = self._values.get(name)
        return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else []

    def interval(self, name: str) -> tuple[float, float] | None:
        """The bounds of ``[lower, upper]`` or ``[value, lower, upper]``."""
        found = [number_of(value) for value in self.list_of(name)]
        if len(found) not in (2, 3) or found[-2] is None or found[-1] is None:
            return None
        return found[-2], found[-1]

    def value(self, name: str) -> float | None:
        """A number, or the first of ``[value, lower, upper]``."""
        found = self.list_of(name)
        return number_of(found[0]) if len(found) == 3 else self.number(name)


def number_of(value: object) -> float | None:
    """A finite number as it is; ``None`` for anything else (also for true and false)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 1e300 else None  # also False for NaN, and for integers beyond floats


def num(value: float) -> str:
    """A number as people read it.

    >>> num(12345), num(0.91666), num(3e-9), num(2.5e8)
    ('12,345', '0.9167', '3e-09', '2.5e+08')
    """
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:.4g}"


def listed(words: Sequence[str]) -> str:
    """Words as a list: ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


# -- both sides ----------------------------------------------------------------------------------------


def metric_words(facts: Facts, spec: ModelSpec | None) -> str:
    """The metric of both sides on the rows that were kept from training."""
    name = spec.metric if spec and spec.metric and not spec.metric.startswith("kappa") else "accuracy"
    old, new = (facts.part(side).number(name) for side in ("champion", "candidate"))
    if old is None or new is None:
        return ""
    return f"On rows kept from its training, {name} was {num(new)}, against {num(old)} of the champion."


def loss_unit(spec: ModelSpec | None, mode: str = "") -> str:
    """What one row's loss is."""
    if mode == "recalibrate":
        return "halved Brier score"
    if spec is None:
        return "loss"
    if spec.task == "regression":
        error = "absolute error" if spec.metric == "mae" else "squared error"
        return f"{error}, scaled and clipped to between 0 and 1"
    if spec.task == "detection":
        return "loss a frame (1 - F1 of its boxes)"
    return "log-loss in units of 5 nats, clipped" if spec.metric == "log_loss" else "share of wrong answers"


def losses_words(facts: Facts, unit: str, old_name: str, new_name: str, zero_one: bool) -> str:
    """The losses of both on the same rows, and where they differed."""
    old, new, rows = facts.value("old_loss"), facts.value("new_loss"), facts.number("rows")
    if old is None or new is None or not rows:
        return ""
    words = (
        f"On {num(rows)} matured rows that both answered and neither had learned from, the {unit} was "
        f"{num(new)} for {new_name} and {num(old)} for {old_name}"
    )
    return f"{words}{differing(facts, new_name, old_name, zero_one)}."


def differing(facts: Facts, first: str, second: str, zero_one: bool) -> str:
    """On how many rows each of the two did better; empty where they never differed."""
    wins, losses = facts.number("wins") or 0, facts.number("losses") or 0
    if not wins and not losses:
        return ""
    if zero_one:
        return f" (only {first} was right on {num(wins)} rows, only {second} on {num(losses)})"
    return f" ({first} did better on {num(wins)} rows, {second} on {num(losses)})"


def e_value(facts: Facts) -> float | None:
    """The e-value of the evidence."""
    found = facts.number("e_value", "e")
    log_e = facts.number("log_e")
    return math.exp(min(log_e, 690.0)) if found is None and log_e is not None else found


def proof_asked(facts: Facts) -> bool:
    """Whether it had to be proven better: a stream's next version need only not be worse."""
    return facts.text("end") not in ("promote", "reject") or "superiority" in facts.part("bars")


def needed(facts: Facts) -> float | None:
    """What the e-value is to reach: 1/alpha; ``None`` if no proof was asked for."""
    if not proof_asked(facts):
        return None
    found, alpha = facts.number("needed"), facts.number("alpha")
    return 1.0 / alpha if found is None and alpha is not None and 0 < alpha < 1 else found


def e_words(facts: Facts, what: str) -> str:
    """The e-value against what it must reach, and whose turn it was."""
    if not proof_asked(facts):
        return ""
    found, limit = e_value(facts), needed(facts)
    if found is None:
        return p_words(facts)
    if limit is None:
        return f"The e-value for “{what}” came to {num(found)}."
    words = f"The e-value for “{what}” came to {num(found)}, with {num(limit)} (1/alpha) needed"
    attempt, alpha = facts.number("attempt"), facts.number("alpha")
    if attempt is not None and alpha is not None:
        words += f": this was attempt {num(attempt)} against this champion, at alpha = {num(alpha)}"
    return f"{words}."


def p_words(facts: Facts) -> str:
    """The p-value of a fixed-sample test, as earlier versions of the gate wrote it."""
    for name, what in (("p_better", "better"), ("p_worse", "worse")):
        p = facts.number(name)
        if p is not None:
            alpha = facts.number("alpha")
            limit = "" if alpha is None else f", at alpha = {num(alpha)}"
            return f"The test of whether it is {what} gave p = {num(p)}{limit}."
    return ""


def worse_words(facts: Facts, what: str) -> str:
    """The e-value of the opposite, where that is what decided."""
    bar = facts.part("bars").part("superiority")
    found = bar.number("e_worse")
    if bar.flag("passed") is not False or found is None:
        return ""
    return f"The e-value for the opposite, “{what}”, came to {num(found)}, which proves it."


def gain_words(facts: Facts) -> str:
    """The bounds of the gain a row."""
    bar = facts.part("bars").part("superiority")
    low, high, sure = bar.number("low"), bar.number("high"), bar.number("confidence")
    if low is None or high is None:
        found = facts.interval("interval")
        if found is None:
            return ""
        low, high = found
    confidence = f", at {num(100 * sure)}% confidence" if sure else ""
    return f"What it saves a row lies between {num(low)} and {num(high)}{confidence}."


# -- bars ----------------------------------------------------------------------------------------------


def bar_names(facts: Facts, passed: bool | None) -> list[str]:
    """The bars that were asked for and stand so."""
    return [
        BARS.get(name, name)
        for name, bar in facts.part("bars").parts()
        if bar.flag("passed") is passed and bar.flag("asked") is not False
    ]


def bars_words(facts: Facts) -> str:
    """Which bars were passed, failed, or still open."""
    said = []
    for passed, word in ((True, "passed"), (False, "failed"), (None, "still open")):
        names = bar_names(facts, passed)
        if names:
            said.append(f"{word}: {listed(names)}")
    return f"Of the gate's bars, {'; '.join(said)}." if said else ""


def broken_words(facts: Facts) -> list[str]:
    """What the failed and the open bars would have needed, one text each."""
    found = []
    for name, bar in facts.part("bars").parts():
        if bar.flag("passed") is not True and bar.flag("asked") is not False:
            words = _missing(name, bar)
            if words:
                found.append(words)
    return found


def _missing(name: str, bar: Facts) -> str:
    if name == "superiority":
        return _reach(e_value(bar), needed(bar))
    if name == "non_inferiority":
        return _group_missing(bar)
    if name == "latency":
        limit = bar.number("limit_ms")
        return "" if limit is None else f"an answer within {num(limit)} ms"
    if name == "calibration":
        limit = bar.number("limit")
        return "" if limit is None else f"a calibration error that rises by no more than {num(limit)}"
    if name == "forgetting":
        margin = bar.number("margin")
        return "" if margin is None else f"a loss on protected anchors that rises by less than {num(margin)}"
    return "an artifact that answers as it did in training" if name == "servable" else f"“{name}” to hold"


def _reach(found: float | None, limit: float | None) -> str:
    if limit is None:
        return ""
    return f"an e-value of {num(limit)}" + ("" if found is None else f" (it was {num(found)})")


def _group_missing(bar: Facts) -> str:
    groups = [name for name, group in bar.part("groups").parts() if group.flag("passed") is not True]
    margin = bar.number("margin")
    if not groups or margin is None:
        return ""
    shown = listed(groups[:3]) + (" and others" if len(groups) > 3 else "")
    return f"proof that it loses less than {num(margin)} a row in {shown}"


# -- the other way -------------------------------------------------------------------------------------


def _log_e(facts: Facts, wins: int, losses: int) -> float:
    return ev.log_better(ev.Evidence(True, wins, losses, great=facts.flag("reused") is True))


def _counts(facts: Facts) -> tuple[int, int, float] | None:
    """Wins, losses and log of what is needed, if they alone give the e-value that was recorded."""
    wins, losses, found = facts.number("wins"), facts.number("losses"), e_value(facts)
    limit = needed(facts)
    if wins is None or losses is None or not found or limit is None or not 0 <= wins + losses < 1e7:
        return None
    if wins < 0 or losses < 0 or wins % 1 or losses % 1:
        return None
    same = abs(_log_e(facts, int(wins), int(losses)) - math.log(found)) < SAME
    return (int(wins), int(losses), math.log(limit)) if same and limit > 0 else None


def flips(facts: Facts) -> int | None:
    """How many rows would have had to be won by the other side for the proof to fail; ``None``: not known."""
    counts = _counts(facts)
    if counts is None or _log_e(facts, counts[0], counts[1]) < counts[2]:
        return None
    wins, losses, limit = counts
    low, high = 0, wins
    while low < high:
        middle = (low + high) // 2
        if _log_e(facts, wins - middle, losses + middle) < limit:
            high = middle
        else:
            low = middle + 1
    return low if low else None


def rows_to_proof(facts: Facts) -> int | None:
    """At how many rows in all the proof would come if both went on to differ as they have."""
    counts, rows = _counts(facts), facts.number("rows")
    if counts is None or not rows or counts[0] <= counts[1]:
        return None
    wins, losses, limit = counts
    low, high = 1.0, float(FARTHEST)
    if _log_e(facts, int(wins * high), int(losses * high)) < limit:
        return None
    while high - low > 0.01 * low:
        middle = (low + high) / 2
        if _log_e(facts, int(wins * middle), int(losses * middle)) < limit:
            low = middle
        else:
            high = middle
    return math.ceil(rows * high)
