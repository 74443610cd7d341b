"""Tests for a shift of features without labels: do they keep their false-alarm rate, and what do they see?

    python bench/drift_unlabelled.py [--seed N] [--quick] [--json]

Every run draws a reference of 5,000 rows, keeps its sketch, and tests a window of n new rows against it.
``--json`` prints the object that :func:`run` returns:

reference_rows, runs
false_alarms    {"ks"|"psi"|"chi2": {n: {"0.05", "0.01"}}}: share of windows with a p-value at most that,
                nothing having moved (normal column; 40 categories of falling frequency for chi2)
naive_psi       {n: share of the same windows with "PSI > 0.1" over 10 bins of equal depth}
discrete        {"ks"|"psi": {"0.05", "0.01"}}: a column of few values (Poisson, mean 1.5), n = 500
worst           the greatest of false_alarms at 0.05
power           {"ks"|"psi"|"chi2"|"naive_psi"}: share of windows of 500 rows found at 0.05 when the normal
                column moved by 0.15 standard deviations, or the most frequent category lost a fifth of
                its rows; "ks_scale", "psi_scale": when the standard deviation grew by 15%
discoveries     20 columns, 5 of which moved by 0.25, windows of 500 rows, q = 0.05: "ours" (KS with
                Benjamini-Hochberg) and "unadjusted", each {"false_share": of what was found, "found":
                share of what moved, "any_false": share of windows with a false finding}
watch           {"independent"|"autocorrelated": share of stable windows with any finding, "nominal",
                "windows"}: the product's whole watch over 8 columns and the prediction; the second
                stream is AR(1) with 0.9
joint           the classifier two-sample test: "false_alarms" at 0.05; "power" when two columns of 5 begin
                to correlate by 0.5 and none moves by itself; "each_column": the same of KS by column
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from everlearn.loop.cells import Cells, cells_of
from everlearn.loop.joint import c2st
from everlearn.loop.shift import Shift, benjamini_hochberg, chi2_test, ks_test, psi_test
from everlearn.loop.sketches import category_sketch, numeric_sketch
from everlearn.loop.watch import FeatureWatch
from everlearn.spec import parse_spec
from everlearn.types import Output

ROWS = (100, 250, 500, 1000, 5000)
REFERENCE = 5000
LEVELS = (0.05, 0.01)
CATEGORIES = [f"c{i}" for i in range(40)]
FREQUENCIES = 1.0 / np.arange(1.0, 41.0) ** 1.2
FREQUENCIES /= FREQUENCIES.sum()

Draw = Callable[[int], Any]


def run(seed: int, quick: bool, progress: Callable[[float], None]) -> dict[str, Any]:
    """All the figures; ``progress`` is told the share that is done."""
    runs = 600 if quick else 4000
    rng = np.random.default_rng(seed)
    result: dict[str, Any] = {"reference_rows": REFERENCE, "runs": runs}
    result |= false_alarms(rng, runs, lambda share: progress(0.6 * share))
    result["power"] = power(rng, runs // 4)
    progress(0.7)
    result["discoveries"] = discoveries(rng, runs // 16)
    progress(0.8)
    result["watch"] = watch(rng, 3 if quick else 30)
    progress(0.9)
    result["joint"] = joint(rng, runs // 2)
    progress(1.0)
    return result


def false_alarms(rng: Any, runs: int, progress: Callable[[float], None]) -> dict[str, Any]:
    found: dict[str, Any] = {"ks": {}, "psi": {}, "chi2": {}}
    naive: dict[str, float] = {}
    for step, rows in enumerate(ROWS):
        tests, naive[str(rows)] = numeric(normal(rng), normal(rng), rows, runs)
        found["ks"][str(rows)], found["psi"][str(rows)] = rates(tests["ks"]), rates(tests["psi"])
        found["chi2"][str(rows)] = rates(categorical(rng, FREQUENCIES, rows, runs))
        progress((step + 1) / len(ROWS))
    few = numeric(poisson(rng), poisson(rng), 500, max(runs // 10, 200))[0]
    worst = max(rate[str(LEVELS[0])] for test in found.values() for rate in test.values())
    discrete = {name: rates(few[name]) for name in ("ks", "psi")}
    return {"false_alarms": found, "naive_psi": naive, "discrete": discrete, "worst": worst}


def normal(rng: Any, mean: float = 0.0, deviation: float = 1.0) -> Draw:
    return lambda size: rng.normal(mean, deviation, size=size)


def poisson(rng: Any) -> Draw:
    return lambda size: rng.poisson(1.5, size=size)


def numeric(before: Draw, now: Draw, rows: int, runs: int) -> tuple[dict[str, list[Shift]], float]:
    """The tests of so many windows, and the share that the naive threshold finds."""
    tests: dict[str, list[Shift]] = {"ks": [], "psi": []}
    naive = 0
    for _ in range(runs):
        reference, window = before(REFERENCE), now(rows)
        cells = cells_of(numeric_sketch(reference))
        counts = placed(cells, window)
        tests["ks"].append(ks_test(cells.reference, counts))
        tests["psi"].append(psi_test(cells.reference, counts))
        naive += naive_psi(reference, window) > 0.1
    return tests, naive / runs


def placed(cells: Cells, window: Any) -> Any:
    """The rows of a window without missing values in each cell, as :meth:`Cells.count` does it a row."""
    return np.bincount(1 + np.searchsorted(cells.cuts, window, side="left"), minlength=cells.size).tolist()


def categorical(rng: Any, now: Any, rows: int, runs: int) -> list[Shift]:
    tests = []
    for _ in range(runs):
        reference = rng.choice(CATEGORIES, size=REFERENCE, p=FREQUENCIES).tolist()
        cells = cells_of(category_sketch(reference))
        places = [cells.place(name) for name in CATEGORIES]
        window = np.bincount(places, weights=rng.multinomial(rows, now), minlength=cells.size)
        tests.append(chi2_test(cells.reference, window.tolist(), 1.0, cells.floor))
    return tests


def naive_psi(reference: Any, window: Any) -> float:
    """The index as it is commonly computed: ten bins of equal depth, empty ones set to 0.0001."""
    edges = np.quantile(reference, np.linspace(0.0, 1.0, 11)[1:-1])
    p, q = (np.bincount(np.searchsorted(edges, x), minlength=10) / len(x) for x in (reference, window))
    p, q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    return float(((p - q) * np.log(p / q)).sum())


def rates(tests: list[Shift]) -> dict[str, float]:
    return {str(level): share([test.p_value <= level for test in tests]) for level in LEVELS}


def share(hits: Any) -> float:
    return round(float(np.mean(hits)), 4)


def power(rng: Any, runs: int) -> dict[str, float]:
    """What windows of 500 rows show of a moderate shift."""
    moved, naive = numeric(normal(rng), normal(rng, 0.15), 500, runs)
    wider, _ = numeric(normal(rng), normal(rng, 0.0, 1.15), 500, runs)
    rarer = FREQUENCIES * np.where(np.arange(40) == 0, 0.8, 1.0)
    fewer = categorical(rng, rarer / rarer.sum(), 500, runs)
    found = {name: rates(moved[name])["0.05"] for name in ("ks", "psi")}
    found |= {f"{name}_scale": rates(wider[name])["0.05"] for name in ("ks", "psi")}
    return {**found, "chi2": rates(fewer)["0.05"], "naive_psi": round(naive, 4)}


def discoveries(rng: Any, runs: int) -> dict[str, Any]:
    """What is found among 20 columns, 5 of which moved."""
    moved = np.arange(20) < 5
    found: dict[str, list[Any]] = {"ours": [], "unadjusted": []}
    for _ in range(runs):
        values = []
        for column in range(20):
            cells = cells_of(numeric_sketch(rng.normal(size=REFERENCE)))
            window = rng.normal(0.25 * moved[column], size=500)
            values.append(ks_test(cells.reference, placed(cells, window)).p_value)
        found["ours"].append(benjamini_hochberg(values, 0.05))
        found["unadjusted"].append([value <= 0.05 for value in values])
    return {name: discovered(np.array(hits), moved) for name, hits in found.items()}


def discovered(hits: Any, moved: Any) -> dict[str, float]:
    """What hits (runs, columns) are worth: false ones, those of what moved, windows with a false one."""
    false = hits[:, ~moved].sum(axis=1)
    return {
        "false_share": share(false / np.maximum(hits.sum(axis=1), 1)),
        "found": share(hits[:, moved]),
        "any_false": share(false > 0),
    }


def watch(rng: Any, runs: int) -> dict[str, Any]:
    """The product's watch on stable streams: the share of windows with any finding."""
    names = [f"x{i}" for i in range(8)]
    spec = parse_spec({"name": "m", "target": "y", "features": dict.fromkeys(names, "numeric")})
    result: dict[str, Any] = {"nominal": FeatureWatch.start(spec).alpha}
    for kind, memory in (("independent", 0.0), ("autocorrelated", 0.9)):
        found = [hit for _ in range(runs) for hit in stable(rng, spec, names, memory)]
        result[kind] = share(found)
        result["windows"] = len(found)
    return result


