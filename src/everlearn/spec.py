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
DETECTION_METRICS = ("frame_f1",)

MEASURED = (
    "brightness",
    "contrast",
    "colour",
    "sharpness",
    "texture_1",
    "texture_2",
    "texture_3",
    "texture_4",
)
"""Numeric features that a detection model has beside its image, unless its spec declares them otherwise: what
is measured of every frame. They depend on no version, so a frame has the same ones whoever answers it."""

_METRICS = {
    "classification": CLASSIFICATION_METRICS,
    "regression": REGRESSION_METRICS,
    "detection": DETECTION_METRICS,
}
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
    """When to update, and by which rung of the ladder. Counts are of matured labels.

    ``threshold``: when the metric no longer keeps the model's threshold. With ``act_on: doubt`` that is
    when the lower confidence bound is under it (the model is no longer proven good); with ``proof``
    when the upper bound is (it is proven bad). Once it has acted, it goes on until the lower bound is
    over the threshold by ``hysteresis``. ``every``: after so many labels, or so much time (``"1d"``).
    ``always``: at every check. ``never``. ``on_drift``: after a warning of the calibrated detector of
    the champion's loss. ``cost_aware``: when what an update is expected to save exceeds what it costs,
    ``price`` (in rows answered wrongly) and ``price_per_second`` of its measured work. ``any_of``: when
    one of several policies, listed in ``any_of``, says so (they inherit what they leave open).

    ``updates_per_day`` and ``seconds_per_day`` are a hard budget: never exceeded. ``recalibrate`` and
    ``reuse`` allow the cheaper rungs of the ladder; ``on_unlabelled`` says whether evidence without
    labels only warns, or may ask for an update.
    """

    name: Literal["threshold", "never", "every", "always", "on_drift", "cost_aware", "any_of"] = "threshold"
    act_on: Literal["doubt", "proof"] = "doubt"
    every: Annotated[int, Field(ge=1)] | str = 500
    price: Annotated[float, Field(ge=0)] = 25.0
    price_per_second: Annotated[float, Field(ge=0)] = 0.0
    any_of: tuple[PolicySpec, ...] = ()
    first_rows: Annotated[int, Field(ge=2)] = 300
    min_labels: Annotated[int, Field(ge=2)] = 200
    window: Annotated[int, Field(ge=10)] = 500
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    hysteresis: Annotated[float, Field(ge=0)] = 0.01
    cooldown: Annotated[int, Field(ge=0)] = 250
    check_every: Annotated[int, Field(ge=1)] = 25
    updates_per_day: Annotated[int, Field(ge=0)] | None = None
    seconds_per_day: Annotated[float, Field(ge=0)] | None = None
    recalibrate: bool = True
    reuse: bool = True
    on_unlabelled: Literal["warn", "update"] = "warn"

    @field_validator("any_of", mode="before")
    @classmethod
    def _parts_by_name(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [{"name": part} if isinstance(part, str) else part for part in value]

    @field_validator("every")
    @classmethod
    def _every_is_labels_or_duration(cls, value: int | str) -> int | str:
        if isinstance(value, str):
            parse_duration(value)
        return value

    @model_validator(mode="after")
    def _composed(self) -> PolicySpec:
        if self.name == "any_of" and not self.any_of:
            raise ValueError("any_of lists no policies: name one or more")
        if self.name != "any_of" and self.any_of:
            raise ValueError(f"any_of is for the policy any_of, not {self.name}")
        if any(part.name == "any_of" for part in self.any_of):
            raise ValueError("any_of may not hold another any_of")
        return self


class GateSpec(_Frozen):
    """What a candidate must pass before it answers.

    ``proof``: anytime-valid evidence that it is better, at a share of ``alpha`` (the probability that
    any candidate no better than the champion is ever promoted against it), on rows that neither has
    learned from: the ``holdout`` newest when it was trained, at least ``min_rows``, then every matured
    row, looked at every ``look_every``, up to ``label_budget``. In every protected regime and in every
    value of the ``segments`` columns it must be proven to lose less than ``margin`` (loss a row), on
    the anchors of protected regimes too. Its calibration error may be ``max_ece_rise`` above the
    champion's, one row may take ``max_latency_ms``. ``open`` asks only that it can be served.
    """

    name: Literal["proof", "open"] = "proof"
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    holdout: Annotated[int, Field(ge=10)] = 250
    min_rows: Annotated[int, Field(ge=5)] = 50
    look_every: Annotated[int, Field(ge=1)] = 100
    label_budget: Annotated[int, Field(ge=1)] = 20_000
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.01
    segments: tuple[str, ...] = ()
    max_ece_rise: Annotated[float, Field(ge=0)] = 0.05
    max_latency_ms: Annotated[float, Field(gt=0)] | None = 100.0


class RollbackSpec(_Frozen):
    """How a promotion is watched and undone.

    For ``bake`` matured rows after a promotion the old champion is scored beside the new one; it comes
    back when it is proven better at ``alpha``, or when the new one's loss is certainly above the old
    one's by more than ``tolerance``. One step back a bake period; when ``freeze_after`` promotions in a
    row were rolled back the model freezes and waits for a person. ``cooldown`` is how many labels pass
    after a rollback before the policy may update again.
    """

    bake: Annotated[int, Field(ge=0)] = 5000
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.01
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.01
    cooldown: Annotated[int, Field(ge=0)] = 500
    freeze_after: Annotated[int, Field(ge=1)] = 3


class DriftSpec(_Frozen):
    """What watches for drift: ``false_alarms`` is the budget of each detector per 10,000 stable rows.

    ``adwin`` and ``hddm_a`` are river's, ``cusum`` is ours, calibrated on the model's own history.
    ``features`` watches the features, predictions and estimated performance, without labels, on every
    ``rows`` predictions.
    """

    detectors: tuple[Literal["cusum", "adwin", "hddm_a"], ...] = ("cusum", "adwin")
    false_alarms: Annotated[float, Field(gt=0)] = 1.0
    features: bool = True
    rows: Annotated[int, Field(ge=50)] = 500


class RegimeSpec(_Frozen):
    """How regimes are remembered: up to ``anchors`` rows of each are kept out of all training.

    One row in ``anchor_every`` may become an anchor (0: none, and no memory of regimes). ``protect``
    overrules by regime number whether it must not be forgotten (``true``) or is obsolete (``false``);
    ``"all"``: no regime must be forgotten, nor any that is yet to come.
    """

    anchors: Annotated[int, Field(ge=0)] = 200
    anchor_every: Annotated[int, Field(ge=0)] = 40
    most: Annotated[int, Field(ge=1)] = 12
    protect: dict[int, bool] | Literal["all"] = {}

    def told(self, number: int) -> bool | None:
        """What the operator says of a regime: protected, obsolete, or nothing."""
        return True if self.protect == "all" else self.protect.get(number)


class AbstainSpec(_Frozen):
    """What answers look like while the upper confidence bound of the metric does not reach ``floor``."""

    floor: float
    action: Literal["flag", "withhold"] = "flag"


class RouteSpec(_Frozen):
    """Which share of the predictions the candidate on trial answers; the shares add up to 1.

    Rows with the same value of the feature ``by`` always go to the same side; without it (or where a row
    has no value there) the prediction id decides. While no candidate is on trial the champion answers all.
    """

    champion: Annotated[float, Field(ge=0, le=1)]
    candidate: Annotated[float, Field(ge=0, le=1)]
    by: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> RouteSpec:
        if abs(self.champion + self.candidate - 1.0) > 1e-9:
            total = self.champion + self.candidate
            raise ValueError(f"the shares of champion and candidate add up to {total:g}: make it 1")
        return self


class FeedbackSpec(_Frozen):
    """How labels are watched by who gave them.

    ``guard``: ``warn`` of a source whose labels are proven to be strange beside all others', put it aside
    (``quarantine``), or ``off``. ``alpha`` is the probability that any source is ever named that stays within
    ``margin`` of the others. ``most_share`` is the greatest share of all labels that one source may give in
    the newest 1,000 (``None``: a share that jumps against its own past is warned of).
    """

    guard: Literal["off", "warn", "quarantine"] = "warn"
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.2
    most_share: Annotated[float, Field(gt=0, lt=1)] | None = None


class ModelSpec(_Frozen):
    """A named prediction task and how it is kept current.

    ``threshold`` is the performance that the model must keep, in its ``metric`` (``None``: the
    installation's ``PERFORMANCE_THRESHOLD``). ``publish_every`` is how many labels a ``stream``
    learner takes in before it publishes a version. ``strict`` refuses columns that the schema does
    not name instead of ignoring them. ``durability`` is what an acknowledged prediction or label survives:
    ``sync`` a power cut, ``group`` the death of every process, ``async`` (predictions alone) neither.
    ``subject`` names the column that says whose row it is, so that the rows of one can be erased: a
    categorical feature, or a column beside them that is stored with the row and never learned.

    ``detection`` has one feature of kind ``image``; what is measured of every frame
    (:data:`MEASURED`) stands beside it, and its learner is ``yolo`` by default.
    """

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    task: Task = "classification"
    target: Annotated[str, Field(min_length=1)]
    features: Annotated[dict[str, FeatureKind], Field(min_length=1)]
    subject: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    learner: LearnerSpec = LearnerSpec()
    update: Literal["stream", "triggered"] | None = None
    metric: str | None = None
    threshold: float | None = None
    label_horizon: RowHorizon | str = "auto"
    publish_every: Annotated[int, Field(ge=1)] = 100
    durability: Literal["sync", "group", "async"] = "group"
    policy: PolicySpec = PolicySpec()
    gate: GateSpec = GateSpec()
    rollback: RollbackSpec = RollbackSpec()
    drift: DriftSpec = DriftSpec()
    regimes: RegimeSpec = RegimeSpec()
    abstain: AbstainSpec | None = None
    route: RouteSpec | None = None
    feedback: FeedbackSpec = FeedbackSpec()
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
    def _completed(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        if value.get("task") == "detection":
            value = _completed_detection(value)
        if value.get("metric") is None:
            return {**value, "metric": _METRICS.get(str(value.get("task")), CLASSIFICATION_METRICS)[0]}
        return value

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        known = _METRICS[self.task]
        images = sum(kind == "image" for kind in self.features.values())
        if images != (self.task == "detection"):
            raise ValueError(f"features: {images} are images: task detection has one, the other tasks none")
        if self.metric not in known:
            raise ValueError(f"metric {self.metric!r} is not one of {', '.join(known)} ({self.task})")
        if self.target in self.features:
            raise ValueError(f"target {self.target!r} is also a feature: remove it from features")
        unknown = sorted(set(self.gate.segments) - set(self.features))
        if unknown:
            raise ValueError(f"gate.segments names {unknown[0]!r}, which is no feature: name columns")
        if self.route is not None and self.route.by is not None and self.route.by not in self.features:
            raise ValueError(f"route.by names {self.route.by!r}, which is no feature: name a column")
        if self.subject is not None:
            _check_subject(self.subject, self)
        if self.threshold is None and self.metric in LOWER_IS_BETTER and self.policy.name == "threshold":
            raise ValueError(f"threshold is needed: {self.metric} has no natural one (or use policy 'every')")
        return self

    @property
    def columns(self) -> dict[str, FeatureKind]:
        """The columns that are stored with a row: the features, and the one that names its subject."""
        if self.subject is None or self.subject in self.features:
            return dict(self.features)
        return {**self.features, self.subject: "categorical"}

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


def _completed_detection(value: Mapping[str, Any]) -> dict[str, Any]:
    """A detection's spec with its learner, and with what is measured of every frame among its features."""
    features, learner = value.get("features"), value.get("learner") or "yolo"
    if isinstance(learner, Mapping):
        learner = {"name": "yolo", **learner}
    if isinstance(features, Mapping):
        features = {**dict.fromkeys(MEASURED, "numeric"), **features}
    return {**value, "features": features, "learner": learner}


def _check_subject(subject: str, spec: ModelSpec) -> None:
    """Raise ValueError for a column that cannot name whose row it is."""
    if subject == spec.target:
        raise ValueError(f"subject {subject!r} is the target: name another column")
    if spec.features.get(subject, "categorical") != "categorical":
        kind = spec.features[subject]
        raise ValueError(f"subject {subject!r} is a {kind} feature: declare it categorical, or no feature")
    if subject in spec.gate.segments:
        raise ValueError(f"subject {subject!r} is in gate.segments: a person is no segment, remove it there")


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
