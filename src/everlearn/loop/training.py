"""Making a candidate and gathering the evidence on it: the work of a job, outside the fold.

Pure: the same plan, examples and champion give the same candidate and the same evidence.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from everlearn.errors import InvalidError
from everlearn.loop import gate
from everlearn.loop.anchors import eligible
from everlearn.loop.forgetting import anchor_numbers, class_numbers
from everlearn.loop.scores import Scored, score_row
from everlearn.predictor import Baseline, Predictor
from everlearn.spec import ModelSpec
from everlearn.types import Example, Output, Row
from everlearn.vision import detectors
from everlearn.vision.frames import Images, no_images

Progress = Callable[[float], None]


def silent(share: float) -> None:
    """The progress of work that nobody watches."""


FEWEST_MATURE = 20
"""With fewer mature examples than this, a first version by command learns from those not mature yet too."""

RECALIBRATION_ROWS = 1000
"""The newest rows that a recalibration is fitted to."""

SINCE_CHANGE = 60
"""Examples from after a change of concept that are enough to ask whether to learn from them alone."""

MOST_EXAMPLES = 200_000
"""What a learner that wants everything gets at most, the newest."""


class Answers(Protocol):
    """Whatever answers rows: a predictor, or the baseline of version 0."""

    def predict(self, rows: Sequence[Row]) -> list[Output]:
        """One output a row."""
        ...


@dataclass(frozen=True, slots=True)
class Trained:
    """A candidate, what it learned from, and how it and the champion answer rows unseen by both.

    ``evidence`` are both sides' metrics there, ``answers`` what each row cost each side; ``remembered``
    tells for each regime how they answer its anchors. ``sources`` gave the examples, the evidence's too.
    """

    predictor: Predictor
    evidence: Mapping[str, Any]
    answers: Sequence[gate.Answered]
    anchors: Sequence[Row]
    learned_from: int
    learned_through: int
    learned_upto: int
    rows: int
    remembered: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sources: Sequence[str] = ()


def examples_wanted(spec: ModelSpec, plan: Mapping[str, Any], wants: int | None) -> dict[str, Any]:
    """The arguments of ``Log.examples`` for a plan."""
    out = {"without": plan["without"]} if plan.get("without") else {}
    if plan["mode"] == "incremental":
        return {"upto": plan["upto"], "after": plan["learned_upto"], **out}
    # Labels may be known of rows that are not mature yet: fetch that many more.
    slack = spec.gate.holdout + max(spec.horizon_rows or 0, 1000)
    return {"upto": plan["upto"], "newest": min(MOST_EXAMPLES, wants or MOST_EXAMPLES) + slack, **out}


def train(
    spec: ModelSpec,
    plan: Mapping[str, Any],
    examples: Sequence[Example],
    champion: Predictor | None,
    progress: Progress = silent,
    images: Images = no_images,
) -> Trained:
    """Carry out a plan of the loop. ``champion`` is ``None`` while the baseline answers. ``images`` finds
    those that rows name, for detection.

    Raises :class:`~everlearn.errors.InvalidError` if there is nothing to learn from.
    """
    trained = _train(spec, plan, examples, champion, progress, images)
    given = {e.source for e in examples if e.source is not None and e.order >= trained.learned_from}
    return replace(trained, sources=sorted(given)) if given else trained


def _train(
    spec: ModelSpec,
    plan: Mapping[str, Any],
    examples: Sequence[Example],
    champion: Predictor | None,
    progress: Progress,
    images: Images,
) -> Trained:
    if plan["mode"] == "incremental" and champion is not None:
        return _learn_on(champion.copy(), spec, plan, examples, champion, progress)
    mature = [e for e in examples if _mature(e, plan)]
    judged = mature if len(mature) >= FEWEST_MATURE else examples
    if plan["mode"] == "recalibrate" and champion is not None:
        return _recalibrate(champion, spec, plan, judged)
    beginner = _beginner(spec, None if plan.get("anew") else champion, images)
    trained = _learn_window(beginner, spec, plan, judged, champion, progress)
    if not trained.predictor.learner.incremental:
        return trained
    return _learn_rest(trained, judged, learnable(examples, spec))


def _beginner(spec: ModelSpec, champion: Predictor | None, images: Images) -> Predictor:
    """What learns a window: new, or for a learner that is fine-tuned what the champion has learned.

    The plan says ``anew`` where the champion may have learned what is erased.
    """
    fresh = Predictor.new(spec, images)
    if champion is not None:
        fresh.begin_from(champion)
    return fresh


def learnable(examples: Sequence[Example], spec: ModelSpec) -> list[Example]:
    """The examples but for those that may become anchors of a regime: no learner learns from them."""
    every = spec.regimes.anchor_every
    return [e for e in examples if not (e.row and eligible(e.row, every))] if every else list(examples)


def _recalibrate(
    champion: Predictor, spec: ModelSpec, plan: Mapping[str, Any], examples: Sequence[Example]
) -> Trained:
    """The champion with its answers fitted anew to recent truths, judged on the newest of them."""
    unseen = _unseen(examples, plan, min(plan["holdout"], len(examples) // 2))
    window = learnable(examples[: len(examples) - len(unseen)], spec)[-RECALIBRATION_ROWS:]
    _need(window)
    candidate = champion.recalibrated([e.features for e in window], [e.target for e in window])
    answers = candidate.predict([e.features for e in unseen])
    evidence, answered = _evidence(spec, unseen, answers, champion)
    first, through = window[0].order, plan["learned_through"]
    rows = _rows(unseen or window)
    return Trained(candidate, evidence, answered, rows, first, through, plan["learned_upto"], len(window))


def remember(
    spec: ModelSpec,
    plan: Mapping[str, Any],
    features: Mapping[str, Row],
    candidate: Answers,
    champion: Answers | None,
) -> dict[str, dict[str, Any]]:
    """How candidate and champion answer the anchors of each regime that the plan names, class by class
    where it must not be forgotten."""
    found = {}
    for regime, anchors in plan.get("anchors", {}).items():
        kept = [(name, truth) for name, truth in anchors if name in features]
        rows, truths = [features[name] for name, _ in kept], [truth for _, truth in kept]
        if not rows:
            continue
        sides = [
            [gate.mark(t, o, spec) for t, o in zip(truths, side.predict(rows), strict=True)]
            for side in (champion or candidate, candidate)
        ]
        scale = gate.scale_of(sides[0])
        losses = [[gate.bounded(m, spec, scale) for m in side] for side in sides]
        found[regime] = anchor_numbers(losses[0], losses[1], gate.binary(spec))
        if spec.task == "detection":
            found[regime]["classes"] = detectors.class_scores(rows, truths, candidate, champion or candidate)
        elif spec.task == "classification" and regime in plan.get("protected", ()):
            found[regime]["classes"] = class_numbers(truths, losses[0], losses[1], gate.binary(spec))
    return found


def _mature(example: Example, plan: Mapping[str, Any]) -> bool:
    matured_at = plan["matured_at"]
    return bool(example.row <= plan["matured_row"] or (matured_at is not None and example.at <= matured_at))


def _learn_window(
    candidate: Predictor,
    spec: ModelSpec,
    plan: Mapping[str, Any],
    examples: Sequence[Example],
    champion: Predictor | None,
    progress: Progress,
) -> Trained:
    """Learn the newest window but for the newest stretch, which both sides then answer unseen."""
    unseen = _unseen(examples, plan, min(plan["holdout"], len(examples) // 3))
    end = len(examples) - len(unseen)
    wants = candidate.learner.wants or MOST_EXAMPLES
    window = learnable(examples[:end], spec)[-wants:]
    _need(window)
    if not candidate.tuned:
        window = _since_change(window, spec, plan.get("since", 0))
    progress(0.1)
    told = (lambda share: progress(0.1 + 0.6 * share),) if candidate.tuned else ()
    candidate.learn([e.features for e in window], [e.target for e in window], *told)
    progress(0.7)
    answers = candidate.predict([e.features for e in unseen])
    evidence, answered = _evidence(spec, unseen, answers, champion or _majority(window, spec))
    return Trained(
        candidate,
        evidence,
        answered,
        _rows(unseen or window),
        window[0].order,
        window[-1].order,
        plan["upto"],
        len(window),
    )


def _since_change(window: list[Example], spec: ModelSpec, since: int) -> list[Example]:
    """Those from row ``since`` on, where the concept is thought to have changed (0: it has not), if what can
    be learned from their older two thirds predicts the newest third better than with all before it."""
    fresh = [e for e in window if e.row >= since] if since else []
    if not SINCE_CHANGE <= len(fresh) < len(window):
        return window
    newest = fresh[-(len(fresh) // 3) :]
    rows, truths = [e.features for e in newest], [e.target for e in newest]
    costs = []
    for side in (fresh, window):
        learned = Predictor.new(spec)
        known = side[: len(side) - len(newest)]
        learned.learn([e.features for e in known], [e.target for e in known])
        answers = learned.predict(rows)
        costs.append(math.fsum(gate.mark(t, o, spec).raw for t, o in zip(truths, answers, strict=True)))
    return fresh if costs[0] < costs[1] else window


def _learn_rest(trained: Trained, judged: Sequence[Example], examples: Sequence[Example]) -> Trained:
    """Let a learner that goes on learning take in what it was judged on, and what is not mature yet."""
    through = trained.learned_through
    learned = {e.order for e in judged if e.order <= through}
    rest = [e for e in examples if e.order not in learned]
    if rest:
        trained.predictor.learn([e.features for e in rest], [e.target for e in rest])
        through = max(through, max(e.order for e in rest))
    return replace(trained, learned_through=through, rows=trained.rows + len(rest))


def _learn_on(
    candidate: Predictor,
    spec: ModelSpec,
    plan: Mapping[str, Any],
    examples: Sequence[Example],
    champion: Predictor | None,
    progress: Progress,
) -> Trained:
    """Go on learning in the order in which labels came, and answer the newest stretch on the way.

    Each row is answered with just the labels that were known when it was asked, so the evidence is
    what this learner would have served (test-then-train under the stream's own label delay).
    """
    _need(examples)
    unseen = _unseen(examples, plan, max(plan["holdout"], 1))
    arrivals, learned = sorted(learnable(examples, spec), key=lambda e: e.known), 0
    answers: list[Output] = []
    # A learner that judges itself by what it answered must be asked everything, in order.
    asked = examples if getattr(candidate.learner, "remembers", False) else unseen
    for done, example in enumerate(asked):
        learned = _learn_before(candidate, arrivals, learned, example.order)
        answers += candidate.predict([example.features])
        progress(0.9 * done / len(asked))
    answers = answers[len(asked) - len(unseen) :]
    _learn_before(candidate, arrivals, learned, plan["upto"] + 1)
    evidence, answered = _evidence(spec, unseen, answers, champion or _majority(examples, spec))
    through = max(plan["learned_through"], max(e.order for e in examples))
    return Trained(
        candidate,
        evidence,
        answered,
        _rows(unseen or examples),
        examples[0].order,
        through,
        plan["upto"],
        len(examples),
    )


def _learn_before(candidate: Predictor, arrivals: Sequence[Example], learned: int, position: int) -> int:
    """Learn the arrivals that were known before a position, from index ``learned`` on; the next index."""
    end = bisect_left(arrivals, position, lo=learned, key=lambda e: e.known)
    new = arrivals[learned:end]
    if new:
        candidate.learn([e.features for e in new], [e.target for e in new])
    return end


def _unseen(examples: Sequence[Example], plan: Mapping[str, Any], most: int) -> Sequence[Example]:
    """The newest examples, at most so many, that the champion has not learned from."""
    newest = examples[len(examples) - most :] if most else []
    return [e for e in newest if e.order > plan["learned_through"]]


def _evidence(
    spec: ModelSpec, unseen: Sequence[Example], answers: Sequence[Output], champion: Answers
) -> tuple[dict[str, Any], list[gate.Answered]]:
    old = champion.predict([e.features for e in unseen]) if unseen else []
    return judged(spec, unseen, old, answers)


def judged(
    spec: ModelSpec, unseen: Sequence[Example], old: Sequence[Output], new: Sequence[Output]
) -> tuple[dict[str, Any], list[gate.Answered]]:
    """Both sides' metrics on the same examples, and what each of them cost each side."""
    answered = [
        gate.Answered(
            e.row,
            e.order,
            gate.mark(e.target, before, spec),
            gate.mark(e.target, after, spec),
            gate.groups_of(e.features, spec),
        )
        for e, before, after in zip(unseen, old, new, strict=True)
    ]
    return gate.compare(_scored(unseen, old), _scored(unseen, new), spec.task), answered


def _scored(examples: Sequence[Example], outputs: Sequence[Output]) -> list[Scored]:
    return [
        score_row(e.row, 0, e.target, output, None, None) for e, output in zip(examples, outputs, strict=True)
    ]


def _majority(examples: Sequence[Example], spec: ModelSpec) -> Baseline:
    """What version 0 would answer after these examples: their most frequent class, or their mean."""
    targets = [e.target for e in examples]
    if spec.task == "detection":
        return Baseline()
    if spec.task == "regression":
        return Baseline(Output(math.fsum(float(target or 0.0) for target in targets) / len(targets)))
    return Baseline(Output(Counter(targets).most_common(1)[0][0]))


def _need(examples: Sequence[Example]) -> None:
    if len(examples) < 2:
        raise InvalidError(
            f"{len(examples)} labelled examples are too few to learn from: send labels or load history"
        )


def _rows(examples: Sequence[Example]) -> list[Row]:
    return [e.features for e in examples[-20:]]
