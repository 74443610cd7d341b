"""Bodies too large for memory: kept in a temporary file, so that they can be read more than once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from tempfile import SpooledTemporaryFile
from typing import IO, TypeVar

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.routing import Match
from starlette.types import Scope

from everlearn.api import formats
from everlearn.api.table_arrow import read_arrow, read_parquet
from everlearn.api.table_parts import Kinds, Part
from everlearn.api.table_text import read_csv_text, read_ndjson
from everlearn.api.tables_guard import check_rows
from everlearn.errors import Fault, InvalidError, SchemaError

CHUNK = 10_000
"""Rows that are read, answered and recorded at once."""

SPOOL = 4 << 20
"""Bytes of a body that stay in memory; more go to a temporary file."""

T = TypeVar("T")

Reader = Callable[[IO[bytes], Kinds, int], Iterator[Part]]

READERS: Mapping[str, Reader] = {
    formats.NDJSON: read_ndjson,
    formats.CSV: read_csv_text,
    formats.ARROW: read_arrow,
    formats.PARQUET: read_parquet,
}


class TableRoute(APIRoute):
    """A route for bodies that are tables; others on the same path are some other route's."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """No match unless the body's media type is that of a table."""
        if scope["type"] == "http" and formats.content_type(scope) not in formats.TABLES:
            return Match.NONE, {}
        return super().matches(scope)


class Upload:
    """A body in a file, and how to read it."""

    def __init__(self, file: IO[bytes], kind: str, digest: str) -> None:
        self.file = file
        self.kind = kind
        self.digest = digest

    def parts(self, kinds: Kinds, size: int = CHUNK) -> Iterator[Part]:
        """The table from its start, ``size`` rows at a time; raises InvalidError for what is none."""
        self.file.seek(0)
        for part in READERS[self.kind](self.file, kinds, size):
            check_rows(part.start + part.size)
            yield part

    def close(self) -> None:
        """Be rid of the file."""
        self.file.close()


async def received(request: Request) -> Upload:
    """The body of a request, all of it."""
    kind = formats.content_type(request.scope)
    digest = hashlib.sha256(f"{request.url.query}\0{kind}\0".encode())
    file: IO[bytes] = SpooledTemporaryFile(max_size=SPOOL)  # noqa: SIM115 (the upload closes it)
    size = 0
    try:
        async for part in request.stream():
            digest.update(part)
            size += len(part)
            if size > SPOOL:
                await run_in_threadpool(file.write, part)
            else:
                file.write(part)
    except BaseException:
        file.close()
        raise
    return Upload(file, kind, digest.hexdigest())


def checked_first(make: Callable[[], Iterator[T]]) -> Iterator[T]:
    """Go through all once, for the errors that it raises; then give them. An only one is not made twice.

    Raises InvalidError when there are none.
    """
    count, last = 0, None
    for item in make():
        count, last = count + 1, item
    if last is None:
        raise InvalidError("The table has no rows: send at least one", [Fault("rows", "is empty")])
    return iter((last,)) if count == 1 else make()


def moved(error: SchemaError, start: int, told: str) -> SchemaError:
    """A part's faults, named by their rows in the whole table; ``told`` is a sentence that comes first."""
    faults = [Fault(_moved(fault.field, start), fault.message) for fault in error.faults[:100]]
    listed = "; ".join(f"{fault.field}: {fault.message}" for fault in faults[:5])
    return SchemaError(f"{told}. {listed}", faults)


def _moved(field: str, start: int) -> str:
    name, bracket, rest = field.partition("[")
    number, closing, tail = rest.partition("]")
    return f"{name}[{int(number) + start}]{tail}" if bracket and closing and number.isdigit() else field
