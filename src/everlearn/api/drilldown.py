"""What is behind a model's score: regimes, label delays, drift, the running evidence, and segments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from everlearn.api.parts import Door, TheDoor
from everlearn.api.problems import documented
from everlearn.api.times import IsoTime, iso
from everlearn.types import ScorePoint

router = APIRouter(prefix="/v1/models/{model}", tags=["models"], responses=documented(404))

NEWEST_WINDOWS = 400
"""Windows that are looked through for the course of the evidence."""


class MatrixAnswer(BaseModel):
    """``R[i][j]``: the accuracy of ``versions[i]`` on the anchors of ``regimes[j]``; null: not measured.

    ``learned_in`` names for each version the regime that it learned last. ``measures`` are forgetting,
    transfer and more, each null where it cannot be said; ``regime_list`` tells of every regime.
    """

    model: str
    regimes: list[int]
    versions: list[int]
    learned_in: list[int]
    R: list[list[float | None]]
    baseline: list[float | None]
    baseline_is: str
    reference_is: str
    measures: dict[str, float | None]
    regime_list: list[dict[str, Any]]


class Horizon(BaseModel):
    """How long is waited for labels: as ``given`` in the spec, in ``rows`` or ``seconds``, and as learned."""

    given: str | dict[str, Any]
    rows: int | None
    seconds: float | None
    learned_rows: int | None


class MaturityAnswer(BaseModel):
    """The label maturity curve: a ``share`` of the predictions has its label by an age.

    ``never`` is the share of the predictions older than three horizons without one.
    """

    model: str
    labels: int
    waiting: int
    horizon: Horizon
    never: float | None
    by_rows: list[dict[str, float]]
    by_seconds: list[dict[str, float]]


class MovedColumn(BaseModel):
    """What the newest complete window says of a column: the test, its p-value, and the size of the shift.

    The p-value is adjusted for all columns; ``moved`` is whether it is under ``alpha``.
    """

    column: str
    test: str
    statistic: float
    p_value: float
    size: float
    size_is: str
    missing_before: float
    missing_now: float
    rows: int
    reference_rows: int
    moved: bool
    windows_in_a_row: int


class WatchedFeatures(BaseModel):
    """The watch over features and answers. ``reference``: ``off``, ``building`` or ``ready``."""

    reference: str
    alpha: float | None
    window_rows: int | None
    windows: int
    taken: int
    columns: list[MovedColumn]


class DriftAnswer(BaseModel):
    """Warnings of the champion's loss, what has moved without labels, and the estimate without labels."""

    model: str
    warnings: int
    last_seq: int | None
    warned: bool
    features: WatchedFeatures
    estimate: dict[str, Any] | None


class EvidencePoint(BaseModel):
    """The evidence at a time, after so many rows of it."""

    at: IsoTime
    row: int
    rows: int
    log_e: float
    needed: float


class GroupTrial(BaseModel):
    """A segment or regime: evidence that the candidate loses no more there than the margin."""

    name: str
    rows: int
    champion_loss: float | None
    candidate_loss: float | None
    log_e: float
    needed: float


class CandidateTrial(BaseModel):
    """A candidate on trial: it is promoted when ``log_e`` reaches ``needed``, which is ln(1 / alpha)."""

    version: int
    attempt: int
    rows: int
    log_e: float
    needed: float
    e_value: float
    e_needed: float
    alpha: float
    champion_loss: float | None
    candidate_loss: float | None
    groups: list[GroupTrial]
    history: list[EvidencePoint]


class BakeTrial(BaseModel):
    """The watch over a promotion: the ``old`` version comes back when ``log_e`` reaches ``needed``."""

    old: int
    new: int
    rows: int
    of: int
    log_e: float
    needed: float
    served_loss: float | None
    old_loss: float | None
    held: bool
    history: list[EvidencePoint]


class TrialAnswer(BaseModel):
    """The running evidence; null where nothing is on trial, or in bake."""

    model: str
    candidate: CandidateTrial | None
    bake: BakeTrial | None


class Segment(BaseModel):
    """The rows with one value (or range) of a column, in the model's metric."""

    name: str
    rows: int
    share: float
    score: float | None
    lower: float | None
    upper: float | None


class SegmentsAnswer(BaseModel):
    """The newest labelled predictions by a column, the worst first. ``columns`` are those to choose from."""

    model: str
    column: str | None
    columns: list[str]
    metric: str
    threshold: float
    rows: int
    segments: list[Segment]


@router.get("/matrix", response_model=MatrixAnswer)
def matrix(model: str, door: TheDoor) -> dict[str, Any]:
    """What every version knows of every regime, with the measures of forgetting and transfer."""
    from everlearn.loop import findings

    return {"model": model, **findings.matrix(_state(door, model))}


@router.get("/maturity", response_model=MaturityAnswer)
def maturity(model: str, door: TheDoor) -> dict[str, Any]:
    """How late labels come, and how long the loop waits for them."""
    from everlearn.loop import findings

    return {"model": model, **findings.maturity(_state(door, model), door.parts.models.get(model))}


@router.get("/drift", response_model=DriftAnswer)
def drift(model: str, door: TheDoor) -> dict[str, Any]:
    """What has moved: the champion's loss, features, answers, and estimates without labels."""
    from everlearn.loop import findings

    return {"model": model, **findings.drift(_state(door, model))}


@router.get("/trial", response_model=TrialAnswer)
def trial(model: str, door: TheDoor) -> dict[str, Any]:
    """The running evidence of the candidate on trial, and of the watch over the newest promotion."""
    from everlearn.loop import findings

    found = {"model": model, **findings.trial(_state(door, model))}
    candidate, bake = found["candidate"], found["bake"]
    if candidate is None and bake is None:
        return found
    last = door.parts.scores.span(model)[1]
    points = door.parts.scores.points(model, 0, max(1, last - NEWEST_WINDOWS + 1), last)
    if candidate is not None:
        candidate["history"] = _course(points, "candidate", version=candidate["version"])
    if bake is not None:
        bake["history"] = _course(points, "bake", old=bake["old"], new=bake["new"])
    return found


@router.get("/segments", response_model=SegmentsAnswer, responses=documented(422))
def segments(
    model: str,
    door: TheDoor,
    column: Annotated[str | None, Query(max_length=200, description="A feature")] = None,
) -> dict[str, Any]:
    """How well the newest labelled predictions went, by the value of a feature."""
    from everlearn.loop.segments import by_segment

    spec = door.parts.models.get(model)
    found = by_segment(door.parts.log, door.parts.ledger.checkpoint(model), spec, column)
    return {"model": model, **found}


def _state(door: Door, model: str) -> bytes:
    return door.parts.ledger.checkpoint(model).state


def _course(points: Sequence[ScorePoint], which: str, **of: int) -> list[dict[str, Any]]:
    """The course of one trial or bake, as the windows that closed meanwhile have it."""
    course = []
    for point in points:
        seen = getattr(point, which)
        if seen is not None and all(seen[name] == value for name, value in of.items()):
            evidence = {name: seen[name] for name in ("rows", "log_e", "needed")}
            course.append({"at": iso(point.at), "row": point.row, **evidence})
    return course
