"""``everlearn what-if``: the same stream or record under other settings, in one table and a figure."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everlearn.cli.options import Data, Json, Key, Url
from everlearn.cli.replay import _columns, _default_threshold
from everlearn.errors import InvalidError

if TYPE_CHECKING:
    from everlearn.loop.whatif import WhatIf
    from everlearn.loop.whatif_record import Recording
    from everlearn.spec import ModelSpec

TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq")
Texts = list[str]


def what_if(
    source: Annotated[str, typer.Argument(help="A CSV or Parquet file, or a model.", metavar="MODEL|FILE")],
    policy: Annotated[
        Texts | None, typer.Option("--policy", help="NAME, NAME:KEY=VALUE,… or JSON; repeat it.")
    ] = None,
    learner: Annotated[Texts | None, typer.Option("--learner", help="The same, of learners.")] = None,
    gate: Annotated[Texts | None, typer.Option("--gate", help="The same, of gates: proof or open.")] = None,
    price: Annotated[
        float | None, typer.Option("--price", min=0, help="Price of a training, in rows answered wrongly.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="Of a FILE: column to predict.")] = None,
    label_delay: Annotated[
        str, typer.Option("--label-delay", help="Of a FILE: how late labels come: rows (500) or a time (2h).")
    ] = "0",
    time: Annotated[str | None, typer.Option("--time", help="Of a FILE: column with the time.")] = None,
    update: Annotated[str | None, typer.Option("--update", help="Of a FILE: stream or triggered.")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="Of a FILE: what is measured.")] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Of a FILE: performance to keep.")
    ] = None,
    features: Annotated[
        Texts | None, typer.Option("--features", help="Of a FILE: only these; COLUMN or COLUMN=KIND.")
    ] = None,
    drop: Annotated[Texts | None, typer.Option("--drop", help="Of a FILE: leave a column out.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of a FILE: seed of the learner.")] = 0,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the figure to this PNG or SVG.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a report that stands by itself to this file.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="Folder with what is known already (a MODEL's data folder)."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Work everything out again.")] = False,
    workers: Annotated[
        bool, typer.Option("--workers", help="Of a MODEL: have the server's workers play, a job a setting.")
    ] = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Play a stream again under other settings; never, the best cadence, CUSUM and always stand beside.

    All combinations of the given policies, learners and gates are played: on a FILE as replay does, or
    on the recorded log of a MODEL, with its labels as late as they really were.
    """
    from everlearn.cli import what_if_report as reports

    if plot is not None:
        reports.need_plot(plot)
    choices = {"policy": policy or [], "learner": learner or [], "gate": gate or []}
    load: dict[str, Any] = {}
    if workers:
        from everlearn.cli.what_if_server import play as play_there

        if _is_file(source):
            raise InvalidError(f"--workers is for a model: {source} is a file, so leave it out")
        report = play_there(source, choices, price, url, key, data, as_json)
        _show(report, 0.0, plot, html, as_json, source)
        return
    if _is_file(source):
        given = {"update": update, "metric": metric, "threshold": threshold, "seed": seed}
        columns = {"features": features or [], "drop": drop or []}
        recording, spec = _file(Path(source), target, label_delay, time, given, columns, choices, load)
    else:
        recording, spec = _record(source, data, load)
        cache = cache or load["folder"]
    report = _play(source, recording, spec, choices, price, None if fresh else cache, as_json)
    _show(report, load["seconds"], plot, html, as_json, Path(source).name)


def _is_file(source: str) -> bool:
    path = Path(source)
    return path.is_file() or path.suffix.lower() in TABLES or "/" in source


def _file(
    path: Path,
    target: str | None,
    label_delay: str,
    time: str | None,
    given: dict[str, Any],
    columns: dict[str, Texts],
    choices: dict[str, Texts],
    load: dict[str, Any],
) -> tuple[Recording, ModelSpec]:
    """A table as a recording, with the settings of a replay; the first learner asked for is the base."""
    from time import perf_counter

    from everlearn.cli.tables import read_table
    from everlearn.loop.whatif_settings import parse_choice
    from everlearn.loop.whatif_table import of_table

    if target is None:
        raise InvalidError("Give the --target of the file: the column to predict")
    began, frame = perf_counter(), read_table(path)
    if given["threshold"] is None:
        given["threshold"] = _default_threshold(given["metric"])
    given |= _columns(frame, columns["features"], columns["drop"], target)
    learner = parse_choice(choices["learner"][0], "--learner") if choices["learner"] else "blend"
    delay = int(label_delay) if label_delay.isdigit() else label_delay
    made = of_table(frame, target=target, label_delay=delay, time_column=time, learner=learner, **given)
    load["seconds"] = perf_counter() - began
    return made


def _record(model: str, data: Path | None, load: dict[str, Any]) -> tuple[Recording, ModelSpec]:
    """The recorded log of a model, read from the data folder."""
    from time import perf_counter

    from everlearn.loop.whatif_record import of_log, read_log
    from everlearn.wiring import Installation

    installation = Installation.load(data=data)
    installation.require_database()
    began = perf_counter()
    try:
        made = of_log(read_log(installation.log, model))
    finally:
        installation.close()
    load |= {"seconds": perf_counter() - began, "folder": installation.settings.data / "cache" / "what-if"}
    return made


def _play(
    source: str,
    recording: Recording,
    spec: ModelSpec,
    choices: dict[str, Texts],
    price: float | None,
    cache: Path | None,
    quiet: bool,
) -> WhatIf:
    from time import perf_counter

    from everlearn.cli.output import progress
    from everlearn.cli.what_if_cache import FolderCache
    from everlearn.loop.whatif import what_if as play
    from everlearn.loop.whatif_library import Library
    from everlearn.loop.whatif_settings import crossed, parse_choice

    gc.freeze()  # the recording lives as long as the command: no need to look through it again and again
    parsed = [[parse_choice(text, f"--{kind}") for text in texts] for kind, texts in choices.items()]
    settings = crossed(spec, *parsed)
    kept = None if cache is None else FolderCache(cache)
    with progress(f"what if: {Path(source).name}", quiet=quiet) as told:
        return play(
            recording,
            spec,
            settings,
            price=price,
            cache=kept,
            library=Library(perf_counter),
            progress=lambda share: told(round(share * 1000), 1000),
        )


def _show(
    report: WhatIf, load_seconds: float, plot: Path | None, html: Path | None, as_json: bool, title: str
) -> None:
    from everlearn.cli import what_if_report as reports
    from everlearn.cli.output import show_json

    if plot is not None:
        reports.plot(report, plot)
    if html is not None:
        from everlearn.cli.what_if_html import page

        html.write_text(page(report, title), encoding="utf-8")
    if as_json:
        show_json({"source": title, **report.to_dict(), "load_seconds": load_seconds})
        return
    reports.show(report, title, load_seconds)
    for path in filter(None, (plot, html)):
        typer.echo(f"wrote {path}")
