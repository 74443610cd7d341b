"""``everlearn replay``: the loop over a file, or over the record of a model to prove it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everlearn.cli.options import Data, Json
from everlearn.errors import InvalidError

if TYPE_CHECKING:
    import pandas as pd

Texts = list[str]


def replay(
    file: Annotated[Path | None, typer.Argument(help="CSV or Parquet file.", metavar="[FILE]")] = None,
    target: Annotated[str | None, typer.Option("--target", help="Column to predict.")] = None,
    label_delay: Annotated[
        str, typer.Option("--label-delay", help="How late labels come: rows (500) or a time (2h).")
    ] = "0",
    time: Annotated[
        str | None, typer.Option("--time", help="Column with the time, for a --label-delay in time.")
    ] = None,
    learner: Annotated[str, typer.Option("--learner", help="Name, or JSON with its parameters.")] = "blend",
    update: Annotated[str | None, typer.Option("--update", help="stream or triggered.")] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", help="threshold, never or every, or JSON with its parameters.")
    ] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="What the threshold is on.")] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Performance to keep [PERFORMANCE_THRESHOLD].")
    ] = None,
    features: Annotated[
        Texts | None, typer.Option("--features", help="Only these columns; COLUMN or COLUMN=KIND.")
    ] = None,
    drop: Annotated[Texts | None, typer.Option("--drop", help="Leave a column out.")] = None,
    publish_every: Annotated[
        int | None,
        typer.Option("--publish-every", min=1, help="Labels between versions of a stream learner."),
    ] = None,
    refit_every: Annotated[
        int, typer.Option("--refit-every", min=1, help="Labels between the calendar's refits.")
    ] = 500,
    no_baselines: Annotated[
        bool, typer.Option("--no-baselines", help="Without 'never updated' and 'refit by the calendar'.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the learner.")] = 0,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw score over time to this PNG.")] = None,
    recorded: Annotated[
        str | None, typer.Option("--recorded", metavar="MODEL", help="Replay the record of a model instead.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="With --recorded: prove that it decides the same again.")
    ] = False,
    retrain: Annotated[
        bool, typer.Option("--retrain/--no-retrain", help="With --verify: train each version again, too.")
    ] = True,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Play a file through the loop, test-then-train, with late labels; rivals stand beside it.

    With --recorded MODEL --verify, fold the recorded log of a model again and compare every decision
    with the ledger: prints "identical" and exits 0, or shows the first difference and exits 1.
    """
    if recorded is not None:
        if not verify or file is not None:
            raise InvalidError("--recorded goes with --verify and without a FILE")
        verify_record(recorded, data, retrain, as_json)
        return
    if file is None or target is None:
        raise InvalidError("Give a FILE and its --target (or --recorded MODEL --verify)")
    given = {
        "target": target,
        "label_delay": int(label_delay) if label_delay.isdigit() else label_delay,
        "learner": _name_or_json(learner, "--learner"),
        "update": update,
        "policy": None if policy is None else _name_or_json(policy, "--policy"),
        "metric": metric,
        "threshold": threshold,
        "time_column": time,
        "refit_every": refit_every,
        "baselines": not no_baselines,
        "seed": seed,
    }
    if publish_every is not None:
        given["publish_every"] = publish_every
    _replay_file(file, features or [], drop or [], given, plot, as_json)


def _replay_file(
    file: Path, features: Texts, drop: Texts, given: dict[str, Any], plot: Path | None, as_json: bool
) -> None:
    from everlearn.cli import report as reports
    from everlearn.cli.output import progress, show_json
    from everlearn.cli.tables import read_table
    from everlearn.loop.replay import replay as run

    frame = read_table(file)
    if given["threshold"] is None:
        given["threshold"] = _default_threshold(given["metric"])
    given |= _columns(frame, features, drop, given["target"])
    if plot is not None:
        reports.need_matplotlib()
    with progress(f"replaying {file.name}", quiet=as_json) as told:
        report = run(frame, progress=lambda share: told(round(share * 1000), 1000), **given)
    if plot is not None:
        reports.plot(report, plot)
    if as_json:
        show_json(report.to_dict())
    else:
        reports.show(report)
        if plot is not None:
            typer.echo(f"drew {plot}")


def _default_threshold(metric: str | None) -> float | None:
    """The installation's threshold; for a metric of which less is better there is none."""
    from everlearn.spec import LOWER_IS_BETTER
    from everlearn.wiring import Installation

    return None if metric in LOWER_IS_BETTER else Installation.load().settings.threshold


def _columns(frame: pd.DataFrame, features: Texts, drop: Texts, target: str) -> dict[str, Any]:
    """The arguments ``features`` and ``drop`` of a replay; raises InvalidError for columns not there."""
    kinds = dict(text.rpartition("=")[::2] if "=" in text else (text, "") for text in features)
    for name in [*kinds, *drop]:
        if name not in frame.columns:
            raise InvalidError(f"There is no column {name!r}: use one of {', '.join(frame.columns)}")
    if not kinds:
        return {"drop": drop}
    from everlearn.features.infer import infer_spec

    kept = [name for name in kinds if name not in drop]
    inferred = infer_spec(frame[[*kept, target]], target)["features"]
    return {"features": {name: kinds[name] or inferred.get(name, "categorical") for name in kept}}


def _name_or_json(text: str, option: str) -> str | dict[str, Any]:
    if not text.lstrip().startswith("{"):
        return text
    import json

    try:
        value: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise InvalidError(f"{option} is no JSON: {error}") from None
    return value


def verify_record(model: str, data: Path | None, retrain: bool, as_json: bool) -> None:
    """Prove that a model's record decides the same again; exits 1 when it does not."""
    from everlearn.cli.output import progress, show_json
    from everlearn.loop.verify import verify as prove
    from everlearn.wiring import Installation

    installation = Installation.load(data=data)
    installation.require_database()
    floor = installation.retention.floor(model)
    with progress(f"verifying {model}", quiet=as_json) as told:
        found = prove(
            model,
            log=installation.log,
            ledger=installation.ledger,
            versions=installation.versions,
            artifacts=installation.artifacts,
            floor=None if floor is None else floor.checkpoint,
            kept_from=0 if floor is None else floor.known_from,
            retrain=retrain,
            progress=lambda share: told(round(share * 1000), 1000),
        )
    installation.close()
    if as_json:
        show_json({"model": model, **found.to_dict()})
    else:
        typer.echo("identical" if found.identical else "different")
        trained = f", {found.artifacts_checked} results of jobs computed again" if retrain else ""
        since = f" after position {found.begins}" if found.begins else ""
        typer.echo(f"{found.events} events, {found.decisions} decisions{since}{trained}")
        for line in found.elsewhere:
            typer.echo(f"not trained again: {line}")
        if not found.identical:
            typer.echo(f"first difference of {len(found.differences)}: {found.differences[0]}", err=True)
    if not found.identical:
        raise typer.Exit(1)
