"""What the learners are held to, and whether this run kept it: null where a run cannot tell."""

from __future__ import annotations

from typing import Any

from learners_streams import DEFAULT

ACCURACY = {
    "elec": 91.0,
    "insects": 81.0,
    "phishing": 95.0,
    "bananas": 89.5,
    "segments": 95.0,
    "phishing1250": 91.1,
}
"""Accuracy % of the default with labels at once."""
LATE = {"elec": 79.5}
"""Accuracy % of the default with late labels."""
MARGIN = 0.3
"""Points that the default may be behind the first with late labels."""
RATES = {"river arf10": 20.0, "capymoa arf30": 3.0}
"""How many times the rows a second of a peer the default must make."""
FAST_RATE = 100_000.0
"""Rows a second of the fast budget at 8 features."""
MICROSECONDS = {DEFAULT: 100.0, f"{DEFAULT} fast": 10.0}
FLAT_MB, FLAT_KB = 4.0, 1024.0
"""How much memory may grow after 200,000 rows: the resident memory, and the state."""

EXACT = 1e-8
"""How far the ridge's answers may be from the batch solution, in their standard deviations."""

Goal = dict[str, Any]


def judge(report: dict[str, Any]) -> list[Goal]:
    """All goals of the parts that were run."""
    goals: list[Goal] = []
    whole = not report["quick"]
    goals += _streams(report["streams"] or {}, whole)
    goals += _rates(report["rates"] or [], report["streams"] or {}, whole)
    goals += _latency(report["latency"] or [])
    goals += _memory(report["memory"] or [])
    goals += _drift(report["drift"] or [], whole)
    goals += _regression(report["regression"] or {}, whole)
    goals += _ridge(report.get("ridge"))
    return goals


def goal(what: str, where: str, value: float | bool | None, bar: Any, met: bool | None) -> Goal:
    return {"goal": what, "where": where, "value": value, "bar": bar, "met": met}


def at_least(what: str, where: str, value: float | None, bar: float, whole: bool = True) -> Goal:
    return goal(what, where, value, bar, None if value is None or not whole else value >= bar)


def at_most(what: str, where: str, value: float | None, bar: float | None, whole: bool = True) -> Goal:
    known = value is not None and bar is not None and whole
    return goal(what, where, value, bar, value <= bar if known else None)  # type: ignore[operator]


def _streams(streams: dict[str, Any], whole: bool) -> list[Goal]:
    goals = []
    for name, stream in streams.items():
        late = [r for r in stream["results"] if r["delay"] == stream["delay"]]
        at_once = [r for r in stream["results"] if r["delay"] == 0]
        if name in ACCURACY:
            goals.append(at_least("accuracy at once", name, of(at_once, DEFAULT), ACCURACY[name], whole))
        if name in LATE:
            goals.append(at_least("accuracy late", name, of(late, DEFAULT), LATE[name], whole))
        first = max((r["accuracy"] for r in late if r["kind"] != "ours"), default=None)
        if first is not None:
            bar = round(first - MARGIN, 2)
            goals.append(at_least("first, or near, late", name, of(late, DEFAULT), bar, whole))
    return goals


def of(results: list[dict[str, Any]], learner: str, key: str = "accuracy") -> float | None:
    return next((result[key] for result in results if result["learner"] == learner), None)


def _rates(rates: list[dict[str, Any]], streams: dict[str, Any], whole: bool) -> list[Goal]:
    goals = [
        at_least(f"rate over {rate['peer']}", rate["stream"], rate["ratio"], RATES[rate["peer"]], whole)
        for rate in rates
        if rate["learner"] == DEFAULT
    ]
    if "elec" in streams:
        at_once = [r for r in streams["elec"]["results"] if r["delay"] == 0]
        rate = of(at_once, f"{DEFAULT} fast", "rows_per_second")
        goals.append(at_least("rows a second, fast", "elec", rate, FAST_RATE, whole))
    return goals


def _latency(latency: list[dict[str, Any]]) -> list[Goal]:
    return [
        at_most("predict us", one["learner"], one["predict_us"], MICROSECONDS[one["learner"]])
        for one in latency
        if one["learner"] in MICROSECONDS
    ]


def _memory(memory: list[dict[str, Any]]) -> list[Goal]:
    goals = []
    for one in memory:
        name = one["learner"]
        if "failed" in one:
            goals.append(goal("memory", name, None, None, False))
            continue
        goals.append(at_most("resident MB grown", name, one["growth_mb"], FLAT_MB))
        goals.append(at_most("state kB grown", name, one["state_growth_kb"], FLAT_KB))
        same = one["same_in_new_process"]
        goals.append(goal("same in a new process", name, same, True, same))
        goals.append(at_most("new class right after", name, one["new_class_first_right"], 200))
    return goals


def _drift(drift: list[dict[str, Any]], whole: bool) -> list[Goal]:
    goals = []
    for stream in drift:
        best = of(stream["results"], stream["best_peer"] or "", "after_change")
        mine = of(stream["results"], DEFAULT, "after_change")
        if best is not None and mine is not None:
            goals.append(at_least("after the change, River's best", stream["stream"], mine, best, whole))
    return goals


def _regression(regression: dict[str, Any], whole: bool) -> list[Goal]:
    return [
        at_most(
            "mean absolute error",
            name,
            of(stream["results"], DEFAULT, "mae"),
            of(stream["results"], stream["best_peer"], "mae"),
            whole,
        )
        for name, stream in regression.items()
        if stream["best_peer"]
    ]


def _ridge(ridge: dict[str, Any] | None) -> list[Goal]:
    if not ridge:
        return []
    goals = []
    streamed = [max(one["from_batch"], one["from_first_order"]) for one in ridge["streaming"]]
    goals.append(at_most("streaming is batch, in any order", "ridge", max(streamed), EXACT))
    for one in ridge["forgetting"]:
        where = f"ridge, gamma {one['gamma']}, {one['forgotten']} half"
        apart = max(one["from_batch"], one["from_training_on_the_rest"])
        goals.append(at_most("forgetting is never having seen", where, apart, EXACT))
    return goals
