"""The fold over a file: what the loop would have done, and what it would have been worth.

Predictions and delayed labels are played in arrival order (test-then-train; Gama, Sebastião &
Rodrigues 2013): a row is answered before its label, which arrives ``label_delay`` later, is learned.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from everlearn.errors import InvalidError
from everlearn.loop import rivals
from everlearn.loop.defaults import with_defaults
from everlearn.loop.file_driver import FileDriver
from everlearn.loop.scores import Scored, cost, metrics
from everlearn.loop.tables import delay_of, read_table, stream_of, tidied
from everlearn.loop.training import Progress, silent
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import Decision, DecisionKind

if TYPE_CHECKING:
    import pandas as pd

PUBLISH_EVERY = 1000
"""Labels between two versions of a stream learner in a replay, which answers with what it knows now."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay found. Scores are over every row that has a label, answered or not.

    (Log-loss, MAE, RMSE and R² leave out the rows asked before the first label had come.) ``seconds``
    are those of the loop with its learner, without the rivals beside it; ``notes`` say what was
    inferred from the table, and which columns were left out and why.
    """

    spec: ModelSpec
    rows: int
    served: Mapping[str, Any]
    baselines: Mapping[str, Mapping[str, Any]]
    decisions: Sequence[Decision]
    decision_rows: Sequence[int]
    seconds: float
    learning_seconds: float
    notes: Sequence[str] = ()
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def count(self, *kinds: DecisionKind) -> int:
        """How many decisions are of some kinds."""
        return sum(decision.kind in kinds for decision in self.decisions)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values. Only the keys with ``second`` in them differ between two runs."""
        decisions = [
            {
                "number": d.number,
                "seq": d.seq,
                "row": row,
                "at": d.at,
                "kind": str(d.kind),
                "version": d.version,
                "reason": d.reason,
                "evidence": dict(d.evidence),
            }
            for d, row in zip(self.decisions, self.decision_rows, strict=True)
        ]
        return {
            "rows": self.rows,
            "task": self.spec.task,
            "target": self.spec.target,
            "learner": self.spec.learner.model_dump(),
            "update": self.spec.update,
            "served": dict(self.served),
            "baselines": {name: dict(scores) for name, scores in self.baselines.items()},
            "updates": self.count(DecisionKind.PROMOTE, DecisionKind.ROLLBACK),
            "trained": self.count(DecisionKind.UPDATE),
            "refused": self.count(DecisionKind.REFUSE),
            "seconds": self.seconds,
            "learning_seconds": self.learning_seconds,
            "rows_per_second": self.rows / self.seconds if self.seconds else 0.0,
            "notes": list(self.notes),
            "decisions": decisions,
        }


def replay(
    data: pd.DataFrame | str | os.PathLike[str],
    *,
    target: str,
    label_delay: int | str = 0,
    learner: str | Mapping[str, Any] = "blend",
    update: str | None = None,
    policy: str | Mapping[str, Any] | None = None,
    gate: Mapping[str, Any] | None = None,
    threshold: float | None = None,
    metric: str | None = None,
    features: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    time_column: str | None = None,
    publish_every: int = PUBLISH_EVERY,
    refit_every: int = 500,
    baselines: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> ReplayReport:
    """Play a table (rows in time order) through the loop, with the rivals of an updating model beside it.

    Args:
        data: a DataFrame, or the path of a CSV or Parquet file.
        target: the column to predict.
        label_delay: how late the label of a row arrives: a number of rows (0: before the next row), or
            a duration such as ``"2h"`` measured on ``time_column``.
        learner: a learner's name, or ``{"name": ..., **parameters}``.
        update: ``stream`` or ``triggered``; by default what the learner prefers.
        policy, gate, threshold, metric: as in a model's spec.
        features: kinds by column; by default inferred. ``drop`` leaves columns out.
        publish_every: labels between two versions of a stream learner.
        refit_every: labels between two updates of the rival that refits by the calendar.
        baselines: whether to run the rivals ``never_updated`` and ``refit_every``.
        progress: called with the share that is done.

    Raises :class:`~everlearn.errors.InvalidError` for a missing column, an empty table or a bad setting.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"x": [i % 10 for i in range(400)], "y": [i % 10 > 4 for i in range(400)]})
    >>> report = replay(frame, target="y", learner="majority", baselines=False)
    >>> report.rows, round(report.served["accuracy"], 2)
    (400, 0.43)
    """
    started = time.perf_counter()
    delay = delay_of(label_delay)
    frame = tidied(_frame(data), target, features or {})
    given = {"learner": learner, "update": update, "policy": policy, "gate": gate, "threshold": threshold}
    given |= {"metric": metric, "publish_every": publish_every, "seed": seed}
    kept = frame.drop(columns=list(drop), errors="ignore")
    spec, notes = _spec(kept, target, features, delay, given)
    stream = stream_of(frame, spec, delay, time_column)
    driver = FileDriver(spec, stream)
    driver.run(lambda share: progress(share * (0.8 if baselines else 1.0)))
    seconds = time.perf_counter() - started
    if not driver.known_before[-1]:
        notes = [*notes, "no label had come before the last row was asked: nothing could be learned in time"]
    beside, curves = rivals.score(driver, refit_every if baselines else None)
    progress(1.0)
    return ReplayReport(
        spec=spec,
        rows=len(stream.rows),
        served=metrics(driver.scored, spec.task),
        baselines=beside,
        decisions=driver.decisions,
        decision_rows=driver.decision_rows,
        seconds=seconds,
        learning_seconds=driver.learning_seconds,
        notes=notes,
        curves={"served": _losses(driver.scored, spec), **curves},
    )


def _losses(scored: Sequence[Scored], spec: ModelSpec) -> list[float]:
    return [cost(s, spec.task) for s in scored]


def _frame(data: pd.DataFrame | str | os.PathLike[str]) -> pd.DataFrame:
    frame = read_table(data) if isinstance(data, str | os.PathLike) else data.rename(columns=str)
    if frame.empty:
        raise InvalidError("data: the table has no rows")
    return frame


def _spec(
    frame: pd.DataFrame,
    target: str,
    features: Mapping[str, str] | None,
    label_delay: int | str,
    given: Mapping[str, Any],
) -> tuple[ModelSpec, list[str]]:
    """The settled spec, and notes on what was inferred."""
    from everlearn.features.infer import infer_spec

    inferred = infer_spec(frame, target, name="replay")
    spec, notes = dict(inferred), inferred.notes
    if features is not None:
        spec["features"], notes = dict(features), notes[-1:]
    spec["label_horizon"] = {"rows": label_delay} if isinstance(label_delay, int) else label_delay
    spec |= {key: value for key, value in given.items() if value is not None}
    return with_defaults(parse_spec(spec)), notes
