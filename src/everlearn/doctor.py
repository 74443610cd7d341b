"""``everlearn doctor``: looks at what an installation needs, and names the command that mends it.

Looking changes nothing: no folder, key or database is made.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from everlearn.doctor_findings import Finding, has_database
from everlearn.doctor_fleet import (
    SKEW_SECONDS,
    check_champions,
    check_keys,
    check_queue,
    check_workers,
    skew,
)
from everlearn.errors import EverlearnError, UnavailableError
from everlearn.running import is_locked, is_ready, read_server
from everlearn.sweeping import look
from everlearn.types import JobState
from everlearn.vision.extra import LICENCE
from everlearn.wiring import Installation, describe_settings

LITTLE_SPACE = 2 << 30
NO_SPACE = 200 << 20
OVERDUE_SECONDS = 30.0
FUTURE_SECONDS = 300.0
DAY = 86_400.0
IDLE_DAYS = 3.0
FIRST_SANE_TIME = 1_735_689_600.0  # 2025-01-01: an earlier clock was never set
LOOK_SECONDS = 1.5
MLFLOW_SECONDS = 30.0
OTHER_VARIABLES = {"EVERLEARN_URL", "EVERLEARN_DEBUG", "EVERLEARN_PARENT_PID", "EVERLEARN_LISTEN_FD"}
EXTRAS = {
    "mlflow": "mlflow",
    "parquet": "pyarrow",
    "plot": "matplotlib",
    "postgres": "psycopg",
    "s3": "s3fs",
    "celery": "celery",
}


def examine(installation: Installation) -> Iterator[Finding]:
    """Look at everything, one finding after the other; a check that breaks is a finding too."""
    for name, check in CHECKS.items():
        try:
            yield check(installation)
        except EverlearnError as error:
            yield Finding(name, "fail", error.detail)
        except Exception as error:
            yield Finding(name, "fail", f"{type(error).__name__}: {error}")


def check_data(installation: Installation) -> Finding:
    """Whether the data folder is there and can be written."""
    data = installation.settings.data
    if not data.is_dir():
        return Finding("data folder", "warn", f"{data.absolute()} is not there yet", "everlearn up")
    try:
        with tempfile.TemporaryFile(dir=data):
            return Finding("data folder", "ok", str(data.absolute()))
    except OSError as error:
        mend = f"chown -R $(id -un) {data}"
        return Finding("data folder", "fail", f"{data} cannot be written: {error.strerror}", mend)


def check_disk(installation: Installation) -> Finding:
    """Whether there is room for the log to grow."""
    data = installation.settings.data
    free = shutil.disk_usage(data if data.is_dir() else ".").free
    text = f"{free / 2**30:.1f} GiB free"
    if free < NO_SPACE:
        return Finding("disk", "fail", text, f"free some space on the disk of {data}, or use another --data")
    if free < LITTLE_SPACE:
        return Finding("disk", "warn", text, f"free some space on the disk of {data}")
    return Finding("disk", "ok", text)


def check_key(installation: Installation) -> Finding:
    """Whether there is a key, and only its owner can read it."""
    settings = installation.settings
    if settings.api_key is not None:
        return Finding("key", "ok", f"from EVERLEARN_API_KEY ({len(installation.api_key)} characters)")
    path = settings.key_path
    if not path.is_file() and settings.api_key_file is None:
        return Finding("key", "warn", "none was made yet", "everlearn up")
    key = installation.api_key
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Finding("key", "fail", f"{path} can be read by others (mode {mode:03o})", f"chmod 600 {path}")
    return Finding("key", "ok", f"{path}, {len(key)} characters, mode {mode:03o}")


def check_clock(installation: Installation) -> Finding:
    """Whether the clock was set, and the newest events are not from the future."""
    now = installation.clock.now()
    mend = "set the clock: timedatectl set-ntp true"
    if now < FIRST_SANE_TIME:
        return Finding("clock", "fail", f"it says {time.strftime('%Y-%m-%d', time.gmtime(now))}", mend)
    if has_database(installation):
        ahead = skew(installation)
        if ahead is not None and abs(ahead) > SKEW_SECONDS:
            text = f"the database's clock differs by {ahead:+.0f} s: leases end too early or too late"
            return Finding("clock", "fail", text, f"{mend}, on both machines")
        newest = max((installation.log.head(name).at for name in installation.model_names()), default=0.0)
        if newest > now + FUTURE_SECONDS:
            text = f"the newest event is {newest - now:.0f} s in the future"
            return Finding("clock", "warn", text, f"{mend}, or mind the times that callers send")
    return Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))


def check_database(installation: Installation) -> Finding:
    """Whether the database answers and has the newest schema."""
    if not has_database(installation):
        return Finding("database", "warn", "it was not made yet", "everlearn up")
    try:
        return Finding("database", "ok", installation.store.check())
    except EverlearnError as error:
        return Finding("database", "fail", error.detail, "everlearn up (it brings the schema up to date)")


def check_server(installation: Installation) -> Finding:
    """Whether the API answers and is ready."""
    data = installation.settings.data
    server = read_server(data)
    if server is None or not is_locked(data):
        return Finding("server", "warn", "no server runs on this data folder", "everlearn up")
    if is_ready(server.url):
        return Finding("server", "ok", f"{server.url} is ready (process {server.pid})")
    mend = f"see what it logs, or: kill {server.pid} && everlearn up"
    return Finding("server", "fail", f"{server.url} is not ready (process {server.pid})", mend)


def check_loop(installation: Installation) -> Finding:
    """Whether the loop is at the end of every log, or at least moving there."""
    if not has_database(installation):
        return Finding("loop", "ok", "nothing to read yet")
    before = _lags(installation)
    if not before:
        return Finding("loop", "ok", "it has read every log to the end")
    time.sleep(LOOK_SECONDS)
    after = _lags(installation)
    events = sum(head - cursor for head, cursor in after.values())
    stuck = [name for name in before if name in after and after[name][1] == before[name][1]]
    if not stuck:
        return Finding("loop", "ok", f"{events} events behind, and moving")
    text = f"stands still on {', '.join(stuck)} ({events} events behind)"
    running = is_locked(installation.settings.data)
    mend = "see what the worker logs" if running else "everlearn up"
    return Finding("loop", "fail" if running else "warn", text, mend)


def check_jobs(installation: Installation) -> Finding:
    """Whether jobs hang or failed."""
    if not has_database(installation):
        return Finding("jobs", "ok", "none yet")
    now = installation.clock.now()
    newest = [
        job for name in installation.model_names() for job in installation.jobs.list(name, limit=20).items
    ]
    late = [
        job.spec.id
        for job in newest
        if (job.state is JobState.RUNNING and job.lease_until < now - OVERDUE_SECONDS)
        or (job.state is JobState.QUEUED and max(job.not_before, job.created_at) < now - 20 * OVERDUE_SECONDS)
    ]
    if late:
        return Finding(
            "jobs", "fail", f"nobody works on {', '.join(late[:5])}", "everlearn up (or: everlearn worker)"
        )
    failed = [job for job in newest if job.state in (JobState.FAILED, JobState.DEAD)]
    if failed:
        text = f"{len(failed)} of the newest failed; {failed[0].spec.id}: {failed[0].error}"
        return Finding("jobs", "warn", text, f"everlearn decisions {failed[0].spec.model} --kind fail")
    running = sum(job.state in (JobState.RUNNING, JobState.QUEUED) for job in newest)
    return Finding("jobs", "ok", f"{running} at work or waiting")


def check_retention(installation: Installation) -> Finding:
    """How far the logs have been thinned out, and whether that stands still."""
    days = installation.settings.retention_days
    if not has_database(installation) or days is None:
        return Finding("retention", "ok", "every event is kept" if days is None else "nothing to drop yet")
    before, retention = installation.clock.now() - (days + IDLE_DAYS) * DAY, installation.retention
    floors = {name: retention.floor(name) for name in installation.model_names()}
    ends = {name: 0 if floor is None else floor.seq for name, floor in floors.items()}
    late = [name for name, end in ends.items() if retention.logged_by(name, before) > end]
    text = f"events are kept for {days:g} days; {sum(map(bool, ends.values()))} logs have been thinned out"
    if late:
        return Finding("retention", "warn", f"{text}; not {', '.join(late)}", "see what the scheduler logs")
    return Finding("retention", "ok", text)


def check_alerts(installation: Installation) -> Finding:
    """Whether the file of receivers is sound, and whether alerts wait for one."""
    from everlearn.adapters.alerts.delivery import place_of

    plan = installation.alert_plan
    if not plan.receivers:
        where = installation.settings.alerts_path
        return Finding("alerts", "ok", f"nobody is told of alerts: write {where} (see docs/alerts.md)")
    if not has_database(installation):
        return Finding("alerts", "ok", f"{len(plan.receivers)} receivers")
    waiting = {one.name: installation.outbox.waiting(place_of(one.name)) for one in plan.receivers}
    late = [f"{count} for {name}" for name, count in waiting.items() if count > MANY_ALERTS]
    if late:
        return Finding("alerts", "warn", f"alerts wait: {', '.join(late)}", "everlearn alerts test")
    return Finding("alerts", "ok", f"{len(plan.receivers)} receivers, {sum(waiting.values())} alerts wait")


def check_artifacts(installation: Installation) -> Finding:
    """Whether the stored versions can be listed, and how much of them nothing refers to any more."""
    if not has_database(installation):
        return Finding("artifacts", "ok", "none yet")
    where = installation.settings.artifacts_url or str(installation.settings.artifacts_folder)
    try:
        found = look(installation)
    except UnavailableError as error:
        mend = "mend it; what is loaded goes on answering, and jobs that need it are tried again"
        return Finding("artifacts", "fail", error.detail, mend)
    total, loose = sum(one.bytes for one in found.kept), sum(one.bytes for one in found.garbage)
    text = f"{where}: {len(found.kept)} bundles, {total / 2**20:.1f} MiB"
    if loose:
        text += f"; {loose / 2**20:.1f} MiB more in {len(found.garbage)} that nothing refers to"
    worth_it = loose > max(total, 100 << 20)
    return Finding("artifacts", "warn" if worth_it else "ok", text, "everlearn gc" if worth_it else None)


def check_mlflow(installation: Installation) -> Finding:
    """Whether MLflow answers; it may be slow, so it is not waited for without end."""
    uri = installation.settings.mlflow_uri
    if uri is None:
        return Finding("MLflow", "ok", "off (MLFLOW_TRACKING_URI)")
    if not installation.mirrors:
        return Finding("MLflow", "ok", "not installed, so nothing is mirrored")
    if not has_database(installation):
        return Finding("MLflow", "ok", f"nothing to mirror to {uri} yet")
    waiting = installation.outbox.waiting("registry")
    if (
        uri.startswith("sqlite:///")
        and not (installation.settings.data / "mlflow.db").exists()
        and not waiting
    ):
        return Finding("MLflow", "ok", f"nothing was mirrored to {uri} yet")
    registry = installation.registry
    line = None if registry is None else _within(registry.check, MLFLOW_SECONDS)
    if line is None:
        text = f"{uri} does not answer; {waiting} messages wait for it, and nothing else does"
        return Finding(
            "MLflow", "warn", text, "start it, or mend MLFLOW_TRACKING_URI; it catches up by itself"
        )
    return Finding("MLflow", "ok", f"{line}; {waiting} messages wait")


def check_broker(installation: Installation) -> Finding:
    """Whether the broker answers that tells workers of work."""
    url = installation.broker_url
    if url is None:
        return Finding("broker", "ok", "none: workers look into the database for work")
    from everlearn.adapters.celery import CeleryBroker

    broker = CeleryBroker(url, prefix=installation.settings.broker_prefix)
    try:
        return Finding("broker", "ok", broker.check())
    except UnavailableError as error:
        mend = "start it, or mend EVERLEARN_BROKER_URL; what waits is done as soon as it answers"
        return Finding("broker", "fail", error.detail, mend)
    finally:
        broker.close()


def check_settings(installation: Installation) -> Finding:
    """Whether a variable looks like a setting and is none: a typing error has no effect otherwise."""
    known = {info.variable for info in describe_settings()} | OTHER_VARIABLES
    known |= {f"EVERLEARN_{info.field.upper()}" for info in describe_settings()}
    strange = sorted(name for name in os.environ if name.startswith("EVERLEARN_") and name not in known)
    if strange:
        return Finding("settings", "warn", f"no such setting: {', '.join(strange)}", "everlearn settings")
    return Finding("settings", "ok", f"{len(installation.settings.model_fields_set)} are set")


def check_extras(installation: Installation) -> Finding:
    """Which optional parts are installed, and whether one is missing that the settings ask for."""
    missing = [extra for extra, module in EXTRAS.items() if find_spec(module) is None]
    if "postgres" in missing and (installation.settings.database_url or "").startswith("postgresql"):
        return Finding("extras", "fail", "PostgreSQL needs a driver", "pip install 'everlearn[postgres]'")
    words = "all are installed"
    if missing:
        words = f"not installed: {', '.join(missing)} (pip install 'everlearn[all]')"
    if find_spec("ultralytics") is not None:
        words += f"; detectors are, by Ultralytics, which is under the {LICENCE}"
    return Finding("extras", "ok", words)


MANY_ALERTS = 20
"""Alerts that wait for one receiver from which on it seems to be gone."""

CHECKS: dict[str, Callable[[Installation], Finding]] = {
    "data folder": check_data,
    "disk": check_disk,
    "key": check_key,
    "keys": check_keys,
    "database": check_database,
    "clock": check_clock,
    "server": check_server,
    "workers": check_workers,
    "loop": check_loop,
    "queue": check_queue,
    "jobs": check_jobs,
    "champions": check_champions,
    "retention": check_retention,
    "alerts": check_alerts,
    "artifacts": check_artifacts,
    "MLflow": check_mlflow,
    "broker": check_broker,
    "settings": check_settings,
    "extras": check_extras,
}


def _lags(installation: Installation) -> dict[str, tuple[int, int]]:
    """The models that are behind, each with the end of its log and how far the loop is."""
    behind = installation.ledger.behind(1000)
    return {
        name: (installation.log.head(name).seq, installation.ledger.checkpoint(name).cursor)
        for name in behind
    }


def _within(ask: Callable[[], str], seconds: float) -> str | None:
    """What ``ask`` says, or ``None`` if it fails or takes longer."""
    said: list[str] = []

    def run() -> None:
        try:
            said.append(ask())
        except Exception:
            return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return said[0] if said else None
