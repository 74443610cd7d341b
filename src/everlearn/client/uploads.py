"""Bulk history cut into requests of a size that a server takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from everlearn.client.calls import Call, Progress, Series, read_record, to_time, write
from everlearn.errors import InvalidError

if TYPE_CHECKING:
    from datetime import datetime

    from everlearn.types import Row, Scalar

_PATIENCE = 300.0  # A large upload is parsed and stored before it is answered.
_KINDS = {".csv": "text/csv", ".parquet": "application/vnd.apache.parquet"}


def read_accepted(response: httpx.Response) -> int:
    """How many examples an upload stored."""
    return int(read_record(response)["accepted"])


def upload_rows(
    url: str,
    rows: Iterable[Row],
    targets: Iterable[Scalar],
    at: Iterable[datetime | float | str] | None,
    chunk: int,
    progress: Progress | None,
    key: str,
) -> Series:
    """Rows with their targets, ``chunk`` a request."""
    if chunk < 1:
        raise InvalidError(f"chunk is {chunk}: it must be at least 1")
    columns: list[Iterable[Any]] = [rows, targets] if at is None else [rows, targets, map(to_time, at)]
    total = len(rows) if isinstance(rows, Sized) else None
    names = ("rows", "targets", "at")

    def calls() -> Iterator[tuple[Call[int], int]]:
        records = _together(columns)
        done = 0
        while taken := list(islice(records, chunk)):
            body = dict(zip(names, zip(*taken, strict=True), strict=False))
            call = write("POST", url, body, read_accepted, key=f"{key}:{done}", patience=_PATIENCE)
            done += len(taken)
            yield call, done

    return Series(calls(), total, progress)


def _together(columns: list[Iterable[Any]]) -> Iterator[tuple[Any, ...]]:
    try:
        yield from zip(*columns, strict=True)
    except ValueError:
        raise InvalidError("rows, targets and at differ in length: give one of each for every row") from None


def upload_file(url: str, source: Path, chunk: int, progress: Progress | None, key: str) -> Series:
    """A CSV or Parquet file; a CSV over ``chunk`` bytes goes in several requests, header repeated."""
    kind = _KINDS.get(source.suffix.lower())
    if kind is None:
        raise InvalidError(f"{source} is neither .csv nor .parquet: convert it, or load rows from Python")
    if not source.is_file():
        raise InvalidError(f"{source} is not a file: check the path")
    parts = cut_csv(source, chunk) if kind == "text/csv" else iter([(source.read_bytes(), _size(source))])

    def calls() -> Iterator[tuple[Call[int], int]]:
        for content, done in parts:
            headers = {"Content-Type": kind, "Idempotency-Key": f"{key}:{done}"}
            yield (
                Call("POST", url, read_accepted, headers=headers, content=content, patience=_PATIENCE),
                done,
            )

    return Series(calls(), _size(source), progress)


def _size(source: Path) -> int:
    return source.stat().st_size


def cut_csv(source: Path, chunk: int) -> Iterator[tuple[bytes, int]]:
    """A CSV in pieces of about ``chunk`` bytes, each with the header, and the bytes read so far.

    Pieces end where a record ends: a line break inside quotes is part of its record (RFC 4180).
    """
    with source.open("rb") as lines:
        records = _records(lines)
        header = next(records, b"")
        part, size, done = [header], 0, len(header)
        for record in records:
            part.append(record)
            size += len(record)
            done += len(record)
            if size >= chunk:
                yield b"".join(part), done
                part, size = [header], 0
        if size or done == len(header):
            yield b"".join(part), done


def _records(lines: Iterable[bytes]) -> Iterator[bytes]:
    record, quotes = b"", 0
    for line in lines:
        record += line
        quotes += line.count(b'"')
        if quotes % 2 == 0:
            yield record
            record, quotes = b"", 0
    if record:
        yield record
