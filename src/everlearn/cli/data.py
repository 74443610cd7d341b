"""Commands that bring data in and answers out: init, predict, label, load."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everlearn.cli.options import Data, Json, Key, Model, Url
from everlearn.errors import ConflictError, InvalidError

if TYPE_CHECKING:
    from everlearn.client import Client

BATCH = 1000

Table = Annotated[Path, typer.Argument(help="CSV or Parquet file.", metavar="FILE", show_default=False)]
Target = Annotated[str, typer.Option("--target", help="Column to predict.", show_default=False)]


def init(
    file: Table,
    target: Target,
    name: Annotated[str | None, typer.Option("--name", help="Name of the model [the file's].")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where to write the spec.")] = Path("spec.yaml"),
    learner: Annotated[str, typer.Option("--learner", help="See 'everlearn learners'.")] = "blend",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Infer a model's spec from a table and write it as YAML. Needs no server."""
    from everlearn.cli.output import show_json
    from everlearn.cli.specs import check_learner, model_name, write_yaml
    from everlearn.cli.tables import read_table
    from everlearn.features.infer import infer_spec
    from everlearn.spec import parse_spec

    if out.exists() and not force:
        raise ConflictError(f"{out} is there already: give another --out, or --force to write over it")
    inferred = infer_spec(read_table(file), target, name=name or model_name(file))
    notes = inferred.notes
    spec = parse_spec({**inferred, "learner": learner})
    check_learner(spec)
    out.write_text(write_yaml(spec, notes, source=file.name), encoding="utf-8")
    if as_json:
        show_json({"path": str(out), "spec": spec.to_dict(), "notes": notes})
        return
    typer.echo(f"wrote {out}: {spec.task} of {spec.target!r} from {len(spec.features)} features")
    for note in notes:
        typer.echo(f"  {note}")
    typer.echo(f"next: everlearn replay {file} --target {target}    what the loop would do with this file")
    typer.echo(f"      everlearn models create {out}    on a running server ('everlearn up')")


