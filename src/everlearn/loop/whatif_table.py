"""A table as a recording for a what-if, read as a replay reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from everlearn.errors import InvalidError
from everlearn.loop.defaults import with_defaults
from everlearn.loop.replay import PUBLISH_EVERY
from everlearn.loop.tables import delay_of, stream_of, tidied
from everlearn.loop.whatif_record import Recording, of_stream
from everlearn.spec import ModelSpec, parse_spec

if TYPE_CHECKING:
    import pandas as pd


def of_table(
    frame: pd.DataFrame,
    *,
    target: str,
    label_delay: int | str = 0,
    time_column: str | None = None,
    features: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    publish_every: int = PUBLISH_EVERY,
    **given: Any,
) -> tuple[Recording, ModelSpec]:
    """The rows in their order with labels ``label_delay`` late, and the settings that a replay would have.

    ``given`` holds fields of the spec (``learner``, ``policy``, ``metric``, …); ``None`` leaves one open.
    Raises InvalidError for an empty table, a missing column or a bad setting.
    """
    from everlearn.features.infer import infer_spec

    if frame.empty:
        raise InvalidError("data: the table has no rows")
    delay = delay_of(label_delay)
    frame = tidied(frame.rename(columns=str), target, features or {}).drop(
        columns=list(drop), errors="ignore"
    )
    inferred = infer_spec(frame, target, name="what-if")
    spec: dict[str, Any] = {**inferred, "publish_every": publish_every}
    if features is not None:
        spec["features"] = dict(features)
    spec["label_horizon"] = {"rows": delay} if isinstance(delay, int) else delay
    spec |= {key: value for key, value in given.items() if value is not None}
    settled = with_defaults(parse_spec(spec))
    recording = of_stream(stream_of(frame, settled, delay, time_column))
    recording.notes += inferred.notes if features is None else inferred.notes[-1:]
    return recording, settled
