"""How answers to ``everlearn predict`` are shown and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from everlearn.client import Prediction

SHOWN = 20


def answer_of(prediction: Prediction) -> dict[str, Any]:
    """A prediction as a JSON object."""
    answer: dict[str, Any] = {
        "id": prediction.id,
        "version": prediction.version,
        "value": prediction.value,
    }
    if prediction.probabilities is not None:
        answer["probabilities"] = dict(prediction.probabilities)
    return answer


def show_answers(model: str, answers: Sequence[Mapping[str, Any]], out: Path | None, as_json: bool) -> None:
    """Print answers, or write them to a CSV file."""
    from everlearn.cli.output import show_json, table

    if out is not None:
        _write(answers, out)
    if as_json:
        facts = {"model": model, "predictions": list(answers)}
        show_json(facts if out is None else {"model": model, "rows": len(answers), "path": str(out)})
    elif out is not None:
        typer.echo(f"wrote {len(answers)} answers to {out}; label them with 'everlearn label {model} FILE'")
    else:
        rows = [(a["id"], a["version"], a["value"], _surest(a.get("probabilities"))) for a in answers[:SHOWN]]
        table(("id", "version", "value", "probability"), rows)
        if len(answers) > SHOWN:
            typer.echo(f"and {len(answers) - SHOWN} more; --out FILE or --json gives them all")


def tell_ignored(columns: Mapping[str, int]) -> None:
    """Say which columns the model's schema does not know."""
    if columns:
        typer.echo(f"ignored columns that the model does not name: {', '.join(columns)}", err=True)


def _surest(probabilities: Mapping[str, float] | None) -> float | None:
    return max(probabilities.values(), default=None) if probabilities else None


def _write(answers: Sequence[Mapping[str, Any]], out: Path) -> None:
    import csv

    classes: dict[str, None] = {}
    for answer in answers:
        classes.update(dict.fromkeys(answer.get("probabilities") or {}))
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "version", "value", *(f"probability_{name}" for name in classes)])
        for answer in answers:
            given = answer.get("probabilities") or {}
            writer.writerow([answer["id"], answer["version"], answer["value"], *map(given.get, classes)])
