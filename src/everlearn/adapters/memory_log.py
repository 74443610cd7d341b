"""One model's log in memory: everything is joined when it arrives, so that reading is slicing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

import msgspec

from everlearn.adapters.rules import clean_row, clean_value, outcome_body, same_features
from everlearn.loop.erasing import digests_in
from everlearn.types import (
    Command,
    Event,
    EventKind,
    Example,
    Gone,
    Head,
    Label,
    LoadedExample,
    NewEvent,
    Outcome,
    Output,
    Prediction,
    Receipt,
    Status,
    Tick,
)


class ModelLog:
    """The events of one model. Appending is O(1), reading is a slice, ``examples`` is O(asked for).

    ``known`` holds, in rising order, the positions at which an example became known or was corrected;
    ``learnable`` holds the example as of that position. An example "as of ``upto``" is then the last
    entry for its ``order`` at or before ``upto``, found by walking back from there.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.predictions: list[Prediction | None] = []
        self.erased: set[str] = set()
        self.by_id: dict[str, Prediction] = {}
        self.labels: dict[str, list[Label]] = {}
        self.keys: dict[tuple[EventKind, str], int] = {}
        self.known: list[int] = []
        self.learnable: list[Example] = []
        self.labelled = self.parked = self.loaded = 0
        self._adders: dict[EventKind, Callable[[NewEvent], Receipt]] = {
            EventKind.PREDICTION: self._add_prediction,
            EventKind.LABEL: self._add_label,
        }

    @property
    def seq(self) -> int:
        """The newest position."""
        return len(self.events)

    def append(self, event: NewEvent) -> Receipt:
        """Add one sound event, unless it repeats or contradicts another."""
        return self._adders.get(event.kind, self._add_other)(event)

    def _add_prediction(self, event: NewEvent) -> Receipt:
        name = event.key or ""
        features = clean_row(event.body["features"])
        known = self.by_id.get(name)
        if known is not None:
            if same_features(known.features, features):
                return Receipt(Status.DUPLICATE, known.seq, known)
            return Receipt(Status.CONFLICT, known.seq)
        seq, row = self.seq + 1, len(self.predictions) + 1
        output = Output(clean_value(event.body.get("value")), event.body.get("probabilities"))
        waiting = self.labels.get(name)
        label = waiting[-1] if waiting else None
        prediction = Prediction(seq, event.at, name, row, event.body["version"], features, output, label)
        self.events.append(prediction)
        self.predictions.append(prediction)
        self.by_id[name] = prediction
        if label is not None:
            self.parked -= 1
            self.labelled += 1
            self._learnable(prediction, label, seq)
        return Receipt(Status.ACCEPTED, seq)

    def _add_label(self, event: NewEvent) -> Receipt:
        name = event.key or ""
        value, correction = clean_value(event.body["value"]), bool(event.body.get("correction"))
        if name not in self.by_id and name in self.erased:
            return Receipt(Status.ERASED, None)
        history = self.labels.setdefault(name, [])
        if history and history[-1].value == value:
            return Receipt(Status.DUPLICATE, history[-1].seq)
        if history and not correction:
            return Receipt(Status.CONFLICT, history[-1].seq)
        prediction = self.by_id.get(name)
        first = not history
        # The first label of an id corrects nothing, however it is marked.
        source = event.body.get("source")
        label = Label(self.seq + 1, event.at, name, value, correction and not first, prediction, source)
        self.events.append(label)
        history.append(label)
        if prediction is None:
            self.parked += first
            return Receipt(Status.PARKED, label.seq)
        self.labelled += first
        self._learnable(prediction, label, label.seq)
        return Receipt(Status.ACCEPTED, label.seq)

    def _add_other(self, event: NewEvent) -> Receipt:
        if event.key is not None:
            known = self.keys.get((event.kind, event.key))
            if known is not None:
                return Receipt(Status.DUPLICATE, known)
            self.keys[event.kind, event.key] = self.seq + 1
        made = _other(self.seq + 1, event)
        self.events.append(made)
        if isinstance(made, LoadedExample):
            self.loaded += 1
            self.known.append(made.seq)
            self.learnable.append(
                Example(made.seq, made.seq, 0, made.at, made.features, made.target, source=made.source)
            )
        return Receipt(Status.ACCEPTED, made.seq)

    def _learnable(self, of: Prediction, label: Label, known: int) -> None:
        self.known.append(known)
        source = label.source
        self.learnable.append(
            Example(of.seq, known, of.row, of.at, of.features, label.value, of.version, of.output, source)
        )

    def examples(
        self, upto: int, after: int, newest: int | None, without: Mapping[str, int] | None = None
    ) -> list[Example]:
        """See :meth:`everlearn.ports.Log.examples`."""
        found: dict[int, Example] = {}
        out = without or {}
        for i in range(bisect_right(self.known, upto) - 1, -1, -1):
            if self.known[i] <= after or len(found) == newest:
                break
            example = self.learnable[i]
            if out and example.source is not None and example.known >= out.get(example.source, upto + 1):
                continue
            found.setdefault(example.order, example)
        return sorted(found.values(), key=lambda example: example.order)

    def pending(self, after_row: int, upto: int) -> list[Label]:
        """See :meth:`everlearn.ports.Log.pending`."""
        found: list[Label] = []
        for row in range(max(after_row, 0), len(self.predictions)):
            prediction = self.predictions[row]
            if prediction is None:
                continue
            if prediction.seq > upto:
                break
            newest: dict[str | None, Label] = {}
            later = [x for x in self.labels.get(prediction.id, ()) if prediction.seq < x.seq <= upto]
            for label in [prediction.label, *later]:
                if label is not None:
                    newest.pop(label.source, None)
                    newest[label.source] = _joined(label, prediction)
            found += newest.values()
        return found

    def find(self, ids: Sequence[str]) -> dict[str, tuple[Prediction | None, Label | None]]:
        """See :meth:`everlearn.ports.Log.find`."""
        found: dict[str, tuple[Prediction | None, Label | None]] = {}
        for name in ids:
            prediction, history = self.by_id.get(name), self.labels.get(name)
            if prediction is not None or history:
                found[name] = (prediction, _joined(history[-1], prediction) if history else None)
        return found

    def erase(self, column: str, subject: str, cursor: int, images: Sequence[str] = ()) -> Gone:
        """Put ticks in the place of a subject's events and of the labels of their predictions.

        ``images`` are the columns that hold images.
        """
        rows = [e for e in self.events if isinstance(e, Prediction | LoadedExample)]
        rows = [e for e in rows if e.features.get(column) == subject]
        predictions = [e for e in rows if isinstance(e, Prediction)]
        ids = {e.id for e in predictions}
        first = {name: self.labels[name][0] for name in ids if self.labels.get(name)}
        learned = [(max(first[e.id].seq, e.seq), first[e.id].value) for e in predictions if e.id in first]
        learned += [(e.seq, e.target) for e in rows if isinstance(e, LoadedExample)]
        seqs = sorted({e.seq for e in rows} | {one.seq for name in ids for one in self.labels.pop(name, [])})
        for seq in seqs:
            self.events[seq - 1] = Tick(seq, 0.0)
        for one in predictions:
            self.predictions[one.row - 1] = None
            del self.by_id[one.id]
        kept = [(k, e) for k, e in zip(self.known, self.learnable, strict=True) if k not in set(seqs)]
        kept = [(k, e) for k, e in kept if e.order not in set(seqs)]
        self.known, self.learnable = [k for k, _ in kept], [e for _, e in kept]
        self.labelled -= len(first)
        self.loaded -= len(rows) - len(predictions)
        self.erased |= ids
        truths = sorted((seq, value) for seq, value in learned if seq <= cursor and value is not None)
        known = min((seq for seq, _ in learned), default=None)
        numbers = sorted(e.row for e in predictions)
        files = sorted(digests_in((e.features for e in rows), images))
        return Gone(sorted(ids), numbers, seqs, truths, known, files)

    def head(self) -> Head:
        """Where this log stands."""
        at = self.events[-1].at if self.events else 0.0
        return Head(self.seq, len(self.predictions), self.labelled, self.parked, self.loaded, at)


def _joined(label: Label, prediction: Prediction | None) -> Label:
    return label if label.prediction is prediction else msgspec.structs.replace(label, prediction=prediction)


def _other(seq: int, event: NewEvent) -> Event:
    if event.kind is EventKind.EXAMPLE:
        features, target = clean_row(event.body["features"]), clean_value(event.body["target"])
        return LoadedExample(seq, event.at, features, target, event.body.get("source"))
    # Through JSON and back, so that the record is the caller's no more, and is what a database returns.
    body = msgspec.json.decode(msgspec.json.encode(dict(event.body)))
    if event.kind is EventKind.COMMAND:
        return Command(seq, event.at, body["name"], body.get("arguments") or {})
    if event.kind is EventKind.OUTCOME:
        return Outcome(seq, event.at, **outcome_body(body))
    return Tick(seq, event.at)
