"""A million rows through every learner; its state in a new process; a class that comes late.

Run as a script it is the process in which one learner is measured: it reads a job on standard input and
prints a result. With ``{"load": FOLDER, ...}`` it is the new process that loads a stored version.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from learners_streams import ours
from peers.harness import forget_peak, resident
from runs import Bench, Failed
from streams import spinning

LATE_ROW = 10_000
EXAMPLES = 200
MARKS = (10_000, 50_000, 100_000, 200_000, 400_000, 600_000, 800_000, 1_000_000)
WARM = 200_000
"""Rows after which memory must stay flat."""


def run(bench: Bench, options: Any) -> list[dict[str, Any]]:
    """Each learner in a process of its own."""
    found = []
    rows = 5000 if options.quick else options.rows
    for entry in ours(options.quick):
        bench.console.print(f"memory: {entry.name}, {rows:,} rows", style="dim")
        job = {
            "learner": entry.learner,
            "parameters": entry.parameters,
            "seed": options.seed,
            "rows": rows,
            "late_row": 1000 if options.quick else LATE_ROW,
        }
        try:
            found.append({"learner": entry.name, **process(job)})
        except Failed as reason:
            found.append({"learner": entry.name, "failed": str(reason)})
    return found


def process(job: dict[str, Any]) -> dict[str, Any]:
    """The result of a job in a new process; raises Failed."""
    done = subprocess.run(
        [sys.executable, __file__], input=json.dumps(job), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or ["no result"])[-1])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


# -- inside the process ----------------------------------------------------------------------------------


def measure(job: dict[str, Any]) -> dict[str, Any]:
    learner, marks, right, heard = make(job), [], 0, 0
    triggered = learner.prefers == "triggered"
    block = min(50_000 if triggered else 10_000, job["rows"])
    make(job).learn(*next(spinning(500, 1, 500)))  # compiles, and is thrown away
    forget_peak()
    before = resident()
    for X, y in spinning(job["rows"], job["seed"], block):
        picks = step(learner, X, y)
        heard += len(y)
        right += int((picks == y).sum())
        if heard in MARKS or heard == job["rows"]:
            marks.append(mark(learner, heard, before))
    return {
        "rows": heard,
        "accuracy": round(100.0 * right / heard, 2),
        "marks": marks,
        "growth_mb": growth(marks, "resident_mb"),
        "state_growth_kb": growth(marks, "state_kb"),
        **round_trip(learner, job),
        **late_class(job),
    }


def make(job: dict[str, Any]) -> Any:
    from everlearn import learners

    return learners.build(job["learner"], seed=job["seed"], **job["parameters"])


def step(learner: Any, X: Any, y: Any) -> Any:
    """Answer and learn rows; what was picked."""
    if learner.prefers == "stream" and hasattr(learner, "test_then_train"):
        answers = learner.test_then_train(X, y)
    elif learner.prefers == "stream":
        answers, picks = None, np.full(len(y), -1)
        for i in range(len(y)):
            picks[i] = picked(learner, learner.predict(X[i : i + 1]))[0]
            learner.learn(X[i : i + 1], y[i : i + 1])
        return picks
    else:
        answers = learner.predict(X)
        learner.learn(X, y)
        learner.predict(X[:1])  # it fits when it is asked
    return picked(learner, answers)


def picked(learner: Any, answers: Any) -> Any:
    """The classes with the highest probability; -1 where none is known."""
    if not answers.shape[1]:
        return np.full(len(answers), -1)
    classes = np.array(learner.classes)[: answers.shape[1]]
    return np.where(answers.sum(axis=1) > 0.0, classes[answers.argmax(axis=1)], -1)


def mark(learner: Any, rows: int, before: int) -> dict[str, Any]:
    from everlearn.learners.states import size

    state = size(learner.state())
    forget_peak()
    return {
        "rows": rows,
        "resident_mb": round((resident() - before) / 2**20, 1),
        "state_kb": round(state / 2**10, 1),
    }


def growth(marks: list[dict[str, Any]], key: str) -> float | None:
    """How much more at the end than after the warm-up; null in a run that is not longer than that."""
    warm = [one for one in marks if one["rows"] >= WARM]
    return round(warm[-1][key] - warm[0][key], 1) if len(warm) > 1 else None


def late_class(job: dict[str, Any]) -> dict[str, Any]:
    """A class that first comes at a row, as every fifth row or so from then on, in a place of its own."""
    late, draw = job["late_row"], np.random.default_rng(job["seed"])
    X, y = (np.array(part) for part in next(spinning(2 * late, job["seed"], 2 * late)))
    new = np.flatnonzero((draw.random(2 * late) < 0.2) & (np.arange(2 * late) >= late))
    y[new] = 3
    X[new] = 0.5 * X[new] + 2.0
    learner = make(job)
    chunk = 50 if learner.prefers == "triggered" else late
    picks = np.concatenate(
        [step(learner, X[s : s + chunk], y[s : s + chunk]) for s in range(0, 2 * late, chunk)]
    )
    right = picks[new] == 3
    first = np.flatnonzero(right)
    return {
        "new_class_first_right": int(first[0]) + 1 if len(first) else None,
        "new_class_recall": round(100.0 * float(right[:EXAMPLES].mean()), 1),
        "new_class_recall_later": round(100.0 * float(right[EXAMPLES : 2 * EXAMPLES].mean()), 1)
        if len(right) > EXAMPLES
        else None,
    }


# -- the state in a new process --------------------------------------------------------------------------


def round_trip(learner: Any, job: dict[str, Any]) -> dict[str, bool]:
    """Whether a new process that loads the stored version gives the same bits as this one."""
    from everlearn.adapters.artifacts import FolderArtifacts
    from everlearn.features.encoder import Encoder
    from everlearn.predictor import Predictor
    from everlearn.spec import parse_spec

    features = {f"x{i}": "numeric" for i in range(8)}
    spec = parse_spec(
        {
            "name": "bench",
            "task": "classification",
            "target": "y",
            "features": features,
            "learner": {"name": job["learner"], **job["parameters"]},
            "seed": job["seed"],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        digest = FolderArtifacts(Path(folder)).put(Predictor(spec, Encoder(spec.features), learner).bundle())
        file = Path(folder) / "answers.npy"
        process({"load": folder, "digest": digest, "file": str(file), "seed": job["seed"]})
        there = np.load(file)
    here = probe(learner, job["seed"])
    same = [a.tobytes() == b.tobytes() for a, b in zip(here, there, strict=True)]
    return {"same_in_new_process": same[0] and same[1], "same_if_asked_first": same[2]}


def probe(learner: Any, seed: int) -> Any:
    """Answers (3, n, k): as it is; after learning some rows; and if it was asked those rows before.

    The last may differ: what a learner remembers of questions is not part of its state.
    """
    X, y = next(spinning(1000, seed + 7, 1000))
    taught, asked = deepcopy(learner), deepcopy(learner)
    asked.predict(X)
    for other in (taught, asked):
        other.learn(X[:500], y[:500])
    return np.stack([learner.predict(X), taught.predict(X), asked.predict(X)])


def load(job: dict[str, Any]) -> dict[str, Any]:
    from everlearn.adapters.artifacts import FolderArtifacts
    from everlearn.predictor import Predictor

    stored = Predictor.from_bundle(FolderArtifacts(Path(job["load"])).get(job["digest"]))
    np.save(job["file"], probe(stored.learner, job["seed"]))
    return {"loaded": True}


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    print(json.dumps(load(given) if "load" in given else measure(given)))
