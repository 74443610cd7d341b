"""What names erased rows beside the log itself: jobs, what they reported, answers kept for repeats."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from everlearn.adapters import rules
from everlearn.adapters.scrub_rules import MAKING, WHY, Sought, kept_of, without
from everlearn.adapters.sql.codec import OUTCOME, from_json, to_json
from everlearn.adapters.sql.database import model_row
from everlearn.adapters.sql.jobs import find_jobs, write_job
from everlearn.adapters.sql.log import append_locked
from everlearn.adapters.sql.tables import events, jobs, outbox, receipts
from everlearn.adapters.sql.tables import versions as versions_
from everlearn.types import ENDED, Erasure, Gone, Job, VersionState


def scrub(
    connection: Connection, model: Row[Any], erasure: Erasure, versions: Sequence[int], now: float
) -> Mapping[str, int]:
    """Take out what an erasure removed, in a transaction that holds the model's row; how much there was."""
    gone = erasure.gone or Gone()
    sought = Sought.of(gone, erasure.seq)
    parts = _jobs(connection, model, sought, versions, now)
    found = {
        "jobs": len(parts),
        "outcomes": _outcomes(connection, model.id, sought, parts),
        "answers": _answers(connection, model.name, sought),
        "messages": _messages(connection, model.id, sought),
        "versions": _retire(connection, model, versions),
    }
    return {name: count for name, count in found.items() if count}


def _jobs(
    connection: Connection, model: Row[Any], sought: Sought, versions: Collection[int], now: float
) -> dict[str, list[int]]:
    """Cancel open jobs that may have read the rows, and take these out of what jobs were asked.

    The places of the rows of each job that was changed, by its id.
    """
    changed: dict[str, list[int]] = {}
    for job in find_jobs(connection, jobs.c.model_id == model.id):
        named = sought.touched_by(job)
        if job.state not in ENDED and (named or (job.spec.kind in MAKING and job.spec.version in versions)):
            _cancel(connection, model, job, now)
        if named:
            rows = job.spec.arguments.get("rows", [])
            changed[job.spec.id] = [i for i, row in enumerate(rows) if row[0] in sought.ids]
            arguments = to_json(without(job.spec.arguments, sought.ids))
            values = {"arguments": arguments, "result": None if job.result is None else to_json({})}
            connection.execute(update(jobs).where(jobs.c.id == job.spec.id).values(values))
    return changed


def _cancel(connection: Connection, model: Row[Any], job: Job, now: float) -> None:
    write_job(connection, rules.cancelled_job(job, WHY, now))
    if (event := rules.failure_of(job.spec, WHY, now)) is not None:
        append_locked(connection, model_row(connection, model.name), [event])


def _outcomes(connection: Connection, model: int, sought: Sought, parts: Mapping[str, Sequence[int]]) -> int:
    """Take the rows out of what jobs reported of rows one by one."""
    own = events.c.model_id == model, events.c.kind == OUTCOME, events.c.seq > min(sought.seqs, default=0)
    found = 0
    for row in connection.execute(select(events.c.seq, events.c.body).where(*own)).all():
        body = from_json(row.body)
        result = body.get("result") or {}
        kept = kept_of(result, sought.seqs, parts.get(body["job"], ()))
        if kept != result:
            there = update(events).where(events.c.model_id == model, events.c.seq == row.seq)
            connection.execute(there.values(body=to_json({**body, "result": kept})))
            found += 1
    return found


def _answers(connection: Connection, model: str, sought: Sought) -> int:
    """Remove answers that are kept for repeats and name one of the rows."""
    query = select(receipts.c.scope, receipts.c.key, receipts.c.body)
    found = 0
    for row in connection.execute(query).all():
        of_model = model in row.scope or row.scope.endswith(("/predict", "/invocations"))
        if of_model and (sought.named_by(row.scope) or _names(bytes(row.body), sought)):
            own = receipts.c.scope == row.scope, receipts.c.key == row.key
            found += connection.execute(delete(receipts).where(*own)).rowcount
    return found


def _names(body: bytes, sought: Sought) -> bool:
    try:
        return sought.named_in(from_json(body.decode() or "null"))
    except ValueError:  # no JSON: no answer of ours that names rows
        return False


def _messages(connection: Connection, model: int, sought: Sought) -> int:
    rows = connection.execute(select(outbox.c.id, outbox.c.body).where(outbox.c.model_id == model)).all()
    named = [row.id for row in rows if sought.named_in(from_json(row.body))]
    if named:
        connection.execute(delete(outbox).where(outbox.c.id.in_(named)))
    return len(named)


def _retire(connection: Connection, model: Row[Any], versions: Sequence[int]) -> int:
    """Let versions that do not answer never answer again."""
    others = [number for number in versions if number != model.champion]
    if not others:
        return 0
    own = versions_.c.model_id == model.id, versions_.c.number.in_(others)
    old = versions_.c.state != VersionState.ERASED.value
    changed = update(versions_).where(*own, old).values(state=VersionState.ERASED.value)
    return int(connection.execute(changed).rowcount)
