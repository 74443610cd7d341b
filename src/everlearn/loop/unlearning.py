"""Un-learning a source: what it gave is left out of everything from now on, and what was made of it goes.

Rows that are kept one by one (anchors, recent rows, the champion's window, rows that wait to be compared)
lose those of the source. Sums over rows cannot be told apart and begin anew: the detectors of drift,
calibration, trials and the bake. The totals since the beginning, the counts of the baselines, and what
versions scored on anchors stay as they were counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from everlearn.loop import bake, gate
from everlearn.loop.candidates import end_candidate
from everlearn.loop.feedback import counts
from everlearn.loop.sources import MOST_SOURCES
from everlearn.loop.state import LoopState
from everlearn.loop.steering import Judge
from everlearn.types import Command, DecisionKind

Asked = Mapping[str, Any]


class Unlearner(Judge, Protocol):
    """The part of the engine that un-learning steers."""

    def drop_rows(self, source: str) -> None: ...  # noqa: D102
    def begin_anew(self) -> None: ...  # noqa: D102
    def update(  # noqa: D102
        self, mode: str, reason: str, evidence: Mapping[str, Any], *, looked: bool = False
    ) -> None: ...


def unlearn(engine: Unlearner, event: Command, asked: Asked) -> None:
    """An operator takes back all that a source gave, or what it gave from the position ``since`` on."""
    state, name = engine.state, event.arguments["source"]
    since = int(event.arguments.get("since") or 0)
    feedback = state.feedback
    if feedback.unlearned.get(name, since + 1) <= since:
        engine.decide(DecisionKind.REFUSE, f"{name} is un-learned already", asked)
        return
    source = feedback.sources.get(name)
    if source is None and len(feedback.sources) < MOST_SOURCES:
        engine.decide(DecisionKind.REFUSE, f"{name} has given nothing", asked)
        return
    if source is not None:
        source.state = "unlearned"
    feedback.without[name] = feedback.unlearned[name] = since
    removed = _clean(state, name)
    versions = [one.number for one in state.known if state.tainted(one.number)]
    words = f"{name} is un-learned: what it gave is left out"
    if versions:
        words += f", and {len(versions)} versions that learned from it are withdrawn"
    numbers = {**asked, **counts(source), "removed": removed, "versions": versions[-50:]}
    engine.decide(DecisionKind.UNLEARN, words, numbers, state.champion)
    _end_what_saw_it(engine, name)
    engine.drop_rows(name)
    _go_back(engine, name, asked)
    engine.begin_anew()
    if not state.frozen and state.learnable >= 2:
        engine.update("fresh", f"a version without what {name} gave", asked)


def _clean(state: LoopState, name: str) -> dict[str, int]:
    """Remove a source's rows where they are kept one by one; how many there were."""
    anchors = [a.id for regime in state.regimes.regimes for a in regime.reservoir.entries if a.source == name]
    before = len(state.recent), len(state.window)
    state.regimes.forget(set(anchors))
    state.recent = [row for row in state.recent if row.source != name]
    state.window = [row for row in state.window if row.source != name]
    recent, window = before[0] - len(state.recent), before[1] - len(state.window)
    return {"anchors": len(anchors), "recent": recent, "window": window}


def _end_what_saw_it(engine: Unlearner, name: str) -> None:
    """End the work and the trials that may have seen the source; their outcomes are not awaited any more."""
    state, spec = engine.state, engine.spec
    if state.candidate is not None:
        made = "was made" if state.tainted(state.candidate.trial.version) else "is compared"
        end_candidate(engine, f"refused: it {made} with what {name} gave, which is un-learned", "unlearned")
    state.activity, state.archived, state.asking = None, None, ""
    state.archived_tried = False
    watched = state.bake
    if watched is None or state.tainted(watched.old):
        state.bake = None
    else:
        state.bake = bake.open_bake(watched.old, watched.new, state.rows, spec.rollback, gate.binary(spec))


def _go_back(engine: Unlearner, name: str, asked: Asked) -> None:
    """Leave a champion that learned from the source for the newest earlier one that did not.

    Not for version 0, which has learned nothing: then the champion stays until a clean version is proven.
    """
    state, worse = engine.state, engine.state.champion
    state.previous = [number for number in state.previous if not state.tainted(number)]
    if not state.tainted(worse):
        return
    clean = [place for place, number in enumerate(state.previous) if number and state.version(number)]
    if not clean:
        return
    version, state.previous = state.previous[clean[-1]], state.previous[: clean[-1]]
    reason = f"version {worse} learned from what {name} gave; version {version} did not, and comes back"
    engine.promote(DecisionKind.ROLLBACK, version, reason, {**asked, "withdrawn": True})
