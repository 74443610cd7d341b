"""The proof of a record as a job: a worker replays it up to a decision, and compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everlearn.loop.training import Progress
from everlearn.loop.verify import verify
from everlearn.ports import Artifacts, Ledger, Log, Versions
from everlearn.types import Checkpoint, Decision, JobSpec

KIND = "verify"


def plan(model: str, decision: Decision, retrain: bool, id: str) -> JobSpec:  # noqa: A002
    """The job that replays the record up to a decision; ``retrain``: trains every version again, too."""
    arguments = {"decision": decision.number, "upto": decision.seq, "retrain": retrain}
    return JobSpec(id, model, KIND, decision.version or 0, arguments)


def work(
    model: str,
    arguments: Mapping[str, Any],
    *,
    log: Log,
    ledger: Ledger,
    versions: Versions,
    artifacts: Artifacts,
    floor: Checkpoint | None,
    kept_from: int,
    progress: Progress,
) -> dict[str, Any]:
    """Do it; see :func:`everlearn.loop.verify.verify`."""
    found = verify(
        model,
        log=log,
        ledger=ledger,
        versions=versions,
        artifacts=artifacts,
        retrain=arguments["retrain"],
        upto=arguments["upto"],
        floor=floor,
        kept_from=kept_from,
        progress=progress,
    )
    return found.to_dict()
