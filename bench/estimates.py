"""How good is a model, said before any label has come? And is it said when that cannot be known?

    python bench/estimates.py [--data FOLDER] [--rows 2000] [--seed N] [--quick] [--json]

Covariate shift on three real streams. The rows are shuffled and split: one part is learned by the
``window`` learner, one calibrates, and from the rest chunks are drawn that lean more or less to one side
of a column (with weight exp(lean × z), z the column's normal score and lean from -1 to 1, so that its
mean moves by up to a standard deviation). So features move and the truth of a row stays. The column is
the one along which accuracy differs most on the part that calibrates. All that several times, with other
splits. The estimate is the product's own (:class:`LabelFree`); beside it is the naive one, that accuracy
is still what it was on the part that calibrates.

Concept drift: chunks without lean; from a moment on the truth of half of the rows, at one side of the
column, is another one (each class becomes the next). Labels come ``delay`` rows late.

``--json`` prints one object:

seed, quick, rows   of a chunk
streams             {name: {"mae_points": mean absolute error of the estimate over chunks, "naive_mae_points",
                    "chance_points": the error of the true chance to be right (a chunk has so many rows),
                    "bias_points", "outside_band": share of chunks off by more than 3 standard errors,
                    "splits", "chunks", "columns", "accuracy": [least, greatest] of a chunk}};
                    a point is a hundredth of accuracy
worst_mae_points    the greatest of the streams
concept_drift       {"stream", "error_points": mean absolute error on the chunks after the change whose labels
                    had not begun to come, "before_points": the same before the change, "flagged": whether the
                    estimate was flagged as blind after the change, "flagged_before": and before it,
                    "rows_to_flag": from the change to the flag, "delay": rows until a label}
seconds             that it took
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from everlearn import learners
from everlearn.loop.estimates import MEMORY, LabelFree
from everlearn.types import Output
from streams import DATA, Missing, Stream, from_csv

NAMES = ("elec", "insects", "phishing")
LEFT_OUT = {"elec": (0,)}  # the date, a clock
LEARNED = 4000
LEAN = 1.0
DELAY = 2000


@dataclass(frozen=True)
class Answered:
    """Rows with the column that will lean (normal scores), what was answered to them, and the truth."""

    score: Any
    outputs: list[Output]
    truth: Any
    column: int = -1

    @property
    def right(self) -> Any:
        """Whether each answer was right; (n,)."""
        return np.array([output.value for output in self.outputs]) == self.truth

    def some(self, rows: Any) -> Answered:
        """Some of the rows, by their numbers."""
        return Answered(self.score[rows], [self.outputs[i] for i in rows], self.truth[rows], self.column)


def split(stream: Stream, seed: int, learned: int) -> tuple[Answered, Answered]:
    """The part that calibrates, and the rest, answered by a learner that saw neither."""
    order = np.random.default_rng(seed).permutation(len(stream.y))
    X = np.delete(stream.X, LEFT_OUT.get(stream.name, ()), axis=1)[order]
    y = stream.y[order]
    learner = learners.build("window", size=learned, adapt=False, seed=seed)
    learner.learn(X[:learned], y[:learned])
    calibrating = slice(learned, learned + MEMORY)
    outputs = answers(learner, X[learned:])
    right = np.array([output.value for output in outputs[:MEMORY]]) == y[calibrating]
    column = telling_column(X[calibrating], right)
    score = normal_scores(X[learned:, column])
    whole = Answered(score, outputs, y[learned:], column)
    return whole.some(np.arange(MEMORY)), whole.some(np.arange(MEMORY, len(outputs)))


def answers(learner: Any, X: Any) -> list[Output]:
    chances = learner.predict(X)
    names = [int(name) for name in learner.classes]
    keys = [str(name) for name in names]
    picks = chances.argmax(axis=1).tolist()
    return [
        Output(names[pick], dict(zip(keys, row, strict=True)))
        for pick, row in zip(picks, chances.tolist(), strict=True)
    ]


def telling_column(X: Any, right: Any) -> int:
    """The column along which being right changes most, by rank correlation."""
    ranks = np.apply_along_axis(average_ranks, 0, X)
    centred = ranks - ranks.mean(axis=0)
    norm = np.sqrt((centred**2).sum(axis=0))
    return int(np.argmax(np.abs(centred.T @ (right - right.mean())) / np.where(norm > 0.0, norm, np.inf)))


def average_ranks(values: Any) -> Any:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2.0)[place]


def normal_scores(values: Any) -> Any:
    """The column on a normal scale by its ranks."""
    from scipy.special import ndtri

    return ndtri((average_ranks(values) - 0.5) / len(values))


def calibrated(known: Answered, rows: int) -> LabelFree:
    """The product's estimates, having seen the truth of the part that calibrates."""
    state = LabelFree("classification", rows)
    for i, output in enumerate(known.outputs):
        state.learn(i + 1, output, int(known.truth[i]))
    return state


def covariate_shift(known: Answered, rest: Answered, rows: int, chunks: int, seed: int) -> dict[str, Any]:
    """Estimates over chunks that lean, without a label, beside what is true."""
    rng = np.random.default_rng(seed)
    state, errors, naive, accuracy, outside = calibrated(known, rows), [], [], [], 0
    before = float(known.right.mean())
    for number, lean in enumerate(np.linspace(-LEAN, LEAN, chunks)):
        weights = np.exp(lean * rest.score)
        chunk = rest.some(rng.choice(len(rest.truth), size=rows, p=weights / weights.sum()))
        estimate = None
        for i, output in enumerate(chunk.outputs):
            estimate = state.take(10_000 + number * rows + i, output)
        assert estimate is not None
        accuracy.append(float(chunk.right.mean()))
        errors.append(estimate.value - accuracy[-1])
        naive.append(before - accuracy[-1])
        outside += abs(errors[-1]) > 3.0 * estimate.error()
    return {
        "mae_points": points(np.abs(errors).mean()),
        "naive_mae_points": points(np.abs(naive).mean()),
        "chance_points": points(
            np.sqrt(2.0 / np.pi * np.mean(np.multiply(accuracy, 1.0 - np.array(accuracy))) / rows)
        ),
        "bias_points": points(np.mean(errors)),
        "chunks": chunks,
        "column": known.column,
        "accuracy": [points(min(accuracy)), points(max(accuracy))],
        "outside_band": outside / chunks,
    }