def stable(rng: Any, spec: Any, names: list[str], memory: float, windows: int = 40) -> list[bool]:
    """For every window after the reference whether anything was found, nothing having moved."""
    from scipy.signal import lfilter

    noise = rng.normal(size=((windows + 6) * spec.drift.rows, len(names)))
    series = lfilter([np.sqrt(1.0 - memory**2)], [1.0, -memory], noise, axis=0)[2 * spec.drift.rows :]
    state, found = FeatureWatch.start(spec), []
    for values in series.tolist():
        yes = 1.0 / (1.0 + np.exp(-values[0]))
        output = Output("yes" if yes > 0.5 else "no", {"no": 1.0 - yes, "yes": yes})
        state.take(dict(zip(names, values, strict=True)), output)
        if state.full:
            watching = not state.building
            hit = bool(state.look())
            found += [hit] * watching
    return found


def joint(rng: Any, runs: int) -> dict[str, float]:
    """The classifier two-sample test on 300 rows a side."""

    def sample(correlation: float) -> Any:
        rows = rng.normal(size=(300, 5))
        rows[:, 1] = correlation * rows[:, 0] + np.sqrt(1.0 - correlation**2) * rows[:, 1]
        return rows

    same = [c2st(sample(0.0), sample(0.0), seed).p_value <= 0.05 for seed in range(runs)]
    moved, each = [], []
    for seed in range(max(runs // 4, 10)):
        before, now = sample(0.0), sample(0.5)
        moved.append(c2st(before, now, seed).p_value <= 0.05)
        cells = [cells_of(numeric_sketch(before[:, i])) for i in range(5)]
        tests = [ks_test(of.reference, placed(of, now[:, i])).p_value for i, of in enumerate(cells)]
        each.append(any(benjamini_hochberg(tests, 0.05)))
    return {"false_alarms": share(same), "power": share(moved), "each_column": share(each)}


def show(result: dict[str, Any]) -> None:
    console = Console()
    table = Table(title=f"False alarms of windows of n rows, %, nominal 5 (1): {result['runs']} runs each")
    for title in ("test", *(f"n = {rows:,}" for rows in ROWS)):
        table.add_column(title, justify="left" if title == "test" else "right")
    for name, of in result["false_alarms"].items():
        cells = [f"{100 * rate['0.05']:.1f} ({100 * rate['0.01']:.1f})" for rate in of.values()]
        table.add_row(name, *cells)
    table.add_row("PSI > 0.1", *(f"{100 * rate:.1f}" for rate in result["naive_psi"].values()))
    console.print(table)
    for name in ("discrete", "power", "discoveries", "watch", "joint"):
        console.print(f"{name}: {json.dumps(result[name])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    started = time.perf_counter()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("unlabelled drift", total=1.0)
        found = run(options.seed, options.quick, lambda done: bar.update(task, completed=done))
    seconds = round(time.perf_counter() - started, 1)
    result = {"seed": options.seed, "quick": options.quick, **found, "seconds": seconds}
    if options.json:
        json.dump(result, sys.stdout, indent=2)
        print()
    else:
        show(result)


if __name__ == "__main__":
    main()