def predict(
    model: Model,
    file: Annotated[Path | None, typer.Argument(help="CSV or Parquet file.", metavar="[FILE]")] = None,
    row: Annotated[str | None, typer.Option("--row", help='One row as JSON: {"x": 1}.')] = None,
    id_column: Annotated[str | None, typer.Option("--id-column", help="Column with prediction ids.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write answers to this CSV file.")] = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Predict the rows of a file, or one --row. Keep the ids: labels are sent for them."""
    from everlearn.cli.answers import show_answers

    if (file is None) == (row is None):
        raise InvalidError("Give either a FILE or one --row")
    from everlearn.cli.connection import connect

    with connect(url, key, data) as client:
        if file is None:
            answers = _predict_one(client, model, str(row))
        else:
            answers = _predict_file(client, model, file, id_column, quiet=as_json)
    show_answers(model, answers, out, as_json)


def _predict_one(client: Client, model: str, text: str) -> list[dict[str, Any]]:
    from everlearn.cli.answers import answer_of

    try:
        row = json.loads(text)
    except ValueError as error:
        raise InvalidError(f"--row is no JSON: {error}") from None
    if not isinstance(row, dict):
        raise InvalidError('--row must be a JSON object such as {"x": 1}')
    return [answer_of(client.predict_one(model, row))]


def _predict_file(
    client: Client, model: str, file: Path, id_column: str | None, *, quiet: bool
) -> list[dict[str, Any]]:
    from everlearn.cli.answers import answer_of, tell_ignored
    from everlearn.cli.output import progress
    from everlearn.cli.tables import batches, read_table

    frame = read_table(file)
    if id_column is not None and id_column not in frame.columns:
        raise InvalidError(f"--id-column: {file} has no column {id_column!r}")
    ids = None if id_column is None else [str(value) for value in frame.pop(id_column)]
    frame = frame.drop(columns=client.model(model)["target"], errors="ignore")
    answers: list[dict[str, Any]] = []
    ignored: dict[str, int] = {}
    with progress("predicting", quiet=quiet) as report:
        for rows in batches(frame, BATCH):
            start = len(answers)
            wanted = [uuid.uuid4().hex for _ in rows] if ids is None else ids[start : start + len(rows)]
            served = client.predict(model, rows, wanted)
            answers.extend(map(answer_of, served))
            for name, count in served.ignored_columns.items():
                ignored[name] = ignored.get(name, 0) + count
            report(len(answers), len(frame))
    tell_ignored(ignored)
    return answers


def label(
    model: Model,
    file: Annotated[
        Path | None, typer.Argument(help="CSV or Parquet file with columns id and value.", metavar="[FILE]")
    ] = None,
    id: Annotated[str | None, typer.Option("--id", help="Id of one prediction.")] = None,  # noqa: A002
    value: Annotated[str | None, typer.Option("--value", help="Its true value.")] = None,
    correction: Annotated[bool, typer.Option("--correction", help="Replace values already known.")] = False,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Send true values for predictions: a file of them, or one by --id and --value."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import progress, show_json

    labels = _labels(file, id, value)
    total: dict[str, Any] = {"accepted": 0, "duplicate": 0, "conflict": [], "parked": []}
    with connect(url, key, data) as client, progress("labelling", quiet=as_json) as report:
        for start in range(0, len(labels), BATCH):
            batch = labels[start : start + BATCH]
            receipt = client.label(model, batch, correction=correction)
            total["accepted"] += receipt.accepted
            total["duplicate"] += receipt.duplicate
            total["conflict"] += receipt.conflict
            total["parked"] += receipt.parked
            report(start + len(batch), len(labels))
    if as_json:
        show_json(total)
        return
    typer.echo(f"{total['accepted']} accepted, {total['duplicate']} known already")
    if total["conflict"]:
        some = ", ".join(total["conflict"][:5])
        typer.echo(f"{len(total['conflict'])} refused, for another value is known ({some}): use --correction")
    if total["parked"]:
        some = ", ".join(total["parked"][:5])
        typer.echo(f"{len(total['parked'])} parked until their predictions appear ({some})")


def _labels(file: Path | None, known_id: str | None, value: str | None) -> list[dict[str, Any]]:
    if file is None:
        if known_id is None or value is None:
            raise InvalidError("Give either a FILE with columns id and value, or --id and --value")
        return [{"id": known_id, "value": _typed(value)}]
    if known_id is not None or value is not None:
        raise InvalidError("Give either a FILE, or --id and --value, not both")
    from everlearn.cli.tables import plain, read_table

    frame = read_table(file)
    missing = [column for column in ("id", "value") if column not in frame.columns]
    if missing:
        raise InvalidError(f"{file} has no column {missing[0]!r}: it needs the columns id and value")
    pairs = zip(frame["id"], frame["value"].astype(object), strict=True)
    return [{"id": str(name), "value": plain(truth)} for name, truth in pairs]


def _typed(text: str) -> Any:
    """A value of the command line as a table would read it: numbers and booleans, else text."""
    try:
        value = json.loads(text)
    except ValueError:
        return {"True": True, "False": False}.get(text, text)
    return value if isinstance(value, bool | int | float) else text


def load(
    model: Model,
    file: Table,
    again_key: Annotated[
        str | None, typer.Option("--once", help="A name for this load: repeating it stores nothing twice.")
    ] = None,
    url: Url = None,
    key: Key = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Load history: a CSV or Parquet file that holds the features and the target."""
    from everlearn.cli.connection import connect
    from everlearn.cli.output import progress, show_json

    with connect(url, key, data) as client, progress(f"loading {file.name}", quiet=as_json) as report:
        stored = client.load_file(model, file, progress=report, key=again_key)
    if as_json:
        show_json({"accepted": stored})
    else:
        typer.echo(f"stored {stored} examples; watch: everlearn status {model}")
