"""What a model should be: the spec that a team writes, as YAML, JSON or Python.

>>> spec = parse_spec({"name": "spam", "target": "label", "features": {"length": "numeric"}})
>>> spec.task, spec.metric, spec.learner.name
('classification', 'accuracy', 'blend')
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from everlearn.errors import Fault, SpecError
from everlearn.types import FeatureKind, Task

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

CLASSIFICATION_METRICS = ("accuracy", "f1", "auc", "kappa_m", "kappa_t", "log_loss")
REGRESSION_METRICS = ("r2", "mae", "rmse")
LOWER_IS_BETTER = frozenset({"log_loss", "mae", "rmse"})

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(s|m|h|d|w)$")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def parse_duration(text: str) -> float:
    """Seconds in a duration such as ``"90s"``, ``"2h"`` or ``"1.5d"``; raises ValueError."""
    match = _DURATION.match(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no duration: write a number and s, m, h, d or w, such as '2h'")
    return float(match[1]) * _SECONDS[match[2]]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RowHorizon(_Frozen):
    """A label horizon counted in predictions."""

    rows: Annotated[int, Field(ge=0)]


class LearnerSpec(BaseModel):
    """A learner's name; every other field is one of its parameters."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = "blend"

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters beside the name."""
        return dict(self.__pydantic_extra__ or {})


class PolicySpec(_Frozen):
    """When to update. Counts are of matured labels.

    With ``act_on: doubt`` the loop updates when the lower confidence bound of the metric is under the
    threshold (the model is no longer proven good); with ``proof`` when the upper bound is (it is
    proven bad). Once it has acted, it goes on until the lower bound is over the threshold by
    ``hysteresis``.
    """

    name: Literal["threshold", "never", "every"] = "threshold"
    act_on: Literal["doubt", "proof"] = "doubt"
    every: Annotated[int, Field(ge=1)] = 500
    first_rows: Annotated[int, Field(ge=2)] = 300
    min_labels: Annotated[int, Field(ge=2)] = 200
    window: Annotated[int, Field(ge=10)] = 500
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    hysteresis: Annotated[float, Field(ge=0)] = 0.01
    cooldown: Annotated[int, Field(ge=0)] = 250
    check_every: Annotated[int, Field(ge=1)] = 25


class GateSpec(_Frozen):
    """What a candidate must pass: ``alpha`` of a paired test on ``holdout`` rows that neither learned."""

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    holdout: Annotated[int, Field(ge=10)] = 250
    min_rows: Annotated[int, Field(ge=5)] = 50


class ModelSpec(_Frozen):
    """A named prediction task and how it is kept current.

    ``threshold`` is the performance that the model must keep, in its ``metric`` (``None``: the
    installation's ``PERFORMANCE_THRESHOLD``). ``publish_every`` is how many labels a ``stream``
    learner takes in before it publishes a version. ``strict`` refuses columns that the schema does
    not name instead of ignoring them.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    task: Task = "classification"
    target: Annotated[str, Field(min_length=1)]
    features: Annotated[dict[str, FeatureKind], Field(min_length=1)]
    learner: LearnerSpec = LearnerSpec()
    update: Literal["stream", "triggered"] | None = None
    metric: str | None = None
    threshold: float | None = None
    label_horizon: RowHorizon | str = "auto"
    publish_every: Annotated[int, Field(ge=1)] = 100
    policy: PolicySpec = PolicySpec()
    gate: GateSpec = GateSpec()
    strict: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    description: str = ""

    @field_validator("learner", mode="before")
    @classmethod
    def _learner_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("policy", mode="before")
    @classmethod
    def _policy_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("label_horizon")
    @classmethod
    def _horizon_is_auto_or_duration(cls, value: RowHorizon | str) -> RowHorizon | str:
        if isinstance(value, str) and value != "auto":
            parse_duration(value)
        return value

    @model_validator(mode="before")
    @classmethod
    def _metric_of_task(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("metric") is None:
            metric = "r2" if value.get("task") == "regression" else "accuracy"
            return {**value, "metric": metric}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        known = REGRESSION_METRICS if self.task == "regression" else CLASSIFICATION_METRICS
        if self.metric not in known:
            raise ValueError(f"metric {self.metric!r} is not one of {', '.join(known)} ({self.task})")
        if self.target in self.features:
            raise ValueError(f"target {self.target!r} is also a feature: remove it from features")
        if self.threshold is None and self.metric in LOWER_IS_BETTER and self.policy.name == "threshold":
            raise ValueError(f"threshold is needed: {self.metric} has no natural one (or use policy 'every')")
        return self

    @property
    def horizon_rows(self) -> int | None:
        """The label horizon in predictions, or ``None`` if it is a time or ``auto``."""
        return self.label_horizon.rows if isinstance(self.label_horizon, RowHorizon) else None

    @property
    def horizon_seconds(self) -> float | None:
        """The label horizon in seconds, or ``None`` if it is in rows or ``auto``."""
        if isinstance(self.label_horizon, RowHorizon) or self.label_horizon == "auto":
            return None
        return parse_duration(self.label_horizon)

    @property
    def lower_is_better(self) -> bool:
        """Whether a smaller value of the metric is the better one."""
        return self.metric in LOWER_IS_BETTER

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON values; ``parse_spec`` reads it back."""
        return self.model_dump(mode="json")


def parse_spec(value: Mapping[str, Any]) -> ModelSpec:
    """Read a spec. Raises :class:`~everlearn.errors.SpecError` that names every field at fault."""
    try:
        return ModelSpec.model_validate(dict(value))
    except ValidationError as error:
        raise spec_error(error) from None


def spec_error(error: ValidationError) -> SpecError:
    """Pydantic's findings as one error with a fault a field."""
    faults = [
        Fault(
            ".".join(str(part) for part in item["loc"]) or "spec",
            item["msg"].removeprefix("Value error, "),
        )
        for item in error.errors(include_url=False)
    ]
    listed = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
    return SpecError(f"The model spec is not valid: {listed}", faults)
