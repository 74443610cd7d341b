"""``everlearn continual-bench``: how much learners remember of a stream of tasks; needs no server."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everlearn.cli.options import Json
from everlearn.errors import InvalidError

if TYPE_CHECKING:
    from everlearn.loop.continual import Report, Rows

BARS = " ▁▂▃▄▅▆▇█"
WIDTH = 60
COLUMNS = {
    "average_accuracy": "accuracy",
    "forgetting": "forgetting",
    "backward_transfer": "BWT",
    "forward_transfer": "FWT",
    "min_accuracy": "min-ACC",
    "worst_case_accuracy": "WC-ACC",
}


def continual_bench(
    file: Annotated[
        Path | None,
        typer.Argument(help="CSV or Parquet file; without one scikit-learn's digits.", metavar="[FILE]"),
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="Column with the class.")] = None,
    learner: Annotated[
        list[str] | None, typer.Option("--learner", help="Name, or JSON with its parameters; several.")
    ] = None,
    setting: Annotated[
        str, typer.Option("--setting", help="class, task, domain or online: what a task brings.")
    ] = "class",
    tasks: Annotated[int, typer.Option("--tasks", min=1, help="How many tasks.")] = 5,
    every: Annotated[int, typer.Option("--every", min=1, help="Rows between two evaluations.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the stream and of the learners.")] = 0,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw accuracy over time to this PNG.")] = None,
    as_json: Json = False,
) -> None:
    """Teach learners a stream of tasks once, and measure what they remember of each.

    Prints the published measures, and each task's accuracy over time: a bar is full at 100%.
    """
    from everlearn.cli.output import progress, show_json
    from everlearn.cli.report import need_matplotlib
    from everlearn.learners import build
    from everlearn.loop.continual import Scenario, run

    if plot is not None:
        need_matplotlib()
    made = [_learner(text) for text in learner or ["fine_tuning", "er", "der_pp", "ridge"]]
    X, y = _table(file, target)
    stream = Scenario(setting=setting, tasks=tasks, seed=seed).stream(X, y)  # type: ignore[arg-type]
    reports: dict[str, Report] = {}
    for name, parameters in made:
        title = _title(name, parameters, reports)
        taught = build(name, seed=seed, **parameters)
        with progress(f"teaching {title}", quiet=as_json) as told:
            reports[title] = run(
                taught, stream, every=every, clock=time.perf_counter,
                progress=lambda share: told(round(share * 1000), 1000),
            )  # fmt: skip
    if plot is not None:
        _plot(reports, plot)
    if as_json:
        about = {
            "data": "digits" if file is None else file.name,
            "setting": setting,
            "tasks": tasks,
            "seed": seed,
        }
        results = {title: report.to_dict() for title, report in reports.items()}
        show_json({**about, "every": every, **_here(), "results": results})
        return
    _show(reports, tasks)
    if plot is not None:
        typer.echo(f"drew {plot}")


def _table(file: Path | None, target: str | None) -> Rows:
    """Rows of numbers and their classes."""
    import numpy as np

    if file is None:
        from sklearn.datasets import load_digits

        X, y = load_digits(return_X_y=True)
        return X.astype(np.float64), y
    from everlearn.cli.tables import read_table

    frame = read_table(file)
    if target is None or target not in frame.columns:
        raise InvalidError(f"--target: give one of the columns {', '.join(map(str, frame.columns))}")
    rows = frame.drop(columns=[target])
    wrong = [name for name in rows.columns if rows[name].dtype.kind not in "biuf"]
    if wrong:
        raise InvalidError(f"{wrong[0]}: is no column of numbers; leave it out of the file, or encode it")
    kept = frame[target].notna().to_numpy()
    return rows.to_numpy(dtype=np.float64)[kept], frame[target].to_numpy()[kept]


def _learner(text: str) -> tuple[str, dict[str, Any]]:
    """A learner's name and parameters from ``er`` or ``{"name": "er", "size": 200}``."""
    if not text.lstrip().startswith("{"):
        return text, {}
    import json

    try:
        given = json.loads(text)
    except ValueError as error:
        raise InvalidError(f"--learner is no JSON: {error}") from None
    if not isinstance(given.get("name"), str):
        raise InvalidError('--learner: the JSON has no "name"')
    name: str = given.pop("name")
    return name, given


def _title(name: str, parameters: Mapping[str, Any], taken: Mapping[str, object]) -> str:
    """What tables call a learner: its name, and its parameters where they tell it from another."""
    if name not in taken:
        return name
    return " ".join([name, *(f"{key}={value}" for key, value in parameters.items())])


def _here() -> dict[str, Any]:
    """What seconds depend on, and what was run."""
    import os
    import platform

    from everlearn import __version__

    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    return {"version": __version__, "commit": _commit(), "machine": machine}


def _commit() -> str | None:
    """The commit of the checkout that this runs from, if it is one."""
    root = Path(__file__).resolve().parents[3] / ".git"
    head = root / "HEAD"
    if not head.is_file():
        return None
    text = head.read_text().strip()
    if not text.startswith("ref: "):
        return text
    name = text.removeprefix("ref: ")
    if (root / name).is_file():
        return (root / name).read_text().strip()
    packed = root / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(f" {name}")), None)


def _show(reports: Mapping[str, Report], tasks: int) -> None:
    from everlearn.cli.output import table

    rows = []
    for title, report in reports.items():
        values = [report.measures[name] for name in COLUMNS]
        rows.append((title, *map(_percent, values), report.state_bytes // 1024, report.buffer_bytes // 1024,
                     round(report.seconds, 2)))  # fmt: skip
    table(("learner", *(f"{name} %" for name in COLUMNS.values()), "state kB", "buffer kB", "seconds"), rows)
    newest = next(iter(reports.values()))
    typer.echo(f"\naccuracy on each task while {tasks} come one after another ({newest.rows[-1]} rows, once)")
    for title, report in reports.items():
        typer.echo(title)
        for number in range(report.R.shape[1]):
            typer.echo(
                f"  task {number + 1}  {bars(report.R[:, number].tolist())}  {_percent(report.R[-1, number])}"
            )


def _percent(value: float | None) -> float | None:
    return None if value is None else round(100.0 * value, 1)


def bars(values: Sequence[float], width: int = WIDTH) -> str:
    """Shares from 0 to 1 as bars of eighths, at most so many: those at even distances.

    >>> bars([0.0, 0.5, 1.0])
    ' ▄█'
    """
    count = min(width, len(values))
    at = [round((i + 1) * len(values) / count) - 1 for i in range(count)]
    return "".join(BARS[round(8 * min(max(float(values[i]), 0.0), 1.0))] for i in at)


def _plot(reports: Mapping[str, Report], path: Path) -> None:
    """A panel a learner: the accuracy on each task over the rows learned."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.4 * len(reports)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(reports), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, report) in zip(panels, reports.items(), strict=True):
        for number in range(report.R.shape[1]):
            axes.plot(report.rows, 100.0 * report.R[:, number], label=f"task {number + 1}", linewidth=1.2)
        for row in report.rows[:-1][report.task[1:] != report.task[:-1]]:
            axes.axvline(row, color="grey", linewidth=0.6, linestyle=":")
        axes.set_ylim(-2, 102)
        axes.set_ylabel("accuracy %")
        axes.set_title(title, loc="left", fontsize="medium")
    panels[-1].set_xlabel("rows learned (dotted: a task ends)")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside upper right", fontsize="small", ncols=5
    )
    figure.savefig(path, format="png")
