"""Bulk history: rows with their targets, as JSON, NDJSON, CSV, Arrow or Parquet."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from everlearn.api.auth import Caller, Principal
from everlearn.api.formats import ARROW, CSV, NDJSON, PARQUET, TABLES, UnsupportedError, content_type
from everlearn.api.idempotency import IdempotencyKey, digest_of, key_of
from everlearn.api.parts import Door, TheDoor
from everlearn.api.problems import documented, invalid
from everlearn.api.tables import read_csv, read_parts
from everlearn.api.times import Time
from everlearn.api.uploads import READERS
from everlearn.api.values import Value
from everlearn.errors import Fault, InvalidError, SchemaError
from everlearn.features.schema import Schema
from everlearn.spec import ModelSpec
from everlearn.types import EventKind, NewEvent, Scalar, Status

router = APIRouter(prefix="/v1/models/{model}", tags=["examples"])

CHUNK = 1000
"""Events in one append."""

SPOOL = 1 << 20
"""Bytes of an upload that stay in memory; more go to a temporary file."""

Table = tuple[Sequence[Mapping[str, Any]], Sequence[Any]]
Chunks = Callable[[], Iterator[Table]]


class ExamplesBody(BaseModel):
    """Rows with a target each. ``at`` is when they happened (default: now)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"rows": [{"length": 412, "sender": "ann@example.org"}], "targets": ["ham"]}
        },
    )
    rows: Annotated[list[dict[str, Any]], Field(min_length=1)]
    targets: list[Value]
    at: list[Time] | None = None

    @model_validator(mode="after")
    def _one_each(self) -> ExamplesBody:
        for name, values in (("targets", self.targets), ("at", self.at)):
            if values is not None and len(values) != len(self.rows):
                raise ValueError(f"{name}: {len(values)} for {len(self.rows)} rows: send one each")
        return self


class ExamplesAnswer(BaseModel):
    """How many examples the log holds of this request."""

    model_config = ConfigDict(json_schema_extra={"example": {"accepted": 5000}})
    accepted: int


_ENDINGS = {
    ".csv": CSV,
    ".parquet": PARQUET,
    ".pq": PARQUET,
    ".ndjson": NDJSON,
    ".jsonl": NDJSON,
    ".arrows": ARROW,
}

_TABLE = {"type": "string", "format": "binary"}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": ExamplesBody.model_json_schema()},
            NDJSON: {"schema": {"type": "string"}, "example": '{"length": 412, "label": "ham"}\n'},
            CSV: {"schema": {"type": "string"}, "example": "length,sender,label\n412,ann@example.org,ham\n"},
            ARROW: {"schema": _TABLE},
            PARQUET: {"schema": _TABLE},
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": _TABLE}}
            },
        },
    }
}


@router.post(
    "/examples",
    response_model=ExamplesAnswer,
    responses=documented(404, 413, 415, 422, 501, 503),
    openapi_extra=_BODY,
)
async def add_examples(
    model: str, request: Request, door: TheDoor, caller: Caller, _: IdempotencyKey = None
) -> Response:
    """Load history. All rows are checked first: if one does not fit, none is stored. The target column
    of a table is the one that the model's spec names."""
    spec = (await door.runtime.served(model)).spec
    key = key_of(request)
    upload = await _received(request, spec)
    try:
        before = await door.idempotency.recall(request, key, upload.digest) if key else None
        if before is not None:
            return before
        count, headers = await run_in_threadpool(store, door, spec, upload, key or uuid.uuid4().hex, caller)
    finally:
        upload.close()
    response = Response(f'{{"accepted":{count}}}', media_type="application/json", headers=headers)
    return await door.idempotency.remember(request, key, upload.digest, response) if key else response


@dataclass(frozen=True, slots=True)
class Upload:
    """Received examples: chunks that can be read again, times if any, and how to be rid of them."""

    chunks: Chunks
    digest: str
    close: Callable[[], None] = lambda: None
    times: Sequence[float] | None = None


async def _received(request: Request, spec: ModelSpec) -> Upload:
    kind = content_type(request.scope)
    if kind == "application/json":
        return _from_json(request, await request.body())
    if kind in TABLES:
        file = SpooledTemporaryFile(max_size=SPOOL)  # noqa: SIM115 (the upload closes it)
        try:
            async for part in request.stream():
                await run_in_threadpool(file.write, part)
        except BaseException:
            file.close()
            raise
        return await run_in_threadpool(_from_table, request, file, kind, spec)
    if kind == "multipart/form-data":
        return await _from_form(request, spec)
    raise _unsupported(f"Content-Type {kind or '(none)'!r}")


