"""What the doctor looks at beside files and services: who works, what waits, who may call, what answers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everlearn.doctor_findings import Finding, has_database
from everlearn.running import is_locked
from everlearn.types import QUEUES, JobState

if TYPE_CHECKING:
    from everlearn.access.keys import KeyRecord
    from everlearn.wiring import Installation

SOON_DAYS = 14.0
"""A key that ends within so many days is told of."""

DAY = 86_400.0
LONG_QUEUE = 100
SKEW_SECONDS = 5.0
STALE_DAYS = 1.0
"""How long a model may be under its threshold with nothing done about it."""

NAMED = 5


def check_workers(installation: Installation) -> Finding:
    """Whether somebody works: the scheduler by its lease, workers as processes, and their jobs."""
    from everlearn.scheduler import SCHEDULER

    if not has_database(installation):
        return Finding("workers", "ok", "none are needed yet")
    now, running = installation.clock.now(), is_locked(installation.settings.data)
    scheduler = installation.leases.holder(SCHEDULER, now)
    working = [job for job in installation.backlog.running() if job.lease_until >= now]
    here = len(list(processes_of("everlearn.worker", installation.settings.data)))
    text = f"{here} on this machine, {len(working)} jobs in hand"
    if scheduler is None:
        words = f"{text}; nobody schedules: no ticks, alerts or retention"
        mend = "everlearn up (or: everlearn scheduler)"
        return Finding("workers", "fail" if running else "warn", words, mend)
    if not here and not working and installation.ledger.behind(1):
        mend = "everlearn up (or: everlearn worker)"
        return Finding("workers", "warn", f"{text}, and events wait", mend)
    return Finding("workers", "ok", f"{text}; {scheduler} schedules")


def processes_of(module: str, data: Path) -> Iterator[int]:
    """The processes of this machine that run a module on a data folder, as far as can be seen (Linux)."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if module.encode() in command and _works_on(entry, command, data.absolute()):
                yield int(entry.name)
        except OSError:  # it ended, or is another user's
            continue


def _works_on(process: Path, command: list[bytes], data: Path) -> bool:
    """Whether a process was told of a data folder: by an argument, the environment, or where it runs."""
    if str(data).encode() in command:
        return True
    variable = b"EVERLEARN_DATA="
    told = [one for one in (process / "environ").read_bytes().split(b"\0") if one.startswith(variable)]
    if told:
        return told[0].removeprefix(variable) == str(data).encode()
    return (process / "cwd").readlink() / "everlearn-data" == data


def check_queue(installation: Installation) -> Finding:
    """What waits in the queues, and the jobs that went wrong in every attempt."""
    if not has_database(installation):
        return Finding("queue", "ok", "nothing waits yet")
    depths = installation.backlog.depths()
    waiting = {queue: depths.get(queue, {}).get(JobState.QUEUED.value, 0) for queue in QUEUES}
    dead = sum(states.get(JobState.DEAD.value, 0) for states in depths.values())
    full = {queue: count for queue, count in waiting.items() if count}
    text = ", ".join(f"{count} in {queue}" for queue, count in full.items()) or "nothing waits"
    if dead:
        text += f"; {dead} jobs are dead: they went wrong in every attempt"
        return Finding(
            "queue", "warn", text, "everlearn jobs list MODEL --state dead, then: everlearn jobs retry"
        )
    if max(waiting.values()) > LONG_QUEUE:
        return Finding("queue", "warn", text, "everlearn worker (more of them), or everlearn up --workers N")
    return Finding("queue", "ok", text)


