"""What the fold sees without labels: features and answers that moved, and estimates of performance.

It warns, and no more: a model whose policy says ``on_unlabelled: update`` may ask for an update on it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from everlearn.loop.estimates import LabelFree
from everlearn.loop.state import LoopState
from everlearn.loop.steering import Steered
from everlearn.loop.watch import FeatureWatch
from everlearn.spec import ModelSpec
from everlearn.types import DecisionKind, Label, Prediction

MOST_NAMED = 10


def begin(state: LoopState, spec: ModelSpec) -> None:
    """Begin to watch, or to watch anew: the spec has changed what is watched."""
    state.watch = FeatureWatch.start(spec) if spec.drift.features else None
    state.estimates = LabelFree.start(spec) if spec.drift.features else None


def restart(engine: Steered) -> None:
    """Another champion answers: what it is asked first is the new reference."""
    if engine.state.watch is not None:
        engine.state.watch.restart(engine.spec)
    if engine.state.estimates is not None:
        engine.state.estimates.restart()
    engine.state.unlabelled = False


def on_prediction(engine: Steered, event: Prediction) -> None:
    """Take in an answered row; at the end of a window say what has moved.

    The rows that a candidate answers while it is on trial are left out: its answers differ from those of the
    champion without anything having moved.
    """
    state = engine.state
    if event.version != state.champion and not state.stood(event.version):
        return
    if state.watch is not None:
        state.watch.take(event.features, event.output)
        if state.watch.full:
            _look(engine, state.watch)
    if state.estimates is not None:
        state.estimates.take(event.row, event.output)


def _look(engine: Steered, watch: FeatureWatch) -> None:
    found = watch.look()
    news = [one for one in found if one.windows == 1]
    if not news:
        return
    engine.state.unlabelled = True
    named = ", ".join(f"{one.column} ({one.test.upper()}, p = {one.p_value:.2g})" for one in news[:3])
    more = f" and {len(news) - 3} more" if len(news) > 3 else ""
    features = [
        {"name": one.column, "test": one.test, "p": one.p_value, "size": one.psi, "rows": one.rows}
        for one in news[:MOST_NAMED]
    ]
    evidence = {"features": features, "found": len(found), "labelled": False}
    words = f"drift without labels: {named}{more} moved; this warns, and says nothing of performance"
    engine.decide(DecisionKind.WARN, words, evidence, engine.state.champion)


def on_truth(engine: Steered, label: Label) -> None:
    """Hold estimates against what came true of a matured row."""
    state, asked = engine.state, label.prediction
    if state.estimates is None or asked is None or asked.version != state.champion:
        return
    was_blind = state.estimates.record.blind is not None
    settled = state.estimates.learn(asked.row, asked.output, label.value)
    if settled and settled[-1].blind and not was_blind:
        newest = settled[-1]
        words = (
            f"estimates without labels are blind: {newest.estimate:.4f} was expected on rows "
            f"{newest.first} to {newest.last} and {newest.realised:.4f} came true; the concept has changed"
        )
        engine.decide(DecisionKind.WARN, words, {"estimate": msgspec.to_builtins(newest)}, state.champion)


def shown(state: LoopState) -> dict[str, Any] | None:
    """The newest estimate without labels, and how wrong such estimates were."""
    if state.estimates is None:
        return None
    record, newest = state.estimates.record, state.estimates.newest
    return {
        "newest": None if newest is None else {**msgspec.to_builtins(newest), "error": newest.error()},
        "compared": record.compared,
        "mean_error": record.mean_error,
        "bias": record.bias,
        "blind": record.blind is not None,
    }
