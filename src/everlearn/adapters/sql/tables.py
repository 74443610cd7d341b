"""The tables. ``migrations/`` makes them; a test holds the two together.

The row of ``models`` is the lock of its model: every transaction that changes a model takes that row
first, so positions are dense and commit order is the order of positions. It is rewritten by every
append, so large things (spec, loop state) live in tables beside it.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
)

from everlearn.adapters.rules import MAX_KEY
from everlearn.adapters.sql.dialects import NEVER_REUSED

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _model_id(*, primary_key: bool = False) -> Column[int]:
    key = ForeignKey("models.id", ondelete="CASCADE")
    return Column("model_id", Integer, key, primary_key=primary_key, nullable=False)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


models = Table(
    "models",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("champion", Integer, nullable=False, server_default="0"),
    Column("term", Integer, nullable=False, server_default="0"),
    Column("since", Double, nullable=False),
    _count("last_seq"),
    _count("last_row"),
    _count("labels"),
    _count("parked"),
    _count("examples"),
    Column("last_at", Double, nullable=False, server_default="0"),
    _count("cursor"),
    _count("decisions"),
    **NEVER_REUSED,
)

specs = Table("specs", metadata, _model_id(primary_key=True), Column("spec", Text, nullable=False))

checkpoints = Table(
    "checkpoints", metadata, _model_id(primary_key=True), Column("state", LargeBinary, nullable=False)
)

events = Table(
    "events",
    metadata,
    _model_id(primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", SmallInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("key", String(MAX_KEY)),
    # What this event is joined with: a label's prediction, the label that waited for a prediction, or an
    # example itself. So "ref is not null" marks the positions at which an example became known.
    Column("ref", BigInteger),
    # A prediction's number, which its labels carry too.
    Column("row", BigInteger),
    Column("version", Integer),
    Column("features", Text),
    Column("value", Text),
    Column("body", Text),
    # Who gave a label or an example.
    Column("source", String(200)),
)
_has_key = events.c.key.is_not(None)
_has_ref = events.c.ref.is_not(None)
Index("ix_events_key", events.c.model_id, events.c.key, sqlite_where=_has_key, postgresql_where=_has_key)
Index("ix_events_known", events.c.model_id, events.c.seq, sqlite_where=_has_ref, postgresql_where=_has_ref)
Index("ix_events_row", events.c.model_id, events.c.row, sqlite_where=_has_ref, postgresql_where=_has_ref)

# How long a log was at a time of the wall clock: what tells how old an event is, at no cost to an append.
log_marks = Table(
    "log_marks",
    metadata,
    _model_id(primary_key=True),
    Column("at", Double, primary_key=True),
    Column("seq", BigInteger, nullable=False),
)

log_floors = Table(
    "log_floors",
    metadata,
    _model_id(primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("kept_from", BigInteger, nullable=False),
    Column("known_from", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("state", LargeBinary, nullable=False),
)

# The removal of people's rows. ``gone`` says what to look for, until it is done; ``salt`` is the model's.
erasures = Table(
    "erasures",
    metadata,
    Column("id", String(40), primary_key=True),
    _model_id(),
    Column("salt", String(64), nullable=False),
    Column("subject", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("deadline", Double, nullable=False),
    Column("by", String(300), nullable=False),
    Column("removed", Text, nullable=False),
    Column("gone", Text),
    Column("certificate", Text),
    Column("done_at", Double),
    Index("ix_erasures_model_id", "model_id"),
)

# Salted digests of the ids of predictions that were erased: a label that is late for one is not kept.
erased_ids = Table(
    "erased_ids",
    metadata,
    _model_id(primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("erasure", String(40), nullable=False),
)

versions = Table(
    "versions",
    metadata,
    _model_id(primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("parent", Integer),
    Column("learner", Text, nullable=False),
    Column("parameters", Text, nullable=False),
    Column("learned_from", BigInteger, nullable=False),
    Column("learned_through", BigInteger, nullable=False),
    Column("learned_upto", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("digest", String(64)),
    Column("metrics", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("state", String(16), nullable=False),
)

promotions = Table(
    "promotions",
    metadata,
    _model_id(primary_key=True),
    Column("term", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("at", Double, nullable=False),
    Column("decision", BigInteger),
    ForeignKeyConstraint(
        ["model_id", "version"], ["versions.model_id", "versions.number"], ondelete="CASCADE"
    ),
)

decisions = Table(
    "decisions",
    metadata,
    _model_id(primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("version", Integer),
    Column("code", Text, nullable=False),
)

# The score over time: level 0 has a point for each window of matured rows, higher levels sums of those.
score_points = Table(
    "score_points",
    metadata,
    _model_id(primary_key=True),
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("row", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("score", Double),
    Column("lower", Double),
    Column("upper", Double),
    Column("low", Double),
    Column("high", Double),
    Column("no_change", Double),
    Column("never_updated", Double),
    Column("threshold", Double, nullable=False),
    Column("champion", Integer, nullable=False),
    Column("candidate", Text),
    Column("bake", Text),
    Index("ix_score_points_model_id_level_at", "model_id", "level", "at"),
)

# What the loop says of a model in a few numbers, beside its state, which is large.
cards = Table("cards", metadata, _model_id(primary_key=True), Column("card", LargeBinary, nullable=False))

jobs = Table(
    "jobs",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    _model_id(),
    Column("kind", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    _count("token"),
    Column("owner", Text),
    Column("lease_until", Double, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Double, nullable=False, server_default="0"),
    Column("progress", Double, nullable=False, server_default="0"),
    Column("error", Text),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    # The queue of its kind, when it was leased last, where its error came from, and what it found.
    Column("queue", String(32), nullable=False, server_default="train"),
    Column("started_at", Double),
    Column("traceback", Text),
    Column("result", Text),
    Index("ix_jobs_model_id_number", "model_id", "number"),
    Index("ix_jobs_model_id_started_at", "model_id", "started_at"),
    **NEVER_REUSED,
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until", Double, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("destination", String(64), nullable=False),
    _model_id(),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Double, nullable=False, server_default="0"),
    Column("error", Text),
    Index("ix_outbox_destination_id", "destination", "id"),
    Index("ix_outbox_model_id", "model_id"),
    **NEVER_REUSED,
)

receipts = Table(
    "receipts",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", String(128), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("at", Double, nullable=False, index=True),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("models", Text),
    Column("created_at", Double, nullable=False),
    Column("created_by", String(200), nullable=False),
    Column("expires_at", Double),
    Column("used_at", Double),
    Column("revoked_at", Double),
    Column("labels_per_day", Integer),
)

users = Table(
    "users",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("role", String(16)),
    Column("grants", Text, nullable=False),
    Column("password", Text),
    Column("invite", String(64)),
    Column("invite_until", Double),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revision", Integer, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user", String(100), nullable=False, index=True),
    Column("digest", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
)

audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("who", String(300), nullable=False),
    Column("action", String(300), nullable=False),
    Column("target", String(300), nullable=False),
    Column("result", Integer, nullable=False),
    Column("address", String(64), nullable=False),
    Column("request_id", String(64), nullable=False),
    Index("ix_audit_who_number", "who", "number"),
    **NEVER_REUSED,
)
