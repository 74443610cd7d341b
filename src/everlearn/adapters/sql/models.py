"""Models, versions and who answers, in SQL."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import Row, Select, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from everlearn.adapters import rules
from everlearn.adapters.sql.codec import from_json, to_json
from everlearn.adapters.sql.database import Database, locked_model_row, model_id
from everlearn.adapters.sql.log import append_locked
from everlearn.adapters.sql.outbox import tell
from everlearn.adapters.sql.tables import checkpoints, models, promotions, specs, versions
from everlearn.errors import ConflictError
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import Champion, Page, Version, VersionState

_CREATE = insert(models).returning(models.c.id)
_SPECS = select(models.c.name, specs.c.spec).join(specs, specs.c.model_id == models.c.id)
_CHAMPIONS: Select[Any] = select(
    models.c.name, models.c.champion, models.c.term, versions.c.digest, models.c.since
).outerjoin(versions, and_(versions.c.model_id == models.c.id, versions.c.number == models.c.champion))
# Changes whenever the champions do: a new model has a new id, a promotion a new term, and where there is
# neither, a model that goes makes them fewer.
_CHAMPIONS_MARK = select(func.count(), func.max(models.c.id), func.sum(models.c.term)).select_from(models)
_PAST: Select[Any] = (
    select(promotions.c.version, promotions.c.term, versions.c.digest, promotions.c.at)
    .join(models, models.c.id == promotions.c.model_id)
    .join(
        versions,
        and_(versions.c.model_id == promotions.c.model_id, versions.c.number == promotions.c.version),
    )
    .order_by(promotions.c.term.desc())
    .limit(1)
)


class SqlModels:
    """:class:`everlearn.ports.Models` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, spec: ModelSpec, at: float) -> None:
        """See the port."""
        try:
            with self._database.write() as connection:
                row = {"name": spec.name, "created_at": at, "since": at}
                number = connection.execute(_CREATE, row).scalar_one()
                text = to_json(spec.to_dict())
                connection.execute(insert(specs).values(model_id=number, spec=text))
                connection.execute(insert(checkpoints).values(model_id=number, state=b""))
                born = version_row(number, rules.baseline_version(spec.name, at))
                connection.execute(insert(versions).values(born))
                connection.execute(insert(promotions).values(model_id=number, term=0, version=0, at=at))
                model = locked_model_row(connection, spec.name)
                append_locked(connection, model, [rules.configure_event(spec, at)])
                tell(connection, number, rules.model_message(spec.name))
        except IntegrityError:
            raise rules.taken_name(spec.name) from None

    def get(self, name: str) -> ModelSpec:
        """See the port."""
        with self._database.read() as connection:
            row = connection.execute(_SPECS.where(models.c.name == name)).one_or_none()
        if row is None:
            raise rules.unknown_model(name)
        return _spec(row.spec)

    def update(self, spec: ModelSpec, at: float) -> None:
        """See the port."""
        with self._database.write() as connection:
            model = locked_model_row(connection, spec.name)
            text = to_json(spec.to_dict())
            connection.execute(update(specs).where(specs.c.model_id == model.id).values(spec=text))
            append_locked(connection, model, [rules.configure_event(spec, at)])
            tell(connection, model.id, rules.model_message(spec.name))

    def delete(self, name: str) -> None:
        """See the port. Every other table refers to ``models`` and is emptied with it."""
        with self._database.write() as connection:
            model = locked_model_row(connection, name)
            connection.execute(delete(models).where(models.c.id == model.id))

    def list(self, cursor: str | None = None, limit: int = 100) -> Page[ModelSpec]:
        """See the port."""
        rules.check_limit(limit)
        query = _SPECS.order_by(models.c.name).limit(limit + 1)
        if cursor is not None:
            query = query.where(models.c.name > cursor)
        with self._database.read() as connection:
            found = [_spec(row.spec) for row in connection.execute(query)]
        return rules.page_of(found, limit, lambda spec: spec.name)


class SqlVersions:
    """:class:`everlearn.ports.Versions` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._champions: tuple[tuple[Any, ...], Mapping[str, Champion]] = ((), {})

    def get(self, model: str, number: int) -> Version:
        """See the port."""
        with self._database.read() as connection:
            query = select(versions).where(versions.c.model_id == model_id(connection, model))
            row = connection.execute(query.where(versions.c.number == number)).one_or_none()
        if row is None:
            raise rules.unknown_version(model, number)
        return _version(model, row)

    def list(self, model: str, cursor: str | None = None, limit: int = 100) -> Page[Version]:
        """See the port."""
        rules.check_limit(limit)
        before = rules.number_of(cursor)
        with self._database.read() as connection:
            query = select(versions).where(versions.c.model_id == model_id(connection, model))
            if before is not None:
                query = query.where(versions.c.number < before)
            rows = connection.execute(query.order_by(versions.c.number.desc()).limit(limit + 1))
            found = [_version(model, row) for row in rows]
        return rules.page_of(found, limit, lambda version: version.number)

    def champion(self, model: str, at: float | None = None) -> Champion:
        """See the port."""
        with self._database.read() as connection:
            if at is None:
                row = connection.execute(_CHAMPIONS.where(models.c.name == model)).one_or_none()
                if row is None:
                    raise rules.unknown_model(model)
                return Champion(*row[1:])
            number = model_id(connection, model)
            query = _PAST.where(models.c.id == number, promotions.c.at <= at)
            row = connection.execute(query).one_or_none()
        if row is None:
            raise rules.not_yet(model, at)
        return Champion(*row)

    def champions(self) -> Mapping[str, Champion]:
        """See the port. While nothing has changed, the same mapping."""
        with self._database.read() as connection:
            mark = tuple(connection.execute(_CHAMPIONS_MARK).one())
            known, champions = self._champions
            if mark != known:  # read after the mark: what changes between the two is read again next time
                rows = connection.execute(_CHAMPIONS)
                champions = MappingProxyType({row[0]: Champion(*row[1:]) for row in rows})
                self._champions = mark, champions
        return champions


@lru_cache(maxsize=4096)
def _spec(text: str) -> ModelSpec:
    """A spec from its text; processes look at all of them every other second, and they seldom change."""
    return parse_spec(from_json(text))


def version_row(model: int, version: Version) -> dict[str, Any]:
    """A version as a row of ``versions``."""
    row = {name: getattr(version, name) for name in Version.__slots__ if name != "model"}
    return {
        **row,
        "model_id": model,
        "parameters": to_json(version.parameters),
        "metrics": to_json(version.metrics),
        "state": version.state.value,
    }


def add_version(connection: Any, model: int, version: Version) -> None:
    """Insert a version; raises ConflictError if its number is taken."""
    try:
        connection.execute(insert(versions).values(version_row(model, version)))
    except IntegrityError:
        message = f"Model {version.model!r} has a version {version.number} already."
        raise ConflictError(message) from None


def _version(model: str, row: Row[Any]) -> Version:
    fields = row._asdict()
    del fields["model_id"]
    fields["parameters"] = from_json(fields["parameters"])
    fields["metrics"] = from_json(fields["metrics"])
    fields["state"] = VersionState(fields["state"])
    return Version(model=model, **fields)
