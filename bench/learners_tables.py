"""A report as tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = {
    "learner": "learner",
    "accuracy": "accuracy %",
    "accuracy_spread": "spread",
    "seeds": "seeds",
    "kappa_t": "kappa-T %",
    "log_loss": "log loss",
    "new_class_recall": "new class %",
    "after_change": "after change %",
    "rows_per_second": "rows/s",
    "peak_mb": "peak MB",
    "state_kb": "state kB",
}


def show(report: dict[str, Any], console: Console) -> None:
    """Print what was run."""
    for name, stream in (report["streams"] or {}).items():
        _stream(name, stream, console)
    _plain("Rows a second beside a peer, in turns on one core (medians)", report["rates"], console)
    for stream in report["drift"] or []:
        rows = [
            {k: r[k] for k in ("learner", "accuracy", "after_change")}
            for r in sorted(stream["results"], key=lambda r: -r["accuracy"])
        ]
        _plain(f"{stream['stream']}: labels at once", rows, console)
    _memory(report["memory"], console)
    _plain("One row at 8 features, microseconds (medians)", report["latency"], console)
    for name, stream in (report["regression"] or {}).items():
        rows = sorted(stream["results"], key=lambda r: r["mae"])
        _plain(f"{name}: mean absolute error, {stream['rows']:,} rows, labels at once", rows, console)
    _ridge(report.get("ridge"), console)
    _plain("What was asked, and whether it was kept", report["goals"], console)


def _stream(name: str, stream: dict[str, Any], console: Console) -> None:
    for delay in dict.fromkeys([0, stream["delay"]]):
        when = f"{delay} rows late" if delay else "at once"
        results = sorted((r for r in stream["results"] if r["delay"] == delay), key=lambda r: -r["accuracy"])
        columns = [key for key in COLUMNS if any(r[key] is not None for r in results)]
        table = Table(title=f"{name}: {stream['rows']:,} rows of {stream['features']}, labels {when}")
        for key in columns:
            table.add_column(COLUMNS[key], justify="left" if key == "learner" else "right")
        for result in results:
            table.add_row(
                *(cell(result[key]) for key in columns),
                style="bold" if result["kind"] == "ours" else None,
            )
        console.print(table)
    for one in stream["skipped"]:
        console.print(f"  not run: {one['learner']}: {one['reason']}", style="yellow")


def _memory(memory: list[dict[str, Any]] | None, console: Console) -> None:
    rows = []
    for one in memory or []:
        if "failed" in one:
            rows.append({"learner": one["learner"], "rows": one["failed"]})
            continue
        last = one["marks"][-1]
        rows.append(
            {
                "learner": one["learner"],
                "rows": one["rows"],
                "accuracy": one["accuracy"],
                "resident_mb": last["resident_mb"],
                "growth_mb": one["growth_mb"],
                "state_kb": last["state_kb"],
                "state_growth_kb": one["state_growth_kb"],
                "same_in_new_process": one["same_in_new_process"],
                "same_if_asked_first": one["same_if_asked_first"],
                "new_class_first_right": one["new_class_first_right"],
                "new_class_recall": one["new_class_recall"],
                "new_class_recall_later": one["new_class_recall_later"],
            }
        )
    _plain("Memory over many rows (growth: after 200,000), a stored version, a late class", rows, console)


def _ridge(ridge: dict[str, Any] | None, console: Console) -> None:
    if not ridge:
        return
    what = f"ridge, {ridge['rows']:,} rows of {ridge['columns']}"
    _plain(f"{what}: streaming, largest difference from the batch solution", ridge["streaming"], console)
    _plain(
        f"{what}: half forgotten, largest difference from training on the rest", ridge["forgetting"], console
    )
    rates = {key: ridge[key] for key in ridge if key.endswith("_per_second")}
    _plain("ridge: rows a second", [rates], console)


def _plain(title: str, rows: list[dict[str, Any]] | None, console: Console) -> None:
    if not rows:
        return
    keys = [key for key in rows[0] if any(row.get(key) is not None for row in rows)]
    table = Table(title=title)
    for key in keys:
        table.add_column(key.replace("_", " "), justify="left" if isinstance(rows[0][key], str) else "right")
    for row in rows:
        table.add_row(*(cell(row.get(key)) for key in keys))
    console.print(table)


def cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"
    return str(value)
