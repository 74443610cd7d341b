"""The figures: accuracy over rows a second, and accuracy over time where changes were planted."""

from __future__ import annotations

from math import ceil, log10
from pathlib import Path
from typing import Any

from learners_streams import DEFAULT

COLOURS = {"ours": "#0b6e4f", "river": "#c8553d", "capymoa": "#3d5a98"}


def _plots() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def accuracy_over_rate(streams: dict[str, Any], path: Path) -> None:
    """Two panels a stream: labels at once, and as late as they naturally are."""
    pyplot = _plots()
    panels = [(name, stream, delay) for name, stream in streams.items() for delay in (0, stream["delay"])]
    columns = 4
    rows = ceil(len(panels) / columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(4.6 * columns, 3.9 * rows), squeeze=False)
    for axis, (name, stream, delay) in zip(axes.flat, panels, strict=False):
        results = [r for r in stream["results"] if r["delay"] == delay]
        _rate_panel(axis, results)
        axis.set_title(f"{name}, labels {'at once' if not delay else f'{delay} rows late'}", fontsize=10)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    handles = [pyplot.Line2D([], [], marker="o", ls="", color=c, label=k) for k, c in COLOURS.items()]
    figure.legend(handles=handles, loc="upper right", ncols=3, frameon=False)
    figure.supxlabel("rows a second, answered and learned (log)")
    figure.supylabel("accuracy %")
    _save(figure, path)


def _rate_panel(axis: Any, results: list[dict[str, Any]]) -> None:
    from matplotlib.ticker import NullFormatter

    if not results:
        return
    best = max(r["accuracy"] for r in results)
    # What is far below would press all others together; it stands at the lower edge, with its figure.
    floor = max(min(r["accuracy"] for r in results), best - 20.0)
    span = max(best - floor, 1.0)
    taken: list[tuple[float, float]] = []
    for result in sorted(results, key=lambda r: -r["accuracy"]):
        shown, rate = max(result["accuracy"], floor), result["rows_per_second"]
        low = result["accuracy"] < floor
        ours = result["kind"] == "ours"
        star = result["learner"] == DEFAULT
        axis.plot(
            rate, shown, marker="v" if low else "*" if star else "o", ms=11 if star else 5,
            color=COLOURS[result["kind"]], zorder=3,
        )  # fmt: skip
        spot = (log10(rate), shown)
        while any(abs(spot[0] - x) < 0.9 and abs(spot[1] - y) < span * 0.045 for x, y in taken):
            spot = (spot[0], spot[1] - span * 0.015)
        taken.append(spot)
        label = result["learner"].removeprefix("river ").removeprefix("capymoa ")
        label += f" {result['accuracy']:.1f}" if star or low else ""
        axis.annotate(
            label, (rate, shown), (10**spot[0] * 1.12, spot[1]), fontsize=7, va="center",
            color=COLOURS[result["kind"]], weight="bold" if ours else "normal",
        )  # fmt: skip
    axis.set_xscale("log")
    axis.xaxis.set_minor_formatter(NullFormatter())
    rates = [r["rows_per_second"] for r in results]
    axis.set_xlim(min(rates) / 1.6, max(rates) * 8)
    axis.set_ylim(floor - 0.22 * span, best + 0.06 * span)
    axis.grid(alpha=0.25)
    axis.tick_params(labelsize=7)


def accuracy_over_time(drift: list[dict[str, Any]], path: Path) -> None:
    """One panel a stream: the default and River's best there, the changes as lines."""
    pyplot = _plots()
    columns = 3
    rows = ceil(len(drift) / columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(5.2 * columns, 3.2 * rows), squeeze=False)
    for axis, stream in zip(axes.flat, drift, strict=False):
        for name, colour in ((DEFAULT, COLOURS["ours"]), (stream["best_peer"], COLOURS["river"])):
            result = next((r for r in stream["results"] if r["learner"] == name), None)
            if result is not None:
                ends = [(i + 1) * stream["trace_rows"] for i in range(len(result["trace"]))]
                axis.plot(ends, result["trace"], color=colour, label=f"{name} {result['accuracy']:.1f}")
        for row in stream["changes"]:
            axis.axvline(row, color="#999999", ls=":", lw=1)
        axis.set_title(stream["stream"], fontsize=10)
        axis.legend(fontsize=8, loc="lower right", frameon=False)
        axis.grid(alpha=0.25)
        axis.tick_params(labelsize=7)
    figure.supxlabel("rows (dotted: the concept changes, or starts to)")
    figure.supylabel("accuracy % of each 250 rows, labels at once")
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout(rect=(0.01, 0.01, 1, 0.97))
    figure.savefig(path, dpi=110)
    _plots().close(figure)
