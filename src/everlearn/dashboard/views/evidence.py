"""The evidence of a decision: what of it is drawn, and what is listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from everlearn.dashboard.views.drawing import Drawn, Interval, bars, intervals
from everlearn.dashboard.views.parts import Cell, Html, mark, table
from everlearn.dashboard.words import cell, number, power

Record = Mapping[str, Any]

SIDES = ("champion", "candidate")


def drawn(evidence: Record) -> list[tuple[str, Drawn]]:
    """The charts that evidence has in it, each with its title."""
    makers = (_against_threshold, _losses, _e_value, _sides, _moved)
    return [found for make in makers if (found := make(evidence)) is not None]


def _numbers(evidence: Record, *names: str) -> list[float] | None:
    found = [evidence.get(name) for name in names]
    fine = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in found)
    return [float(x) for x in found if x is not None] if fine else None


def _against_threshold(evidence: Record) -> tuple[str, Drawn] | None:
    """A score with its bounds against the threshold."""
    known = _numbers(evidence, "value", "lower", "upper")
    if known is None:
        return None
    metric = str(evidence.get("metric") or "score")
    limit = _numbers(evidence, "threshold")
    item = Interval("champion", *known)
    return "Score against its threshold", intervals([item], metric, limit[0] if limit else None)


def _losses(evidence: Record) -> tuple[str, Drawn] | None:
    """What both versions lost on the same rows, or the loss before and after a drift."""
    both = _numbers(evidence, "old_loss", "new_loss")
    if both is not None and evidence.get("rows"):
        title = f"Loss a row, on the same {number(evidence['rows'])} rows"
        return title, bars([("before", both[0]), ("candidate", both[1])], "loss a row (less is better)")
    change = _numbers(evidence, "before", "after")
    if change is not None:
        return "Loss before and after", bars([("before", change[0]), ("now", change[1])], "loss a row")
    return None


def _e_value(evidence: Record) -> tuple[str, Drawn] | None:
    """How far the proof had come: the e-value against what was needed, in powers of ten."""
    log_e, needed = _numbers(evidence, "log_e"), _numbers(evidence, "needed")
    if log_e is None or needed is None or needed[0] <= 0:
        return None
    import math

    tens = log_e[0] / math.log(10)
    limit = math.log10(needed[0])
    title = f"E-value {power(log_e[0])}, where {number(needed[0])} was needed"
    return title, bars([("e-value", max(tens, 0.0)), ("needed", limit)], "powers of ten", limit)


def _sides(evidence: Record) -> tuple[str, Drawn] | None:
    """The metrics of champion and candidate on the rows kept out of training."""
    sides = [evidence.get(side) for side in SIDES]
    if not all(isinstance(side, Mapping) and side for side in sides):
        return None
    shared = [name for name in sides[0] if name in sides[1] and name not in ("rows", "log_loss")]  # type: ignore[union-attr, operator]
    items = [
        Interval(f"{name}, {who}", float(side[name]))  # type: ignore[index]
        for name in shared[:3]
        for who, side in zip(SIDES, sides, strict=True)
        if isinstance(side[name], (int, float))  # type: ignore[index]
    ]
    return ("Metrics of both", intervals(items, "value")) if items else None


def _moved(evidence: Record) -> tuple[str, Drawn] | None:
    """What moved without labels: how surely, as powers of ten of its p-value."""
    import math

    found = evidence.get("found")
    if not isinstance(found, Sequence) or isinstance(found, str):
        return None
    items = []
    for one in found:
        if isinstance(one, Mapping) and isinstance(one.get("p_value", one.get("p")), (int, float)):
            p = max(float(one.get("p_value", one.get("p"))), 1e-300)
            items.append((str(one.get("column", one.get("name", "?"))), -math.log10(p)))
    return ("What moved", bars(items[:12], "surer to the right (minus log10 of p)")) if items else None


def bars_passed(evidence: Record) -> str:
    """The bars of the gate and whether each was passed, as a table; empty where there are none."""
    gate = evidence.get("bars")
    if not isinstance(gate, Mapping) or not gate:
        return ""
    rows: list[list[Cell]] = []
    for name, bar in gate.items():
        told = dict(bar) if isinstance(bar, Mapping) else {"passed": bar}
        passed, asked = told.pop("passed", None), told.pop("asked", True)
        if passed or not asked:
            told.pop("why", None)  # it says what was wrong
        rows.append([str(name).replace("_", " "), _passed(passed, asked), cell(told)])
    return table(["Bar", "Result", "Evidence"], rows, label="Bars of the gate")


def _passed(passed: object, asked: object) -> Html:
    if not asked:
        return mark("not asked", "calm", "ring")
    if passed is None:
        return mark("open", "calm", "ring")
    return mark("passed", "good", "check") if passed else mark("not passed", "bad", "cross")


def numbers(told: Sequence[Record]) -> str:
    """The numbers behind a decision as a table."""
    rows = [[str(n["name"]).replace("_", " "), number(n["value"], 4), str(n["meaning"])] for n in told]
    return table(["Number", "Value", "What it is"], rows, right=(1,), label="Numbers behind the decision")
