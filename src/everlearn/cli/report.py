"""How a replay's report is shown: a table, a chart, the decisions; and drawn as a picture."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from everlearn.cli.chart import chart, trail
from everlearn.cli.output import table
from everlearn.errors import MissingExtraError
from everlearn.types import DecisionKind

if TYPE_CHECKING:
    from everlearn.loop.replay import ReplayReport

NAMES = {
    "never_updated": "never updated",
    "refit_every": "refit by the calendar",
    "no_change": "persistence",
    "majority": "majority",
}
LETTERS = {
    DecisionKind.PROMOTE: "P",
    DecisionKind.ROLLBACK: "R",
    DecisionKind.REFUSE: "x",
    DecisionKind.WARN: "w",
    DecisionKind.FAIL: "!",
}
WIDTH = 72
DECISIONS_SHOWN = 40


def show(report: ReplayReport) -> None:
    """Print a report as people read it."""
    spec, found = report.spec, report.to_dict()
    typer.echo(
        f"{report.rows} rows, {spec.task} of {spec.target!r}, learner {spec.learner.name} ({spec.update}): "
        f"{report.seconds:.1f} s, {found['rows_per_second']:.0f} rows/s"
    )
    for note in report.notes:
        typer.echo(f"  {note}")
    columns = (
        ("mae", "rmse", "r2") if spec.task == "regression" else ("accuracy", "kappa_t", "f1", "log_loss")
    )
    served = {**report.served, "updates": found["updates"], "learning_seconds": report.learning_seconds}
    rows = [_row("served", served, columns)]
    for name, scores in report.baselines.items():
        title = NAMES.get(name, name)
        rows.append(_row(f"{title} ({scores['every']})" if "every" in scores else title, scores, columns))
    table(("", *columns, "updates", "seconds learning"), rows)
    typer.echo(_chart(report))
    _show_decisions(report)


def _row(title: str, scores: Any, columns: tuple[str, ...]) -> tuple[object, ...]:
    return (
        title,
        *(scores.get(c) for c in columns),
        scores.get("updates", 0),
        scores.get("learning_seconds"),
    )


def _chart(report: ReplayReport) -> str:
    losses = report.curves.get("served", ())
    shown, title = _score(report, losses)
    points = trail(shown, WIDTH, _window(report))
    scale = len(points) / max(1, report.rows)
    marks: dict[int, str] = {}
    for decision, row in zip(report.decisions, report.decision_rows, strict=True):
        letter = LETTERS.get(decision.kind)
        if letter is not None and points:
            column = min(len(points) - 1, max(0, int((row - 1) * scale)))
            if marks.get(column) not in ("P", "R"):
                marks[column] = letter
    legend = "P promoted, R rolled back, x refused, w drift warning, ! failed"
    drawn = chart(points, threshold=_threshold(report), marks=marks)
    return f"{title} over time ({legend})\n{drawn}\n"


def _window(report: ReplayReport) -> int:
    """How many rows each point of a chart is the mean of."""
    return max(50, report.rows // 40)


def _score(report: ReplayReport, losses: Any) -> tuple[list[float], str]:
    """What a chart shows: accuracy, or the mean absolute error."""
    if report.spec.task == "regression":
        return [float(value) for value in losses], "mean absolute error"
    return [1.0 - value for value in losses], "accuracy"


def _threshold(report: ReplayReport) -> float | None:
    drawn = "mae" if report.spec.task == "regression" else "accuracy"
    return report.spec.threshold if report.spec.metric == drawn else None


def _show_decisions(report: ReplayReport) -> None:
    told = [
        (row, decision.kind.value, decision.version, decision.reason)
        for decision, row in zip(report.decisions, report.decision_rows, strict=True)
    ]
    table(("row", "decision", "version", "reason"), told[:DECISIONS_SHOWN], empty="no decisions")
    if len(told) > DECISIONS_SHOWN:
        typer.echo(f"and {len(told) - DECISIONS_SHOWN} more; --json gives them all")


def need_matplotlib() -> None:
    """Raise MissingExtraError before a long replay, not after it."""
    if find_spec("matplotlib") is None:
        raise MissingExtraError("--plot", "plot")


def plot(report: ReplayReport, path: Path) -> None:
    """Draw score over time, the rivals beside it, and a line at each change of champion."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    count = min(300, report.rows)
    for name, losses in report.curves.items():
        shown, title = _score(report, losses)
        means = trail(shown, count, _window(report))
        at = [(i + 1) * report.rows / len(means) for i in range(len(means))]
        own = name == "served"
        axes.plot(
            at, means, label=NAMES.get(name, name), linewidth=1.8 if own else 0.9, alpha=1.0 if own else 0.6
        )
        axes.set_ylabel(title)
    if (threshold := _threshold(report)) is not None:
        axes.axhline(threshold, color="black", linestyle="--", linewidth=0.8, label="threshold")
    colors = {DecisionKind.PROMOTE: "tab:green", DecisionKind.ROLLBACK: "tab:red"}
    for decision, row in zip(report.decisions, report.decision_rows, strict=True):
        if decision.kind in colors:
            axes.axvline(row, color=colors[decision.kind], linewidth=0.7, alpha=0.6)
    axes.set_xlabel("row (green: promoted, red: rolled back)")
    axes.set_title(f"{report.spec.target}: {report.spec.learner.name}, {report.spec.update}")
    figure.legend(loc="outside lower center", ncols=6, fontsize="small")
    figure.savefig(path, format="png")