def _from_json(request: Request, raw: bytes) -> Upload:
    try:
        body = ExamplesBody.model_validate_json(raw)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise invalid([{**item, "loc": ("body", *item["loc"])} for item in found]) from None

    def chunks() -> Iterator[Table]:
        for start in range(0, len(body.rows), CHUNK):
            yield body.rows[start : start + CHUNK], body.targets[start : start + CHUNK]

    return Upload(chunks, digest_of(request, raw), times=body.at)


async def _from_form(request: Request, spec: ModelSpec) -> Upload:
    form = await request.form(max_files=1, max_fields=10)
    file = form.get("file")
    if not isinstance(file, UploadFile):
        await form.close()
        raise InvalidError("file: send the table as the form's field 'file'", [Fault("file", "is missing")])
    name = (file.filename or "").lower()
    kind = next((kind for end, kind in _ENDINGS.items() if name.endswith(end)), "")
    if not kind:
        await form.close()
        raise _unsupported("A file of this name")
    return await run_in_threadpool(_from_table, request, file.file, kind, spec)


def _from_table(request: Request, file: IO[bytes], kind: str, spec: ModelSpec) -> Upload:
    def chunks() -> Iterator[Table]:
        file.seek(0)
        if kind == CSV:
            return read_csv(file, spec, CHUNK)
        return read_parts(READERS[kind], file, spec, CHUNK)

    file.seek(0)
    digest = hashlib.sha256(f"{request.url.query}\0{kind}\0".encode())  # a form's boundary differs each time
    while block := file.read(1 << 20):
        digest.update(block)
    return Upload(chunks, digest.hexdigest(), file.close)


def _unsupported(what: str) -> UnsupportedError:
    kinds = f"application/json, {', '.join(TABLES)}, or a form with a file that ends in {', '.join(_ENDINGS)}"
    return UnsupportedError(f"{what} is not read here: send {kinds}")


def store(
    door: Door, spec: ModelSpec, upload: Upload, key: str, caller: Principal | None = None
) -> tuple[int, dict[str, str]]:
    """Check all examples, then append them in chunks, as a caller's; how many there are, and headers.

    Each has the key ``KEY:I``, so a repeat after a lost answer adds only what is missing.
    """
    schema = Schema.from_spec(spec)
    given = sum(len(targets) for _, targets, _ in checked(schema, upload.chunks()))
    if not given:
        raise InvalidError("The table has no rows: send at least one", [Fault("rows", "is empty")])
    headers = {} if caller is None else door.quotas.take(caller, given, door.parts.clock.now())
    source = None if caller is None else caller.name
    now, count = door.parts.clock.now(), 0
    for rows, targets, start in checked(schema, upload.chunks()):
        times = upload.times[start : start + len(rows)] if upload.times else [now] * len(rows)
        bodies = [
            {"features": row, "target": target, "source": source}
            for row, target in zip(rows, targets, strict=True)
        ]
        events = [
            NewEvent(EventKind.EXAMPLE, at, f"{key}:{start + i}", body)
            for i, (body, at) in enumerate(zip(bodies, times, strict=True))
        ]
        receipts = door.parts.log.append(spec.name, events)
        count += len(receipts)
        door.instruments.loaded(sum(receipt.status is Status.ACCEPTED for receipt in receipts))
    return count, headers


def checked(
    schema: Schema, chunks: Iterator[Table]
) -> Iterator[tuple[Sequence[Mapping[str, Scalar]], Sequence[Scalar], int]]:
    """Clean rows and canonical targets chunk by chunk, with the number of the first row of each.

    Raises SchemaError with the faults of the first chunk that has some, in rows of the whole.
    """
    start = 0
    for rows, targets in chunks:
        faults: list[Fault] = []
        clean: list[dict[str, Scalar]] = []
        canonical: list[Scalar] = []
        with _collected(faults):
            clean = schema.check(rows).rows
        with _collected(faults):
            canonical = schema.check_target(targets)
        if faults:
            moved = [Fault(_moved(fault.field, start), fault.message) for fault in faults[:100]]
            listed = "; ".join(f"{fault.field}: {fault.message}" for fault in moved[:10])
            raise SchemaError(f"Nothing was stored. {listed}", moved)
        yield clean, canonical, start
        start += len(rows)


@contextmanager
def _collected(faults: list[Fault]) -> Iterator[None]:
    try:
        yield
    except SchemaError as error:
        faults.extend(error.faults)


def _moved(field: str, start: int) -> str:
    name, bracket, rest = field.partition("[")
    number, closing, tail = rest.partition("]")
    return f"{name}[{int(number) + start}]{tail}" if bracket and closing and number.isdigit() else field
