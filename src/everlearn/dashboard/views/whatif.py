"""What a what-if found, in words and in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from everlearn.dashboard.views.parts import Cell, Html, html
from everlearn.dashboard.words import number

Record = Mapping[str, Any]

POLICIES: Final = ("threshold", "cost_aware", "on_drift", "every", "never", "always")
GATES: Final = ("proof", "open")
LEARNERS: Final = (
    "blend",
    "window",
    "linear",
    "forest",
    "knn",
    "ridge",
    "additive",
    "patches",
    "rates",
    "majority",
    "persistence",
)
_POLICY_TITLES: Final = {
    "threshold": "threshold: when the score is not proven to keep it",
    "cost_aware": "cost aware: when staying costs more than an update",
    "on_drift": "on drift: after a warning",
    "every": "every: by the calendar",
    "never": "never: keep the first version",
    "always": "always: at every check",
}
_GATE_TITLES: Final = {"proof": "proof: only if proven better", "open": "open: whatever can be served"}
_BESIDE: Final = ("never", "cadence", "cusum", "always")


def policy_title(name: str) -> str:
    """A policy as the form shows it."""
    return _POLICY_TITLES.get(name, name)


def gate_title(name: str) -> str:
    """A gate as the form shows it."""
    return _GATE_TITLES.get(name, name)


def headline(report: Record) -> str:
    """How the best of the settings stands against the best of the references, in one sentence."""
    best = next(line for line in report["settings"] if line["name"] == report["best"])
    rivals = [line for line in report["settings"] if line["role"] in _BESIDE]
    if not rivals:
        return f"The cheapest setting is {best['name']}: it cost {number(best['cost'], 1)}."
    rival = min(rivals, key=lambda line: float(line["cost"]))
    gap = float(rival["cost"]) - float(best["cost"])
    word = f"{number(abs(gap), 1)} {'less' if gap > 0 else 'more'} than" if round(gap, 1) else "as much as"
    return (
        f"{best['name']} cost {word} the best way without a loop, “{rival['name']}” "
        f"({number(best['cost'], 1)} against {number(rival['cost'], 1)})."
    )


def table(report: Record) -> tuple[list[str], list[list[Cell]]]:
    """The heads and rows of the table; what was asked for is set in bold."""
    regression = report.get("task") == "regression"
    heads = [
        "Setting",
        "MAE" if regression else "Accuracy",
        "Regret",
        "Updates",
        "Trained",
        "Refused",
        "Compute s",
        "Labels used",
    ]
    rows: list[list[Cell]] = []
    for line in report["settings"]:
        name = line["name"]
        score = line.get("mean_loss") if regression else line.get("accuracy")
        rows.append(
            [
                Html(f"<b>{html(name)}</b>") if line["role"] == "setting" else name,
                number(score, 4),
                number(line.get("regret"), 1),
                *(number(line.get(field)) for field in ("updates", "trained", "refused")),
                number(line.get("compute_seconds"), 1),
                number(line.get("labels_used")),
            ]
        )
    return heads, rows
