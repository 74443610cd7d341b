"""Rows of the events table and the events that they hold. JSON by msgspec: floats come back exactly."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from everlearn.adapters.rules import outcome_body
from everlearn.errors import InvalidError
from everlearn.types import (
    Command,
    Event,
    EventKind,
    Label,
    LoadedExample,
    Outcome,
    Output,
    Prediction,
    Tick,
)

KINDS = {
    EventKind.PREDICTION: 1,
    EventKind.LABEL: 2,
    EventKind.EXAMPLE: 3,
    EventKind.COMMAND: 4,
    EventKind.OUTCOME: 5,
    EventKind.TICK: 6,
}
PREDICTION, LABEL, EXAMPLE, COMMAND, OUTCOME, TICK = KINDS.values()


class EventRow(NamedTuple):
    """One row of the events table, without the model."""

    seq: int
    kind: int
    at: float
    key: str | None = None
    ref: int | None = None
    row: int | None = None
    version: int | None = None
    features: str | None = None
    value: str | None = None
    body: str | None = None
    source: str | None = None


def _plain(value: Any) -> Any:
    """Numpy's scalars are not JSON, but what they hold is."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_decoder = msgspec.json.Decoder()


def to_json(value: Any) -> str:
    """A value as JSON text; raises InvalidError if it is none."""
    try:
        return _encoder.encode(value).decode()
    except (TypeError, UnicodeError, msgspec.MsgspecError, OverflowError) as error:
        raise InvalidError(f"A value cannot be stored as JSON ({error}): use JSON values only.") from error


def from_json(text: str | None) -> Any:
    """The value that JSON text holds; ``None`` for none."""
    return None if text is None else _decoder.decode(text)


def prediction_of(row: EventRow, label: Label | None) -> Prediction:
    """The prediction in a row."""
    output = Output(from_json(row.value), from_json(row.body))
    return Prediction(
        row.seq,
        row.at,
        row.key or "",
        row.row or 0,
        row.version or 0,
        from_json(row.features),
        output,
        label,
    )


def label_of(row: EventRow, prediction: Prediction | None) -> Label:
    """The label in a row; its body is there only for a correction."""
    value, corrects = from_json(row.value), row.body is not None
    return Label(row.seq, row.at, row.key or "", value, corrects, prediction, row.source)


def event_of(row: EventRow, joined: EventRow | None, waited: EventRow | None) -> Event:
    """The event in a row, with the row it refers to, and the row that one refers to."""
    if row.kind == PREDICTION:
        return prediction_of(row, label_of(joined, None) if joined else None)
    if row.kind == LABEL:
        if joined is None:
            return label_of(row, None)
        return label_of(row, prediction_of(joined, label_of(waited, None) if waited else None))
    if row.kind == EXAMPLE:
        return LoadedExample(row.seq, row.at, from_json(row.features), from_json(row.value), row.source)
    body = from_json(row.body) or {}
    if row.kind == COMMAND:
        return Command(row.seq, row.at, body["name"], body.get("arguments") or {})
    if row.kind == OUTCOME:
        return Outcome(row.seq, row.at, **outcome_body(body))
    return Tick(row.seq, row.at)
