"""A what-if over the workers: a job for each setting, and the report gathered from what they find.

Every job plays the same recording, up to one position of the log, as :func:`everlearn.loop.whatif.what_if`
does in one process, and the report is the same. The jobs share no trainings, so together they take longer;
with enough workers the answer comes sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

from everlearn.errors import InvalidError
from everlearn.loop.training import Progress
from everlearn.loop.whatif import NoCache, Play, Played, WhatIf, best_cadence
from everlearn.loop.whatif_library import Library
from everlearn.loop.whatif_record import of_log, read_log
from everlearn.loop.whatif_settings import Role, Setting, learner_name, references
from everlearn.ports import Log
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import ENDED, Job, JobSpec, JobState

KIND = "what_if"
MOST_SETTINGS = 100


def job_id(model: str, group: str, place: int) -> str:
    """The id of a job of a what-if; that at place 0 says how many there are."""
    return f"{model}-what-if-{group}-{place}"


def plan(base: ModelSpec, settings: Sequence[Setting], group: str, upto: int, labels: int,
         price: float | None) -> list[JobSpec]:  # fmt: skip
    """The jobs that play settings, the record and what stands beside them.

    ``upto`` is the position of the log where the recording ends, ``labels`` how many rows have one there.
    Raises InvalidError for too many settings.
    """
    if len(settings) > MOST_SETTINGS:
        raise InvalidError(
            f"{len(settings)} settings are too many: give {MOST_SETTINGS} or fewer combinations"
        )
    lines = [
        *(_line("setting", setting) for setting in settings),
        {"line": "recorded", "name": "as it was served", "role": "recorded", "spec": base.to_dict()},
        *_beside(settings, labels),
    ]
    common = {
        "group": group,
        "of": len(lines),
        "base": base.to_dict(),
        "upto": upto,
        "price": base.policy.price if price is None else price,
    }
    return [
        JobSpec(job_id(base.name, group, place), base.name, KIND, 0, {**common, **line})
        for place, line in enumerate(lines)
    ]


def _beside(settings: Sequence[Setting], labels: int) -> Iterator[dict[str, Any]]:
    """The reference policies and the oracle of each learner."""
    learners = {learner_name(setting.spec): setting.spec for setting in reversed(settings)}
    many = len(learners) > 1
    for name, spec in reversed(learners.items()):
        for setting in references(spec, labels, name if many else ""):
            yield _line(setting.role, setting)
        mark = f" + {name}" if many else ""
        yield {
            "line": "oracle",
            "name": f"oracle{mark}",
            "role": "oracle",
            "spec": spec.to_dict(),
            "mark": mark,
        }


def _line(line: str, setting: Setting) -> dict[str, Any]:
    return {"line": line, "name": setting.name, "role": setting.role, "spec": setting.spec.to_dict()}


def work(
    model: str, plan: Mapping[str, Any], log: Log, now: Callable[[], float], progress: Progress
) -> dict[str, Any]:
    """Play what one job is for; ``now`` tells what it costs, and decides nothing."""
    began = now()
    upto = plan["upto"]
    recording, _ = of_log(takewhile(lambda event: event.seq <= upto, read_log(log, model)))
    base, spec = parse_spec(plan["base"]), parse_spec(plan["spec"])
    play = Play(recording, base, NoCache(), Library(now), plan["price"])
    play.told = progress
    if plan["line"] == "recorded":
        line: Played | None = play.recorded()
    elif plan["line"] == "oracle":
        line = play.oracle(spec, plan["mark"])
    else:
        role: Role = plan["role"]
        line = play.setting(Setting(plan["name"], spec, role))
    return {
        "line": None if line is None else line.to_dict(),
        "rows": len(recording.rows),
        "events": len(recording.steps),
        "labels": recording.labels,
        "notes": [*recording.notes, *play.notes],
        "seconds": now() - began,
    }


def state_of(jobs: Sequence[Job]) -> str:
    """Where a what-if is: ``queued``, ``running``, ``done``, or ``failed`` if a job of it ended otherwise."""
    states = {job.state for job in jobs}
    if states <= {JobState.QUEUED}:
        return "queued"
    if not states <= set(ENDED):
        return "running"
    return "done" if states == {JobState.DONE} else "failed"


def gather(jobs: Sequence[Job]) -> WhatIf | None:
    """The report, once all jobs are done; ``None`` before, and where one ended otherwise."""
    if state_of(jobs) != "done":
        return None
    base = parse_spec(jobs[0].spec.arguments["base"])
    found = [(job.spec.arguments, job.result or {}) for job in jobs]
    lines = [(plan, Played(**result["line"])) for plan, result in found if result["line"] is not None]
    asked = [line for plan, line in lines if plan["line"] in ("setting", "recorded")]
    compared = list[Played]()
    for name in dict.fromkeys(_learner(plan) for plan, _ in lines):
        own = [(plan, line) for plan, line in lines if _learner(plan) == name]
        beside = [line for plan, line in own if plan["line"] not in ("setting", "recorded", "oracle")]
        oracle = next((line for plan, line in own if plan["line"] == "oracle"), None)
        compared += [*best_cadence(beside), *([oracle] if oracle else [])]
        if oracle is not None:
            _set_regrets((line for _, line in own if line is not oracle), oracle)
    first = found[0][1]
    notes = list(dict.fromkeys(note for _, result in found for note in result["notes"]))
    return WhatIf(
        base,
        first["rows"],
        first["events"],
        first["labels"],
        jobs[0].spec.arguments["price"],
        [*asked, *compared],
        max((job.finished_at or 0.0) - (job.created_at or 0.0) for job in jobs),
        notes,
    )


def _learner(plan: Mapping[str, Any]) -> str:
    return learner_name(parse_spec(plan["spec"]))


def _set_regrets(lines: Iterable[Played], oracle: Played) -> None:
    for line in lines:
        line.regret = line.cost - oracle.cost
