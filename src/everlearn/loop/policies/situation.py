"""What a policy may look at, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from everlearn.loop.bounds import Interval
from everlearn.loop.budget import BudgetState
from everlearn.loop.cost import CostState

Action = Literal["hold", "recalibrate", "incremental", "reuse", "fresh"]
Status = Literal["insufficient labels", "healthy", "degraded"]


class Situation(msgspec.Struct, frozen=True):
    """What a policy may look at. Counts are of labels; ``metric`` is of the champion's matured rows.

    ``at_update`` is how many labels were known at the last update, ``since_update`` how many have come
    since, and ``new_history`` how many of these were loaded in bulk. ``now`` and ``updated_at`` are event
    times in seconds. ``warned``: the loss of the champion has been warned of since the last update, and
    its change began ``drift_rows`` matured rows ago. ``ece`` is its calibration error on the matured
    window and ``ece_noise`` what a calibrated model would stay under there. ``archived`` versions could come
    back; ``reuse_tried`` and ``recalibrate_tried``: it was tried since the last update or warning.
    ``unlabelled``: features or predictions have shifted since the last update. ``row`` is the newest
    prediction's; ``capacity`` how many rows the learner learns from at most. ``cost`` and ``budget`` are
    the loop's records of losses and of updates.
    """

    champion: int
    learnable: int
    since_update: int
    at_update: int
    new_history: int
    refusals: int
    acting: bool
    metric: Interval | None
    now: float = 0.0
    updated_at: float = 0.0
    warned: bool = False
    drift_rows: int | None = None
    ece: float | None = None
    ece_noise: float | None = None
    archived: int = 0
    reuse_tried: bool = False
    recalibrate_tried: bool = False
    unlabelled: bool = False
    row: int = 0
    capacity: int | None = None
    cost: CostState | None = None
    budget: BudgetState | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do. ``key`` names the reason, so that a repeated *hold* is not written twice.

    ``acting`` is whether the policy goes on trying until the metric has recovered (hysteresis).
    ``seconds_left`` is how long the work may take before the budget of seconds is used up.
    """

    action: Action
    state: Status
    key: str
    reason: str
    evidence: dict[str, Any]
    acting: bool
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """The champion against the threshold: a state, and whether that is a reason to act."""

    state: Status
    key: str
    reason: str
    evidence: dict[str, Any]
    acting: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What one policy says: whether it asks for an update (or would, but must wait), and why."""

    asks: bool
    key: str
    reason: str
    evidence: dict[str, Any]
