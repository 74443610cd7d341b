"""Answers for many rows, in columns: what a version says of them, recorded as one batch."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from starlette.concurrency import run_in_threadpool

from everlearn.adapters.batches import PredictionBatch
from everlearn.adapters.rules import same_features
from everlearn.api.parts import Door
from everlearn.api.runtime import Served
from everlearn.errors import ConflictError, Fault
from everlearn.predictor import Predictor, class_key
from everlearn.types import FloatArray, Output, Prediction, Receipt, Row, Scalar, Status

FEW = 64
"""Rows that are answered at once; more go to a thread, so that they hold up no other request."""

_encoder = msgspec.json.Encoder()


@dataclass(slots=True)
class Answers:
    """A list for each column (n,); ``grid`` has the probabilities (n, k) of the classes named by ``keys``.

    NaN in the grid is a class that an answer does not name. ``value_texts`` and ``probability_texts`` are
    the same as JSON (``None``: an answer without probabilities).
    """

    ids: list[str]
    versions: list[int]
    values: list[Scalar]
    value_texts: list[str]
    keys: tuple[str, ...]
    grid: FloatArray | None
    probability_texts: list[str | None]


def answered(served: Served, rows: Sequence[Row], table: FloatArray | None = None) -> Answers:
    """What the served version says of clean rows; ids and recorded repeats come later.

    ``table`` has the same rows as numbers (n, d), the columns by name, where all features are numbers.
    """
    predictor, n = served.predictor, len(rows)
    if not isinstance(predictor, Predictor) or predictor.spec.task == "detection":
        return of_outputs(predictor.predict(rows), served.version)
    classes = [] if predictor.spec.task == "regression" else predictor.learner.classes
    keys = tuple(class_key(label) for label in classes)
    if predictor.spec.task == "classification" and (not keys or len(set(keys)) < len(keys)):
        return of_outputs(predictor.predict(rows), served.version)
    if table is None or predictor.encoder.columns != list(served.schema.features):
        table = predictor.encoder.transform(rows)
    found = predictor.learner.predict(table)
    if predictor.calibrator is not None:
        found = predictor.calibrator.apply(found)
    if not keys:
        values: list[Scalar] = [x if np.isfinite(x) else None for x in found.tolist()]
        return Answers([], [served.version] * n, values, _texts(values), (), None, [None] * n)
    best = found.argmax(axis=1).tolist()
    names = [text(label) for label in classes]
    picked = [classes[i] for i in best]
    told = _objects(keys, found)
    return Answers([], [served.version] * n, picked, [names[i] for i in best], keys, found, told)


def of_outputs(outputs: Sequence[Output], version: int) -> Answers:
    """Outputs in columns, whatever classes each of them names."""
    keys = tuple(dict.fromkeys(key for output in outputs for key in output.probabilities or ()))
    values = [output.value for output in outputs]
    texts = [None if o.probabilities is None else text(o.probabilities) for o in outputs]
    grid = np.array([_spread(keys, o.probabilities) for o in outputs]) if keys else None
    return Answers([], [version] * len(values), values, [text(v) for v in values], keys, grid, texts)


def text(value: Scalar | Mapping[str, float]) -> str:
    """A value as JSON."""
    return _encoder.encode(value).decode()


def _objects(keys: Sequence[str], grid: FloatArray) -> list[str | None]:
    """Each row of a grid (n, k) as a JSON object."""
    pattern = ",".join(text(key).replace("%", "%%") + ":%s" for key in keys)
    numbers = iter(_texts(grid.ravel().tolist()))
    return [f"{{{pattern}}}" % cells for cells in zip(*[numbers] * len(keys), strict=True)]


def _texts(numbers: Sequence[Scalar]) -> list[str]:
    return _encoder.encode(numbers)[1:-1].decode().split(",") if numbers else []


def _spread(keys: Sequence[str], probabilities: Mapping[str, float] | None) -> list[float]:
    return [(probabilities or {}).get(key, np.nan) for key in keys]


def sided(
    served: Served, rows: Sequence[Row], ids: Sequence[str], table: FloatArray | None = None
) -> Answers:
    """The same, where a candidate may answer its share of the rows."""
    if served.candidate is None:
        return answered(served, rows, table)
    parts = []
    for side, places in served.sides(rows, ids):
        some = [rows[i] for i in places]
        numbers = None if table is None else table[list(places)]
        _, found = served.ask(side, lambda one, some=some, numbers=numbers: answered(one, some, numbers))  # type: ignore[misc]
        parts.append((places, found))
    # The classes of both, whoever answers, so that every chunk of a table has the same columns.
    both = [*(found.keys for _, found in parts), *(_keys(one) for one in (served, served.candidate))]
    return _together(parts, tuple(dict.fromkeys(key for keys in both for key in keys)), len(rows))


def _keys(served: Served) -> list[str]:
    learned = served.predictor
    if not isinstance(learned, Predictor) or learned.spec.task != "classification":
        return []
    return [class_key(label) for label in learned.learner.classes]


def _together(parts: Sequence[tuple[Sequence[int], Answers]], keys: tuple[str, ...], n: int) -> Answers:
    """Parts of a table in the order of its rows, their probabilities under the same ``keys``."""
    grid = np.full((n, len(keys)), np.nan) if keys else None
    whole = Answers([], [0] * n, [None] * n, [""] * n, keys, grid, [None] * n)
    for places, part in parts:
        for i, place in enumerate(places):
            whole.versions[place], whole.values[place] = part.versions[i], part.values[i]
            whole.value_texts[place] = part.value_texts[i]
            whole.probability_texts[place] = part.probability_texts[i]
        if grid is not None and part.grid is not None:
            columns = [keys.index(key) for key in part.keys]
            grid[np.ix_(list(places), columns)] = part.grid
    return whole


class FreshIds:
    """Ids that nobody has used, in the order of time, so that an index of them grows at its end."""

    def __init__(self) -> None:
        self._stem = f"{time.time_ns() // 1_000_000:012x}{uuid.uuid4().hex[:16]}"

    def take(self, start: int, count: int) -> list[str]:
        """The ids of rows ``start`` to ``start + count``."""
        return [f"{self._stem}{i:08d}" for i in range(start, start + count)]


@dataclass(frozen=True, slots=True)
class Recorder:
    """Answers parts of one table with what is served, and records each part before it is sent."""

    door: Door
    served: Served
    fresh: bool
    clash: Callable[[Sequence[tuple[int, str]], int], ConflictError] = lambda found, start: clash(
        found, start
    )

    def record(
        self,
        rows: Sequence[Row],
        ids: list[str],
        times: Sequence[float],
        start: int,
        table: FloatArray | None = None,
    ) -> Answers:
        """Answer clean rows, durably. Known ids get the answers that were recorded for them.

        ``table``: see :func:`answered`. Raises ConflictError, with nothing of these rows recorded, for an id
        known with other features.
        """
        found = self._answer(rows, ids, table)
        if not self.fresh:
            self._check(rows, ids, start)
        spec, batch = self.served.spec, self._batch(found, rows, times)
        receipts = self.door.parts.log.append(spec.name, batch, flush=spec.durability == "sync")
        return self._settled(found, receipts, start)

    async def record_few(self, rows: Sequence[Row], ids: list[str]) -> Answers:
        """The same for the rows of one short request, which shares its commit with others."""
        found = (
            await run_in_threadpool(self._answer, rows, ids) if len(rows) > FEW else self._answer(rows, ids)
        )
        batch = self._batch(found, rows, [self.door.parts.clock.now()] * len(rows))
        spec, writer = self.served.spec, self.door.writer
        flush = spec.durability == "sync"
        receipts = await writer.append(spec.name, list(batch), whole=not self.fresh, flush=flush)
        return self._settled(found, receipts, 0)

    def _answer(self, rows: Sequence[Row], ids: list[str], table: FloatArray | None = None) -> Answers:
        began = time.perf_counter()
        found = sided(self.served, rows, ids, table)
        self.door.instruments.predicted(self.served.roles(found.versions), time.perf_counter() - began)
        found.ids = ids
        return found

    def _batch(self, found: Answers, rows: Sequence[Row], times: Sequence[float]) -> PredictionBatch:
        return PredictionBatch(
            ids=found.ids,
            times=times,
            versions=list(found.versions),
            rows=rows,
            value_texts=list(found.value_texts),
            probability_texts=list(found.probability_texts),
            fresh=self.fresh,
        )

    def _check(self, rows: Sequence[Row], ids: Sequence[str], start: int) -> None:
        known = self.door.parts.log.find(self.served.spec.name, ids)
        features = {key: hit[0].features for key, hit in known.items() if hit[0] is not None}
        clashes = []
        for i, (key, row) in enumerate(zip(ids, rows, strict=True)):
            if not same_features(features.setdefault(key, row), row):
                clashes.append((start + i, key))
        if clashes:
            raise self.clash(clashes, start)

    def _settled(self, found: Answers, receipts: Sequence[Receipt], start: int) -> Answers:
        """The answers as they stand in the log."""
        for i, receipt in enumerate(receipts):
            if receipt.status is Status.CONFLICT:
                raise self.clash([(start + i, found.ids[i])], start)
            if isinstance(receipt.event, Prediction):
                _repeat(found, i, receipt.event)
        return found


def clash(found: Sequence[tuple[int, str]], recorded: int) -> ConflictError:
    """The error for rows whose ids are known with other features; it tells how many rows were recorded."""
    faults = [Fault(f"rows[{i}]", f"the id {key!r} is known with other features") for i, key in found]
    listed = "; ".join(f"{fault.field}: {fault.message}" for fault in faults[:5])
    return ConflictError(f"{listed}: use new ids. {recorded_rows(recorded)}", faults[:100])


def recorded_rows(count: int) -> str:
    """How much of a table was recorded, as a sentence."""
    return f"The {count} rows before were recorded" if count else "Nothing was recorded"


def _repeat(found: Answers, i: int, event: Prediction) -> None:
    """Put what was recorded first for an id in the place of the new answer."""
    output = event.output
    found.versions[i] = event.version
    found.values[i], found.value_texts[i] = output.value, text(output.value)
    told = output.probabilities
    found.probability_texts[i] = None if told is None else text(told)
    if found.grid is not None:
        found.grid[i] = _spread(found.keys, told)
