"""Commands that show: status, versions, decisions, settings."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any

import typer

from everlearn.cli.options import Data, Json, Key, Model, Url

Limit = Annotated[int, typer.Option("--limit", min=1, help="How many at most.")]


def status(
    model: Annotated[str | None, typer.Argument(help="Name of a model; default: all.")] = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show how the models are: champion, score against threshold, how far the loop is."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json, table

    with connect(url, key, data) as client:
        items = [client.model(model)] if model else list(client.models(limit=1000))
        server = client.health()
    if as_json:
        show_json({"server": server, "items": items})
    elif model:
        describe_model(items[0])
    else:
        columns = ("model", "state", "champion", "metric", "score", "threshold", "labels", "behind")
        table(columns, [_status_row(item) for item in items], empty="no models yet")


def describe_model(model: Mapping[str, Any]) -> None:
    """Print one model as people read it."""
    from everlearn.cli.output import moment, pairs

    log = model["log"]
    pairs(
        {
            "model": f"{model['name']} ({model['task']} of {model['target']})",
            "state": model["state"],
            "champion": f"version {model['champion']}, since {moment(model.get('champion_since'))}",
            model["metric"]: f"{_score(model)}, threshold {model['threshold']}",
            "learner": model["learner"],
            "log": f"{log['rows']} predictions, {log['labels']} labels, {log['examples']} examples"
            + (f", {log['parked']} labels parked" if log["parked"] else ""),
            "loop": f"at {model['cursor']} of {log['seq']} events",
            "features": _features(model["spec"]["features"]),
        }
    )


def _features(kinds: Mapping[str, str]) -> str:
    """The columns under their kinds: ``2 numeric: age, height; 1 boolean: member``."""
    by_kind: dict[str, list[str]] = {}
    for name, kind in kinds.items():
        by_kind.setdefault(kind, []).append(name)
    return "; ".join(f"{len(names)} {kind}: {', '.join(names)}" for kind, names in by_kind.items())


def _score(model: Mapping[str, Any]) -> str:
    from everlearn.cli.output import cell

    champion = (model.get("scores") or {}).get("champion") or {}
    if champion.get("value") is None:
        return "not enough labels yet"
    bounds = f" ({cell(champion.get('lower'))} to {cell(champion.get('upper'))})"
    return f"{cell(champion['value'])}{bounds}"


def _status_row(model: Mapping[str, Any]) -> tuple[object, ...]:
    champion = (model.get("scores") or {}).get("champion") or {}
    log = model["log"]
    behind = log["seq"] - model["cursor"]
    score = champion.get("value")
    return (
        model["name"],
        model["state"],
        model["champion"],
        model["metric"],
        score,
        model["threshold"],
        log["labels"],
        behind,
    )


def versions(
    model: Model,
    limit: Limit = 20,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List a model's versions, newest first."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import moment, show_json, table

    with connect(url, key, data) as client:
        items = list(islice(client.versions(model, limit=min(limit, 1000)), limit))
    if as_json:
        show_json({"items": items})
        return
    rows = [
        (
            v["number"],
            v["state"],
            v["learner"],
            v["rows"],
            v["parent"],
            moment(v["created_at"]),
            (v["digest"] or "-")[:12],
        )
        for v in items
    ]
    table(("version", "state", "learner", "rows", "parent", "made", "digest"), rows)


def decisions(
    model: Model,
    kind: Annotated[str | None, typer.Option("--kind", help="Only promote, hold, refuse, ….")] = None,
    limit: Limit = 20,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List what the loop decided and why, newest first."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import moment, show_json, table

    with connect(url, key, data) as client:
        items = list(islice(client.decisions(model, kind, limit=min(limit, 1000)), limit))
    if as_json:
        show_json({"items": items})
        return
    rows = [(d["number"], moment(d["at"]), d["kind"], d["version"], d["reason"]) for d in items]
    table(("number", "at", "decision", "version", "reason"), rows)


def settings(data: Data = None, as_json: Json = False) -> None:
    """List every setting with its variable and the value in force; needs no server."""
    from everlearn.cli.output import show_json, table
    from everlearn.wiring import Installation, describe_settings

    in_force = Installation.load(data=data).settings
    items = []
    for info in describe_settings():
        value = getattr(in_force, info.field)
        items.append(
            {
                "variable": info.variable,
                "value": None if value is None else str(value),
                "default": info.default or None,
                "set": info.field in in_force.model_fields_set,
                "description": info.description,
            }
        )
    if as_json:
        show_json({"items": items})
    else:
        columns = ("variable", "value", "set", "description")
        table(columns, [tuple(item[column] for column in columns) for item in items])
