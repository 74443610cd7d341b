"""What the first version would have scored to this day: the never-updated baseline, filled in afterwards.

A job lets that version, left as it was, answer a sample of the rows of every window. Nothing is decided by
it, so it is no part of the fold: it is derived from the log and one artifact, and may be derived again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from everlearn.errors import EverlearnError
from everlearn.loop.card import Card
from everlearn.loop.drive import load_version
from everlearn.loop.history import FAN
from everlearn.loop.scored import Scored, score_row
from everlearn.loop.training import Progress
from everlearn.loop.window import metric_interval
from everlearn.ports import Artifacts, Log, Scores, Versions
from everlearn.predictor import Predictor
from everlearn.spec import ModelSpec
from everlearn.types import JobSpec, Label, ScorePoint

KIND = "hindsight"

SAMPLE = 50
"""Rows of a window that are answered."""

BATCH = 32
"""Windows whose rows are read at once."""

MOST = 2000
"""Windows of a job: what is left is the next one's."""

RELATIVE = frozenset({"kappa_m", "kappa_t"})
"""Metrics that need what the baselines knew at each row, which is not kept: there is no score in them."""


def wanted(model: str, card: Card, filled: int) -> JobSpec | None:
    """The job that fills in what is missing; ``None`` while that is under a fiftieth of all windows."""
    missing = card.windows - filled
    if not card.origin or card.metric in RELATIVE or missing < max(1, card.windows // 50):
        return None
    first, last = filled + 1, min(card.windows, filled + MOST)
    plan = {"first": first, "last": last, "version": card.origin}
    return JobSpec(f"{model}-hindsight-{first}-{last}", model, KIND, card.origin, plan)


def work(
    spec: ModelSpec,
    plan: Mapping[str, Any],
    *,
    log: Log,
    scores: Scores,
    versions: Versions,
    artifacts: Artifacts,
    progress: Progress,
) -> dict[str, Any]:
    """Fill in the baseline of windows, as far as their rows are still in the log; how many they were.

    Windows that closed before the first version was promoted have none: it learned from their rows.
    """
    model, first, last = spec.name, int(plan["first"]), int(plan["last"])
    try:
        version = load_version(model, plan["version"], versions, artifacts)
    except EverlearnError as error:  # it was erased, say
        return {"filled": 0, "why": error.detail}
    assert version is not None
    filled = 0
    for start in range(first, last + 1, BATCH):
        points = scores.points(model, 0, start, min(start + BATCH - 1, last))
        found = dict(_scored([p for p in points if p.champion], spec, version, log))
        scores.fill(model, found, FAN)
        filled += len(found)
        progress((start - first + BATCH) / (last - first + BATCH))
    return {"filled": filled}


def _scored(
    points: Sequence[ScorePoint], spec: ModelSpec, version: Predictor, log: Log
) -> Iterator[tuple[int, float]]:
    """The number and the baseline of each window of which there are rows."""
    if not points:
        return
    known = log.pending(spec.name, after_row=min(p.first for p in points) - 1, upto=points[-1].seq)
    labels = [label for label in known if label.prediction is not None]
    for point in points:
        rows = _sample([label for label in labels if point.first <= _row(label) <= point.last])
        interval = metric_interval(_answered(rows, version), spec.metric or "", spec.task, 0.95)
        if rows and interval is not None:
            yield point.number, interval.value


def _sample(labels: Sequence[Label]) -> Sequence[Label]:
    """At most :data:`SAMPLE` of them, evenly spread."""
    most = min(SAMPLE, len(labels))
    return [labels[place * len(labels) // most] for place in range(most)]


def _answered(labels: Sequence[Label], version: Predictor) -> list[Scored]:
    outputs = version.predict([dict(_prediction(label).features) for label in labels]) if labels else []
    return [
        score_row(_row(label), 0, label.value, output, None, None)
        for label, output in zip(labels, outputs, strict=True)
    ]


def _prediction(label: Label) -> Any:
    assert label.prediction is not None
    return label.prediction


def _row(label: Label) -> int:
    return int(_prediction(label).row)
