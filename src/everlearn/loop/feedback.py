"""The guard over feedback: it notes who gives the labels, warns of a source, and puts it aside or lets it in.

What is put aside stays in the log. It is neither learned nor scored from then on, whatever came before
stays as it was counted; to take that back as well is :mod:`everlearn.loop.unlearning`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from everlearn.loop.scored import Scored, loss, score_row
from everlearn.loop.sources import MOST_CLASSES, Found, Source
from everlearn.loop.state import LoopState
from everlearn.loop.steering import Steered
from everlearn.predictor import class_key
from everlearn.types import Command, DecisionKind, Label, LoadedExample, Prediction

Asked = Mapping[str, Any]

_SAID = {
    "disagreement": "contradicts the answers far more than others: {0:.1%} of its labels, {1:.1%} of theirs",
    "distribution": "gives a class far from as often as expected: off by {0:+.1%}, others by {1:+.1%}",
    "rate": "gives far more of the labels than it may or used to: {0:.1%} of all, against {1:.1%}",
}


class Guarded(Steered, Protocol):
    """The part of the engine that the guard steers."""

    def settle(self) -> None: ...  # noqa: D102
    def drop_rows(self, source: str) -> None: ...  # noqa: D102


def observe(engine: Guarded, label: Label, asked: Prediction) -> bool:
    """Take note of a label with its source; whether it is to be learned and scored."""
    state = engine.state
    feedback, spec, name = state.feedback, engine.spec.feedback, label.source
    source = None if name is None else feedback.meet(name, state.cursor)
    if source is not None:
        source.labels += 1
    if feedback.lets_in(label) and spec.guard != "off" and asked.output.value is not None:
        found = feedback.take(source, _values(engine, label, asked), spec)
        if found is not None and name is not None:
            _say(engine, name, found)
        for other, found in list(feedback.close_block(spec)):
            _say(engine, other, found)
    let_in = feedback.lets_in(label)
    if source is not None and not let_in:
        source.out += 1
    return let_in


def loaded(state: LoopState, event: LoadedExample) -> bool:
    """Take note of an example with its source; whether it is to be learned."""
    name = event.source
    if name is None:
        return True
    source = state.feedback.meet(name, event.seq)
    out = name in state.feedback.without
    if source is not None:
        source.examples += 1
    return not out


def _values(engine: Guarded, label: Label, asked: Prediction) -> list[float]:
    """What a label says of the answer, each in [0, 1]: its loss, and (1 + excess) / 2 of each class.

    The excess is 1 for the class that it gives, less the probability that the answer gave to the class. For
    regression there is one: the error with its sign, in the unit of the loss. For detection the loss is all.
    """
    task, classes = engine.spec.task, engine.state.feedback.classes
    mean = engine.state.baselines.majority().value if task == "regression" else None
    scored = score_row(asked.row, asked.version, label.value, asked.output, None, mean)
    lost = loss(scored, task)
    if task == "regression":
        return [lost, (1.0 + math.copysign(lost, _above(scored))) / 2.0]
    if task == "detection":
        return [lost]
    given, answered = class_key(label.value), class_key(asked.output.value)
    if given not in classes and len(classes) < MOST_CLASSES:
        classes.append(given)
    chances = asked.output.probabilities or {answered: 1.0}
    # Of two classes, the second says what the first does.
    told = classes[:1] if len(classes) == 2 else classes
    return [lost, *((1.0 + (given == one) - min(max(chances.get(one, 0.0), 0.0), 1.0)) / 2.0 for one in told)]


def _above(scored: Scored) -> float:
    return float(scored.truth) - float(scored.value or 0.0)


def _say(engine: Guarded, name: str, found: Found) -> None:
    """Warn of a source, or put it aside. A share that grew is no proof of harm, unless there is a limit."""
    spec, source = engine.spec.feedback, engine.state.feedback.sources[name]
    engine.settle()
    harm = found.check != "rate" or spec.most_share is not None
    aside = spec.guard == "quarantine" and harm
    source.state = "quarantined" if aside else "warned"
    words = f"feedback: {name} {_SAID[found.check].format(found.value, found.reference)}"
    words += f" ({found.rows} labels)"
    evidence: dict[str, Any] = {
        "source": name,
        "check": found.check,
        "value": found.value,
        "reference": found.reference,
        "margin": spec.margin,
        "rows": found.rows,
        "alpha": spec.alpha,
        "e_value": math.exp(min(found.log_e, 700.0)),
        "needed": math.exp(min(found.needed, 700.0)),
        "automatic": True,
    }
    if found.check == "distribution" and engine.spec.task == "classification":
        evidence["class"] = engine.state.feedback.classes[found.place]
    if aside:
        engine.decide(DecisionKind.QUARANTINE, f"{words}: it is put aside", evidence)
        _put_aside(engine, name)
    else:
        engine.decide(DecisionKind.WARN, words, evidence, engine.state.champion)


def _put_aside(engine: Guarded, name: str) -> None:
    engine.state.feedback.without[name] = 0
    engine.drop_rows(name)


def quarantine(engine: Guarded, event: Command, asked: Asked) -> None:
    """An operator puts a source aside."""
    name, feedback = event.arguments["source"], engine.state.feedback
    if name in feedback.without:
        engine.decide(DecisionKind.REFUSE, f"{name} is put aside already", asked)
        return
    source = feedback.meet(name, event.seq)
    if source is not None:
        source.state = "quarantined"
    engine.decide(DecisionKind.QUARANTINE, f"{name} is put aside by command", {**asked, **counts(source)})
    _put_aside(engine, name)


def release(engine: Guarded, event: Command, asked: Asked) -> None:
    """An operator lets a source in again: what it gave is learned again, and scored from now on."""
    name, feedback = event.arguments["source"], engine.state.feedback
    source = feedback.sources.get(name)
    if name not in feedback.without and (source is None or not source.state):
        engine.decide(DecisionKind.REFUSE, f"{name} is neither warned of nor put aside", asked)
        return
    if feedback.without.pop(name, None) is not None:
        feedback.unscored[name] = event.seq
    feedback.unlearned.pop(name, None)
    if source is not None:
        source.released()
    engine.decide(DecisionKind.RELEASE, f"{name} is let in again by command", {**asked, **counts(source)})


def counts(source: Source | None) -> dict[str, int]:
    """What a source has given, for the evidence of a decision."""
    if source is None:
        return {"labels": 0, "examples": 0}
    return {"labels": source.labels, "examples": source.examples}
