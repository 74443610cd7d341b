"""``everlearn models``: make, show and remove models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from everlearn.cli.options import Data, Json, Key, Model, Url
from everlearn.errors import InvalidError

app = typer.Typer(help="Make, show, change and remove models.", no_args_is_help=True, rich_markup_mode=None)

SpecFile = Annotated[Path, typer.Argument(help="Spec in YAML or JSON ('everlearn init' writes one).")]


@app.command("list")
def list_models(url: Url = None, key: Key = None, data: Data = None, as_json: Json = False) -> None:
    """List the models."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json, table

    with connect(url, key, data) as client:
        items = list(client.models(limit=1000))
    if as_json:
        show_json({"items": items})
        return
    rows = [
        (m["name"], m["task"], m["champion"], m["state"], m["metric"], m["threshold"], m["log"]["rows"])
        for m in items
    ]
    columns = ("name", "task", "champion", "state", "metric", "threshold", "predictions")
    table(columns, rows, empty="no models yet: make one with 'everlearn models create SPEC'")


@app.command()
def show(model: Model, url: Url = None, key: Key = None, data: Data = None, as_json: Json = False) -> None:
    """Show one model: champion, scores, log and spec."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json
    from everlearn.cli.show import describe_model

    with connect(url, key, data) as client:
        found = client.model(model)
    if as_json:
        show_json(found)
    else:
        describe_model(found)


@app.command()
def create(
    spec: SpecFile,
    name: Annotated[str | None, typer.Option("--name", help="Another name than the spec's.")] = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a model from a spec."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json

    content = read_spec(spec)
    with connect(url, key, data) as client:
        made = client.create_model({**content, "name": name} if name else content)
    if as_json:
        show_json(made)
        return
    typer.echo(
        f"made {made['name']}: version {made['champion']} answers until there is something to learn from"
    )
    typer.echo(f"next: everlearn load {made['name']} FILE   or   everlearn predict {made['name']} FILE")


@app.command()
def update(
    model: Model,
    changes: Annotated[Path, typer.Argument(help="YAML or JSON with the fields to change.")],
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Change a model's spec; its name, task, target and features stay."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json

    content = read_spec(changes)
    with connect(url, key, data) as client:
        changed = client.update_model(model, content)
    if as_json:
        show_json(changed)
    else:
        typer.echo(f"changed {', '.join(content)} of {model}")


@app.command()
def delete(
    model: Model,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Remove a model with all of its log, versions and decisions."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import show_json

    if not yes:
        typer.confirm(f"Remove {model} with all of its log, versions and decisions?", abort=True, err=True)
    with connect(url, key, data) as client:
        client.delete_model(model)
    if as_json:
        show_json({"deleted": model})
    else:
        typer.echo(f"removed {model}")


def read_spec(path: Path) -> dict[str, Any]:
    """A YAML or JSON file that holds one mapping; raises InvalidError that says where it is wrong."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InvalidError(f"{path} is no valid YAML{where}: {getattr(error, 'problem', error)}") from None
    if not isinstance(content, dict):
        raise InvalidError(f"{path} must hold a mapping such as 'name: spam'; 'everlearn init' writes one")
    return content