def together(shifted: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of several splits as one: means, the sum of chunks, and the range of accuracy."""
    low, high = zip(*(of["accuracy"] for of in shifted), strict=True)
    means = {key: round(float(np.mean([of[key] for of in shifted])), 4) for key in shifted[0] if "_" in key}
    return {
        **means,
        "splits": len(shifted),
        "chunks": sum(of["chunks"] for of in shifted),
        "columns": [of["column"] for of in shifted],
        "accuracy": [min(low), max(high)],
    }


def concept_drift(
    name: str, known: Answered, rest: Answered, classes: int, seed: int, rows: int = 500
) -> dict[str, Any]:
    """Estimates before and after the truth changes, with labels that come late."""
    rng = np.random.default_rng(seed)
    change, total = 6 * rows + DELAY, 12 * rows + 2 * DELAY
    drawn = rest.some(rng.choice(len(rest.truth), size=total))
    turned = (np.arange(total) >= change) & (drawn.score > 0.0)
    truth = np.where(turned, (drawn.truth + 1) % classes, drawn.truth)
    right = np.array([output.value for output in drawn.outputs]) == truth
    state, errors, flags = calibrated(known, rows), [], []
    for i, output in enumerate(drawn.outputs):
        estimate = state.take(10_000 + i, output)
        if estimate is not None:
            errors.append((i + 1, estimate.value - float(right[i + 1 - rows : i + 1].mean())))
        if i >= DELAY:
            old = i - DELAY
            state.learn(10_000 + old, drawn.outputs[old], int(truth[old]))
        if state.record.blind is not None:
            flags.append(i)
    blind = [abs(error) for end, error in errors if change + rows <= end <= change + DELAY]
    seeing = [abs(error) for end, error in errors if end <= change]
    after = [i for i in flags if i >= change]
    return {
        "stream": name,
        "error_points": points(np.mean(blind)),
        "before_points": points(np.mean(seeing)),
        "flagged": bool(after),
        "flagged_before": any(i < change for i in flags),
        "rows_to_flag": after[0] - change if after else None,
        "delay": DELAY,
    }


def points(value: Any) -> float:
    return round(100.0 * float(value), 3)


def run(options: argparse.Namespace, streams: list[Stream]) -> Iterator[tuple[str, Any]]:
    """What each stream shows, as it becomes known; at last concept drift, on the first stream."""
    for place, stream in enumerate(streams):
        learned = min(LEARNED, len(stream.y) // 3)
        shifted = []
        for number in range(2 if options.quick else 5):
            seed = 1000 * options.seed + number
            known, rest = split(stream, seed, learned)
            shifted.append(covariate_shift(known, rest, options.rows, 11, seed))
        yield stream.name, together(shifted)
        if place == 0:
            drifted = concept_drift(stream.name, known, rest, stream.classes, options.seed)
    yield "concept_drift", drifted


def figures(options: argparse.Namespace) -> dict[str, Any]:
    """The object that ``--json`` prints."""
    started = time.perf_counter()
    try:
        streams = [from_csv(name, options.data) for name in NAMES]
    except Missing as reason:
        raise SystemExit(f"{reason}: give the folder of the data with --data FOLDER") from None
    found: dict[str, Any] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("estimates", total=len(streams) + 1)
        for name, result in run(options, streams):
            found[name] = result
            progress.advance(task)
    drifted = found.pop("concept_drift")
    return {
        "seed": options.seed,
        "quick": options.quick,
        "rows": options.rows,
        "streams": found,
        "worst_mae_points": max(result["mae_points"] for result in found.values()),
        "concept_drift": drifted,
        "seconds": round(time.perf_counter() - started, 1),
    }


def show(result: dict[str, Any]) -> None:
    table = Table(title=f"Accuracy estimated without labels, chunks of {result['rows']} rows that lean")
    for title in (
        "stream",
        "accuracy, %",
        "error of ours, points",
        "naive",
        "chance",
        "bias",
        "outside band",
    ):
        table.add_column(title, justify="left" if title == "stream" else "right")
    for name, of in result["streams"].items():
        low, high = of["accuracy"]
        table.add_row(
            name,
            f"{low:.1f} to {high:.1f}",
            f"{of['mae_points']:.2f}",
            f"{of['naive_mae_points']:.2f}",
            f"{of['chance_points']:.2f}",
            f"{of['bias_points']:+.2f}",
            f"{of['outside_band']:.0%}",
        )
    console = Console()
    console.print(table)
    drift = result["concept_drift"]
    flag = f"flagged as blind after {drift['rows_to_flag']} rows" if drift["flagged"] else "not flagged"
    console.print(
        f"Concept drift on {drift['stream']}: off by {drift['error_points']:.1f} points "
        f"({drift['before_points']:.1f} before), {flag}; labels come {drift['delay']} rows late"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the data")
    parser.add_argument("--rows", type=int, default=2000, help="rows of a chunk")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = figures(options)
    if options.json:
        json.dump(result, sys.stdout, indent=2)
        print()
    else:
        show(result)


if __name__ == "__main__":
    main()
