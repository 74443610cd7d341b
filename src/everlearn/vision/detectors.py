"""Detectors as the predictor asks for them: built from a spec, their answers as outputs, and scored by
class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from everlearn.errors import Fault, InvalidError
from everlearn.spec import ModelSpec
from everlearn.types import Bundle, Output, Row, Scalar
from everlearn.vision import boxes, making
from everlearn.vision.average_precision import by_class
from everlearn.vision.boxes import Box
from everlearn.vision.frames import Frames
from everlearn.vision.yolo import Yolo

FAINT = 0.01
"""Average precision takes boxes of any score into account, from here on."""


def build(spec: ModelSpec) -> Yolo:
    """The detector that a spec names; raises InvalidError for an unknown one or a wrong parameter."""
    if spec.learner.name != Yolo.name:
        message = f"{spec.learner.name!r} is no detector: use yolo"
        raise InvalidError(f"learner.name: {message}", [Fault("learner.name", message)])
    given = {"seed": spec.seed, **spec.learner.parameters}
    valid = Yolo.__init__.__kwdefaults__ or {}
    unknown = sorted(set(given) - set(valid))
    if unknown:
        message = f"is not a parameter of 'yolo': use {', '.join(valid)}"
        raise InvalidError(f"learner.{unknown[0]}: {message}", [Fault(f"learner.{unknown[0]}", message)])
    return Yolo(**given)


def outputs(learner: Any, frames: Frames) -> list[Output]:
    """Boxes as the log has them; ``None`` while nothing is known."""
    if not learner.classes:
        return [Output(None)] * len(frames)
    return [Output(boxes.to_text(found)) for found in learner.predict(frames)]


def same(stored: Output, answer: Output) -> bool:
    """Whether two answers have the same boxes, but for rounding."""
    return (stored.value is None) == (answer.value is None) and boxes.same(stored.value, answer.value)


def elsewhere(bundle: Bundle) -> str:
    """Why the stored detector cannot come out the same here, however it is trained; empty where it can.

    Raises MissingExtraError where none can be trained.
    """
    made_by, parameters = _made_by(bundle), bundle.manifest["learner"]["parameters"]
    return making.elsewhere(made_by, making.made_here(parameters.get("weights"))) if made_by else ""


def as_made(bundle: Bundle) -> AbstractContextManager[None]:
    """Let a detector be trained as the stored one was: with as many threads."""
    made_by = _made_by(bundle)
    return making.threads(making.count_of(made_by)) if made_by else nullcontext()


def _made_by(bundle: Bundle) -> Mapping[str, str]:
    return bundle.manifest["learner"]["state"].get("made_by") or {}


def class_scores(
    rows: Sequence[Row], truths: Sequence[Scalar], candidate: Any, champion: Any
) -> dict[str, dict[str, Any]]:
    """What two versions find of every class in some frames: its average precision, and how many there are.

    Both are predictors of a detection.
    """
    parsed = [boxes.parse(truth) for truth in truths]
    old, new = (by_class(parsed, _ranked(side, rows)) for side in (champion, candidate))
    return {
        name: {"champion": old[name].ap, "candidate": new[name].ap, "truths": old[name].truths}
        for name in old
    }


def _ranked(side: Any, rows: Sequence[Row]) -> list[list[Box]]:
    """All boxes of some frames, the faint ones too."""
    found: list[list[Box]] = side.learner.predict(side.encoder.transform(rows), FAINT)
    return found