def check_keys(installation: Installation) -> Finding:
    """Whether keys end soon, or have ended, that somebody still calls with."""
    if not has_database(installation):
        return Finding("keys", "ok", "none were made yet")
    now, records = installation.clock.now(), list(_keys(installation))
    ended = [one for one in records if _ended(one, now)]
    soon = [one for one in records if one.state(now) == "active" and _left(one, now) < SOON_DAYS * DAY]
    active = sum(one.state(now) == "active" for one in records)
    text = f"{active} are in use"
    if ended:
        text += f"; ended, and called with within a day before: {_named([one.name for one in ended])}"
    if soon:
        ends = [f"{one.name} (in {_left(one, now) / DAY:.0f} days)" for one in soon]
        text += f"; end soon: {_named(ends)}"
    if ended or soon:
        return Finding(
            "keys", "warn", text, "everlearn keys create NAME, hand it over, then: everlearn keys revoke ID"
        )
    return Finding("keys", "ok", text)


def _keys(installation: Installation) -> Iterator[KeyRecord]:
    cursor: str | None = None
    while True:
        page = installation.access.keys.list(cursor, 1000)
        yield from page.items
        if page.next is None:
            return
        cursor = page.next


def _left(record: KeyRecord, now: float) -> float:
    return float("inf") if record.expires_at is None else record.expires_at - now


def _ended(record: KeyRecord, now: float) -> bool:
    """Whether a key has run out that was called with until shortly before."""
    if record.revoked_at is not None or record.expires_at is None or record.expires_at > now:
        return False
    return record.used_at is not None and record.used_at > record.expires_at - DAY


def check_champions(installation: Installation) -> Finding:
    """Whether what answers is what should, and is kept current."""
    if not has_database(installation):
        return Finding("champions", "ok", "there are no models yet")
    from everlearn.loop.card import read_card

    standings = installation.scores.standings()
    missing = [name for name, digest in _digests(installation) if not installation.artifacts.sound(digest)]
    if missing:
        mend = "everlearn rollback MODEL, or restore the artifacts from the backup"
        return Finding(
            "champions", "fail", f"the stored version is missing or damaged: {_named(missing)}", mend
        )
    late = [f"{name} (answers with {has}, not {wants})" for name, has, wants in _other(installation)]
    if late:
        mend = "see what the server logs, or restart it: everlearn up"
        return Finding("champions", "warn", f"not loaded yet: {_named(late)}", mend)
    now = installation.clock.now()
    stale = [
        f"{one.model} ({card.state} for {(now - _since(one)) / DAY:.1f} days)"
        for one in standings
        if one.card
        for card in [read_card(one.card)]
        if card.severity == "trouble" and now - _since(one) > STALE_DAYS * DAY
    ]
    if stale:
        mend = "everlearn why MODEL, then: everlearn retrain MODEL (or unfreeze, or threshold)"
        return Finding(
            "champions", "warn", f"under their threshold, and nothing is done: {_named(stale)}", mend
        )
    return Finding("champions", "ok", f"{len(standings)} models answer with their champions")


def _since(standing: Any) -> float:
    """When something was decided of a model last."""
    return float(standing.since if standing.decision is None else standing.decision.at)


def _digests(installation: Installation) -> Iterator[tuple[str, str]]:
    for name, champion in sorted(installation.versions.champions().items()):
        if champion.digest is not None:
            yield name, champion.digest


def _other(installation: Installation) -> Iterator[tuple[str, int, int]]:
    """The models that the server on this folder answers for with another version than the champion."""
    from everlearn.client import Client, Retries
    from everlearn.running import read_server

    server = read_server(installation.settings.data)
    if server is None or not is_locked(installation.settings.data):
        return
    with Client(server.url, installation.api_key, retries=Retries(attempts=1), timeout=10.0) as client:
        for _ in range(2):  # a swap takes a moment
            found = [
                (one["name"], one["serving"], one["champion"])
                for one in client.models(limit=1000)
                if one["serving"] is not None and one["serving"] != one["champion"]
            ]
            if not found:
                return
            time.sleep(1.0)
        yield from found


def skew(installation: Installation) -> float | None:
    """By how many seconds the database's clock is ahead of this machine's; ``None`` for a file."""
    if re.match("postgres", installation.settings.database) is None:
        return None
    return installation.store.clock() - time.time()


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
