"""Adding events to a log, inside a transaction that holds the model's row.

The batch is decided in memory against what one query finds of its keys, so a call costs four statements
however many events it brings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from everlearn.adapters.rules import clean_row, clean_value, digest_of, same_features
from everlearn.adapters.sql.codec import (
    EXAMPLE,
    KINDS,
    LABEL,
    PREDICTION,
    EventRow,
    from_json,
    label_of,
    prediction_of,
    to_json,
)
from everlearn.adapters.sql.direct import Statements
from everlearn.types import Event, EventKind, NewEvent, Receipt, Scalar, Status

KEYS_A_QUERY = 1000
"""How many keys one query looks up."""

T = TypeVar("T")


def chunks(items: Sequence[T], size: int = KEYS_A_QUERY) -> Iterator[Sequence[T]]:
    """The items, so many at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


class _Known(NamedTuple):
    """A prediction that is there: its position and its number."""

    seq: int
    row: int


class Appender:
    """One call's worth of events on their way into one model's log."""

    def __init__(self, statements: Statements, model: Any) -> None:
        self._statements = statements
        self._model = model
        self.seq: int = model.last_seq
        self._row: int = model.last_row
        self._labelled: int = model.labels
        self._parked: int = model.parked
        self._loaded: int = model.examples
        self._new: list[EventRow] = []
        self._predictions: dict[str, _Known] = {}
        self._labels: dict[str, tuple[int, Scalar]] = {}
        self._keys: dict[tuple[int, str], int] = {}
        self._erased: set[str] = set()

    def append(self, batch: Sequence[NewEvent]) -> list[Receipt]:
        """Decide and write sound events (see ``rules.check_events``); one receipt each."""
        self._look_up({event.key for event in batch if event.key is not None})
        orphans = {event.key for event in batch if event.kind is EventKind.LABEL} - self._predictions.keys()
        if orphans:
            self._look_for_erased(orphans)
        receipts = [self._add(event) for event in batch]
        if self._new:
            self._write()
        return receipts

    def _look_up(self, keys: Iterable[str]) -> None:
        for some in chunks(sorted(keys)):
            for seq, kind, key, row, value in self._statements.known(self._model.id, some):
                if kind == PREDICTION:
                    self._predictions[key] = _Known(seq, row or 0)
                elif kind != LABEL:
                    self._keys[kind, key] = seq
                elif key not in self._labels or self._labels[key][0] < seq:
                    self._labels[key] = (seq, from_json(value))

    def _look_for_erased(self, ids: Iterable[str | None]) -> None:
        """Which labels are for predictions that were erased; asked only where a label has no prediction."""
        salt = self._statements.salt(self._model.id)
        if salt is None:
            return
        digests = {digest_of(salt, key): key for key in ids if key is not None}
        for some in chunks(sorted(digests)):
            self._erased.update(digests[one] for one in self._statements.erased(self._model.id, some))

    def _add(self, event: NewEvent) -> Receipt:
        if event.kind is EventKind.PREDICTION:
            return self._add_prediction(event, event.key or "")
        if event.kind is EventKind.LABEL:
            return self._add_label(event, event.key or "")
        return self._add_other(event)

    def _add_prediction(self, event: NewEvent, key: str) -> Receipt:
        body = event.body
        known = self._predictions.get(key)
        if known is not None:
            features = clean_row(body["features"])
            recorded = prediction_of(self._fetch(known.seq), None)
            if not same_features(recorded.features, features):
                return Receipt(Status.CONFLICT, known.seq)
            return Receipt(Status.DUPLICATE, known.seq, self._recorded(known.seq))
        waiting = self._labels.get(key)
        self._row += 1
        self.seq = seq = self.seq + 1
        self._new.append(
            EventRow(
                seq,
                PREDICTION,
                float(event.at),
                event.key,
                waiting[0] if waiting else None,
                self._row,
                int(body["version"]),
                to_json(body["features"]),  # NaN and infinities, which JSON has not, become null
                to_json(body.get("value")),
                None if (probabilities := body.get("probabilities")) is None else to_json(probabilities),
            )
        )
        self._predictions[key] = _Known(seq, self._row)
        if waiting:
            self._parked -= 1
            self._labelled += 1
        return Receipt(Status.ACCEPTED, seq)

    def _add_label(self, event: NewEvent, key: str) -> Receipt:
        value, correction = clean_value(event.body["value"]), bool(event.body.get("correction"))
        newest = self._labels.get(key)
        if newest is not None and newest[1] == value:
            return Receipt(Status.DUPLICATE, newest[0])
        if newest is not None and not correction:
            return Receipt(Status.CONFLICT, newest[0])
        of = self._predictions.get(key)
        if of is None and key in self._erased:
            return Receipt(Status.ERASED, None)
        ref, row = of or (None, None)
        # The first label of an id corrects nothing, however it is marked.
        text, body = to_json(value), "true" if correction and newest is not None else None
        source = event.body.get("source")
        seq = self._push(LABEL, event, ref=ref, row=row, value=text, body=body, source=source)
        self._labels[key] = (seq, value)
        if of is None:
            self._parked += newest is None
            return Receipt(Status.PARKED, seq)
        self._labelled += newest is None
        return Receipt(Status.ACCEPTED, seq)

    def _add_other(self, event: NewEvent) -> Receipt:
        kind = KINDS[event.kind]
        if event.key is not None:
            known = self._keys.get((kind, event.key))
            if known is not None:
                return Receipt(Status.DUPLICATE, known)
            self._keys[kind, event.key] = self.seq + 1
        if kind == EXAMPLE:
            self._loaded += 1
            features = to_json(clean_row(event.body["features"]))
            target = to_json(clean_value(event.body["target"]))
            named = {"features": features, "value": target, "source": event.body.get("source")}
            seq = self._push(kind, event, ref=self.seq + 1, **named)
        else:
            seq = self._push(kind, event, body=to_json(dict(event.body)))
        return Receipt(Status.ACCEPTED, seq)

    def _push(self, kind: int, event: NewEvent, **columns: Any) -> int:
        self.seq += 1
        self._new.append(EventRow(self.seq, kind, float(event.at), event.key, **columns))
        return self.seq

    def _fetch(self, seq: int) -> EventRow:
        """An event's row, whether it is stored or about to be."""
        stored: int = self._model.last_seq
        if seq > stored:
            return self._new[seq - stored - 1]
        return self._statements.event(self._model.id, seq)

    def _recorded(self, seq: int) -> Event:
        row = self._fetch(seq)
        return prediction_of(row, None if row.ref is None else label_of(self._fetch(row.ref), None))

    def _write(self) -> None:
        model, at = self._model.id, self._new[-1].at
        self._statements.insert(model, self._new)
        counts = (self.seq, self._row, self._labelled, self._parked, self._loaded, at)
        self._statements.count(model, counts)
