"""What a live run was promised, and whether the log kept it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from everlearn.client import Client, Prediction

MODEL = "elec"


@dataclass(slots=True)
class Record:
    """What the client was promised: every acknowledged answer and label, by id."""

    answers: dict[str, Prediction] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0
    in_flight: threading.Event = field(default_factory=threading.Event)


def row_id(number: int) -> str:
    return f"elec-{number}"


def count_log(data: Path, record: Record) -> tuple[int, int]:
    """How many acknowledged predictions and labels the log lacks (or holds otherwise), or holds twice."""
    from everlearn.types import Label
    from everlearn.types import Prediction as Logged
    from everlearn.wiring import Installation

    installation = Installation.load(data=data)
    predictions, labels = Counter[str](), Counter[str]()
    wrong, cursor = 0, 0
    while events := installation.log.read(MODEL, cursor, 5000):
        cursor = events[-1].seq
        for event in events:
            if isinstance(event, Logged):
                predictions[event.id] += 1
                wrong += not same(record.answers.get(event.id), event)
            elif isinstance(event, Label):
                labels[event.id] += 1
                wrong += event.id in record.labels and record.labels[event.id] != event.value
    installation.store.close()
    lacking = sum(not predictions[a] for a in record.answers) + sum(not labels[a] for a in record.labels)
    doubled = sum(n > 1 for n in predictions.values()) + sum(n > 1 for n in labels.values())
    return lacking + wrong, doubled


def same(answer: Prediction | None, logged: Any) -> bool:
    """Whether the log holds what was answered; what was never acknowledged may stand in it too."""
    if answer is None:
        return True
    told = (answer.version, answer.value, dict(answer.probabilities or {}))
    return told == (logged.version, logged.output.value, dict(logged.output.probabilities or {}))


def never_updated(
    data: Path, digest: str | None, rows: list[dict[str, float]], truths: list[str], record: Record
) -> float:
    """Accuracy if the first trained version that answered had gone on answering."""
    from everlearn.predictor import Predictor
    from everlearn.wiring import Installation

    served = [record.answers.get(row_id(n)) for n in range(len(rows))]
    first = next((n for n, answer in enumerate(served) if answer is not None and answer.version), len(rows))
    values = [answer.value if answer else None for answer in served[:first]]
    if digest is not None and first < len(rows):
        predictor = Predictor.from_bundle(Installation.load(data=data).artifacts.get(digest))
        for start in range(first, len(rows), 2000):
            values += [output.value for output in predictor.predict(rows[start : start + 2000])]
    return share_right(values, truths)


def share_right(values: list[Any], truths: list[str]) -> float:
    right = sum(bool(value == truth) for value, truth in zip(values, truths, strict=True))
    return right / max(1, len(truths))


def verdict(data: Path, model: str = MODEL) -> str | None:
    """What ``everlearn replay --recorded MODEL --verify`` says of the record."""
    command = [sys.executable, "-m", "everlearn", "replay", "--recorded", model, "--verify"]
    done = subprocess.run(
        [*command, "--data", str(data), "--json"], capture_output=True, text=True, check=False
    )
    try:
        return "identical" if json.loads(done.stdout)["identical"] and done.returncode == 0 else "different"
    except (ValueError, KeyError):
        sys.stderr.write(done.stderr[-2000:])
        return None


def first_digest(client: Client, record: Record) -> str | None:
    """The artifact of the first trained version that answered."""
    versions = {answer.version for answer in record.answers.values() if answer.version}
    return client.version(MODEL, min(versions))["digest"] if versions else None
