"""Looking for what an erasure should have removed, in every table, by salted digests alone.

Every text in every column is hashed and compared with the digests of the erased ids, of the images that were
removed, and of the subject; JSON is taken apart, a path is looked at part by part. Rows that came after the
erasure are somebody's new rows, also if the subject has come back: of the log only what is older is looked
at, and the subject's own id is not looked for elsewhere then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Table, select

from everlearn.adapters.rules import digest_of
from everlearn.adapters.sql.codec import TICK, from_json
from everlearn.adapters.sql.database import Database, model_row
from everlearn.adapters.sql.digests import batches, tables_in_order
from everlearn.adapters.sql.tables import erased_ids, erasures, events, models
from everlearn.loop.erasing import digests_in, strings
from everlearn.types import Erasure

_OWN = frozenset({"erasures", "erased_ids"})
_EMPTY = ("key", "ref", "row", "version", "features", "value", "body", "source")


class Search(NamedTuple):
    """What a search found: leftovers, for people, and how many rows it read of each table."""

    leftovers: list[str]
    read: dict[str, int]


class SqlRemains:
    """:class:`everlearn.ports.Remains` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def salted(self, erasure: Erasure, texts: Iterable[str]) -> list[str]:
        """See the port."""
        with self._database.read() as connection:
            salt = _salt_of(connection, erasure)
        return [digest_of(salt, text) for text in texts]

    def search(
        self,
        erasure: Erasure,
        column: str | None,
        positions: list[tuple[int, int]],
        images: Collection[str] = (),
    ) -> Search:
        """See the port."""
        with self._database.read() as connection:
            model = model_row(connection, erasure.model)
            sought = _Sought(connection, erasure, column, positions, frozenset(images))
            found = Search([], {})
            for table in tables_in_order():
                if table.name not in _OWN:
                    _search(connection, table, model, sought, found)
            return found


class _Sought:
    """The digests that must not be there, and which texts have been looked at."""

    def __init__(
        self,
        connection: Connection,
        erasure: Erasure,
        column: str | None,
        positions: list[tuple[int, int]],
        images: frozenset[str],
    ) -> None:
        self.seqs = {seq for first, last in positions for seq in range(first, last + 1)}
        self._salt, self._images = _salt_of(connection, erasure), images
        ids = select(erased_ids.c.digest).where(erased_ids.c.erasure == erasure.id)
        self._ids = set(connection.scalars(ids))
        self._subject, self.column, self.seq = erasure.subject, column, erasure.seq
        self._known: dict[str, str] = {}
        self.returned = False

    def what(self, text: str) -> str:
        """What a text is of what is sought: ``an id``, ``an image``, ``the subject``, or nothing."""
        found = self._known.get(text)
        if found is None:
            digest = digest_of(self._salt, text)
            found = "an id" if digest in self._ids else "the subject" if digest == self._subject else ""
            found = "an image" if not found and digest in self._images else found
            self._known[text] = found
        return found


def _salt_of(connection: Connection, erasure: Erasure) -> str:
    return str(connection.scalar(select(erasures.c.salt).where(erasures.c.id == erasure.id)) or "")


def _search(connection: Connection, table: Table, model: Row[Any], sought: _Sought, found: Search) -> None:
    owned = "model_id" in table.columns
    where = table.c.model_id == model.id if owned else None
    if table is models:
        where = models.c.id == model.id
    count = 0
    for rows in batches(connection, table, where=where):
        for row in rows:
            count += 1
            what = _of_event(row, sought) if table is events else _of_row(row, sought)
            if what:
                place = f" at position {row.seq}" if table is events else ""
                found.leftovers.append(f"{table.name}{place} holds {what}")
    found.read[table.name] = count


def _of_event(row: Row[Any], sought: _Sought) -> str:
    """What an event holds; of newer ones only whether the subject has come back."""
    features = None if row.features is None else from_json(row.features)
    subject = features.get(sought.column) if features and sought.column else None
    if row.seq > sought.seq:
        if isinstance(subject, str) and sought.what(subject) == "the subject":
            sought.returned = True
        return ""
    if row.seq in sought.seqs and (
        row.kind != TICK or any(getattr(row, name) is not None for name in _EMPTY)
    ):
        return "what was erased there"
    if row.key is not None and sought.what(row.key) == "an id":
        return "an id"
    if isinstance(subject, str) and sought.what(subject) == "the subject":
        return "the subject"
    if any(sought.what(text) == "an image" for text in digests_in([features or {}])):
        return "an image"
    return _first(_texts(row.body), sought, subject=False)


def _of_row(row: Row[Any], sought: _Sought) -> str:
    return _first((text for value in row for text in _texts(value)), sought, subject=not sought.returned)


def _first(texts: Iterator[str], sought: _Sought, *, subject: bool) -> str:
    for text in texts:
        what = sought.what(text)
        if what and (subject or what != "the subject"):
            return what
    return ""


def _texts(value: Any) -> Iterator[str]:
    """The texts in a column's value: JSON's, or the value itself with the parts of a path."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str) or not value:
        return
    if value[0] in '{["':
        try:
            yield from strings(from_json(value))
        except ValueError:
            yield value
        return
    yield value
    if "/" in value:
        yield from value.split("/")
