"""What a spec leaves open, filled in once, when a model is created: later changes are events."""

from __future__ import annotations

from everlearn.errors import Fault, SpecError
from everlearn.loop.engine import DEFAULT_THRESHOLD
from everlearn.predictor import Predictor
from everlearn.spec import ModelSpec


def with_defaults(spec: ModelSpec, threshold: float = DEFAULT_THRESHOLD) -> ModelSpec:
    """The spec with its threshold and its way to update settled, and its learner known to be buildable.

    Raises :class:`~everlearn.errors.InvalidError` for a learner or parameter that does not exist.
    """
    learner = Predictor.new(spec).learner
    update = spec.update or learner.prefers
    if update == "stream" and not learner.incremental:
        message = f"the {spec.learner.name} learner cannot learn row by row: use triggered"
        raise SpecError(f"update: {message}", [Fault("update", message)])
    settled = spec.threshold if spec.lower_is_better or spec.threshold is not None else threshold
    return spec.model_copy(update={"update": update, "threshold": settled})
