"""Predictions for tables: NDJSON, CSV, Arrow or Parquet in, any of them out, a chunk at a time.

The table is checked as a whole before anything is recorded. Then each chunk is answered, recorded
durably, and sent; memory holds one chunk, however long the table is. One champion answers all of it, and a
candidate on trial its share.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from loguru import logger
from starlette.concurrency import run_in_threadpool

from everlearn.api import formats
from everlearn.api.answers import FreshIds, Recorder, recorded_rows
from everlearn.api.bulk_columns import Named, checked_ids, checked_times
from everlearn.api.idempotency import IdempotencyKey, key_of
from everlearn.api.parts import Door, TheDoor
from everlearn.api.problems import problem_of, request_id_of
from everlearn.api.runtime import Served
from everlearn.api.table_parts import Kind, Part
from everlearn.api.table_write import Writer, writer
from everlearn.api.uploads import TableRoute, Upload, checked_first, moved, received
from everlearn.errors import EverlearnError, Fault, InvalidError, SchemaError, UnavailableError
from everlearn.types import FloatArray, Scalar

router = APIRouter(prefix="/v1/models/{model}", tags=["predictions"], route_class=TableRoute)

IdColumn = Annotated[str | None, Query(alias="id", max_length=200, description="The column of ids")]
AtColumn = Annotated[str | None, Query(alias="at", max_length=200, description="The column of times")]


@router.post("/predict", include_in_schema=False)
async def predict_table(
    model: str,
    request: Request,
    door: TheDoor,
    id_column: IdColumn = None,
    at_column: AtColumn = None,
    _: IdempotencyKey = None,
) -> Response:
    """Answer the rows of a table; told in full with the JSON route of this path."""
    kind = formats.answer_type(request.scope, formats.content_type(request.scope))
    served = await door.runtime.served(model)
    out = await run_in_threadpool(writer, kind, served)
    key = key_of(request)
    upload = await received(request)
    try:
        work = Work(door, served, upload, *_columns(served, id_column, at_column))
        await run_in_threadpool(work.check)
        if key is not None:
            await _claim(door, request, key, upload.digest)
            work.seed = hashlib.sha256(f"{model}\0{key}\0{upload.digest}".encode()).hexdigest()[:32]
        chunks = work.run(out)
        first = await run_in_threadpool(next, chunks, b"")
    except BaseException:
        upload.close()
        raise
    return StreamingResponse(_sent(request, kind, first, chunks, upload), media_type=kind)


async def _claim(door: Door, request: Request, key: str, digest: str) -> None:
    """Note what the key is used for; raises InvalidError if it was used for another table."""
    if await door.idempotency.recall(request, key, digest) is None:
        await door.idempotency.remember(request, key, digest, Response(status_code=204))


def _columns(served: Served, id_column: str | None, at_column: str | None) -> tuple[Named, Named]:
    """Where ids and times stand: in the columns asked for, else in ``id`` and ``at`` if these are free."""
    features = served.spec.columns
    for given in (id_column, at_column):
        if given is not None and given in features:
            message = f"{given[:60]!r} is a feature of the model: name another column"
            raise InvalidError(f"id or at: {message}", [Fault("id" if given == id_column else "at", message)])
    return (
        Named(id_column or (None if "id" in features else "id"), required=id_column is not None),
        Named(at_column or (None if "at" in features else "at"), required=at_column is not None),
    )


async def _sent(
    request: Request, kind: str, first: bytes, chunks: Iterator[bytes], upload: Upload
) -> AsyncIterator[bytes]:
    """The chunks as they are made. What goes wrong on the way is told on a last line of NDJSON; in the other
    formats the answer breaks off, which every client takes for an error."""
    try:
        yield first
        while (chunk := await run_in_threadpool(next, chunks, None)) is not None:
            yield chunk
    except EverlearnError as error:
        logger.warning("A table was answered in part: {}", error.detail)
        if kind != formats.NDJSON:
            raise
        told = msgspec.json.decode(problem_of(request_id_of(request), error).body)
        yield msgspec.json.encode({"error": told}) + b"\n"
    finally:
        upload.close()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A part that fits: clean rows from number ``start`` on, their ids (``None``: to be made) and times.

    ``table`` has the rows as numbers (n, d), where all features are numbers.
    """

    start: int
    rows: list[dict[str, Scalar]]
    ids: list[str] | None
    times: list[float]
    ignored: dict[str, int]
    table: FloatArray | None


@dataclass(slots=True)
class Work:
    """One table's way: checked as a whole, then answered part by part."""

    door: Door
    served: Served
    upload: Upload
    ids: Named
    at: Named
    seed: str | None = None
    _ready: Iterator[Prepared] = field(default_factory=lambda: iter(()), init=False)

    def check(self) -> None:
        """Raise InvalidError, naming the rows, unless every row fits. Nothing is recorded yet."""
        self._ready = checked_first(lambda: map(self._prepared, self._parts()))

    def run(self, out: Writer) -> Iterator[bytes]:
        """Answer, record, and give the bytes to send, chunk by chunk; the first holds a chunk's answers."""
        ignored: dict[str, int] = {}
        begun = out.head()
        fresh = FreshIds()
        for ready in self._ready:
            for name, times in ready.ignored.items():
                ignored[name] = ignored.get(name, 0) + times
            yield begun + self._answered(ready, fresh, out)
            begun = b""
        yield out.tail(ignored)

    def _answered(self, ready: Prepared, fresh: FreshIds, out: Writer) -> bytes:
        ids = ready.ids
        if ids is None and self.seed is not None:
            ids = [f"{self.seed}-{i}" for i in range(ready.start, ready.start + len(ready.rows))]
        recorder = Recorder(self.door, self.served, fresh=ids is None)
        ids = ids or fresh.take(ready.start, len(ready.rows))
        try:
            return out.write(recorder.record(ready.rows, ids, ready.times, ready.start, ready.table))
        except UnavailableError as error:
            raise UnavailableError(f"{error.detail}. {recorded_rows(ready.start)}") from None

    def _parts(self) -> Iterator[Part]:
        kinds: dict[str, Kind] = dict(self.served.spec.columns)
        if self.ids.name is not None:
            kinds[self.ids.name] = "text"
        if self.at.name is not None:
            kinds[self.at.name] = "timestamp"
        return self.upload.parts(kinds)

    def _prepared(self, part: Part) -> Prepared:
        ids = checked_ids(part, self.ids)
        times = checked_times(part, self.at, self.door.parts.clock.now())
        try:
            checked = part.checked(self.served.schema)
        except SchemaError as error:
            raise moved(error, part.start, "Nothing was recorded") from None
        table = part.numbers(self.served.schema)
        return Prepared(part.start, checked.rows, ids, times, dict(checked.ignored), table)
