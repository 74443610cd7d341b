"""The verbs of backfills: a version answers a stretch of its log after the fact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from everlearn.client.answers import Record
from everlearn.client.binding import Saving, Verb
from everlearn.client.calls import Call, Download, get, path, read_record, to_time, write
from everlearn.errors import InvalidError

if TYPE_CHECKING:
    from datetime import datetime

KINDS = {
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
    ".csv": "text/csv",
    ".arrow": "application/vnd.apache.arrow.stream",
    ".arrows": "application/vnd.apache.arrow.stream",
    ".parquet": "application/vnd.apache.parquet",
    ".pq": "application/vnd.apache.parquet",
}
"""Media types by the ends of file names."""


class BackfillVerbs:
    """What a version would have answered. All raise NotFoundError for an unknown model or backfill."""

    @Verb
    def backfill(
        self,
        model: str,
        version: int | None = None,
        *,
        after: int | None = None,
        upto: int | None = None,
        since: datetime | float | str | None = None,
        until: datetime | float | str | None = None,
        part_rows: int | None = None,
    ) -> Call[Record]:
        """Have the workers answer the log again with a version (default: the champion).

        All of it, or the positions after ``after`` and up to ``upto``, and of these the predictions made
        from ``since`` to ``until``, in jobs of ``part_rows`` positions. Gives ``{"id", "state", "progress",
        "jobs", "report"}``: ask :meth:`backfill_report` until it is done, then :meth:`backfill_rows`. Raises
        InvalidError that names the field at fault, ConflictError for a version that was withdrawn.
        """
        times = {name: to_time(at) for name, at in (("since", since), ("until", until)) if at is not None}
        numbers = {"version": version, "after": after, "upto": upto, "part_rows": part_rows}
        body = {**{name: number for name, number in numbers.items() if number is not None}, **times}
        return write("POST", path(model, "backfills"), body, read_record)

    @Verb
    def backfill_report(self, model: str, id: str) -> Call[Record]:  # noqa: A002
        """How far a backfill is, and its report once its ``state`` is ``done``."""
        return get(path(model, "backfills", id))

    @Verb
    def cancel_backfill(self, model: str, id: str) -> Call[Record]:  # noqa: A002
        """End those parts of a backfill that wait or run."""
        return write("POST", path(model, "backfills", id, "cancel"), {}, read_record)

    @Saving
    def backfill_rows(self, model: str, id: str, file: str | Path) -> Download:  # noqa: A002
        """Write the rows of a backfill that is done to a file, however many they are; returns its bytes.

        The name's end says the format: ``.parquet``, ``.csv``, ``.ndjson`` or ``.arrow`` (a stream). Raises
        ConflictError while it is not done.
        """
        headers = {"Accept": kind_of(Path(file))}
        return Download("GET", path(model, "backfills", id, "rows"), Path(file), headers=headers)


def kind_of(file: Path) -> str:
    """The media type that a file's name asks for; raises InvalidError for an unknown one."""
    kind = KINDS.get(file.suffix.lower())
    if kind is None:
        raise InvalidError(f"{file}: what is its format? Name it *.parquet, *.csv, *.ndjson or *.arrow")
    return kind
