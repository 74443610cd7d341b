"""Regression: mean absolute error, test-then-train with labels at once, ours and River's.

River's forests fit linear models in their leaves, which run away on unscaled dates; so each peer runs as
it is and behind a standard scaler, and the better of the two counts for it. Dates are ordinals, for all:
``airline`` has the month alone, as the ordinal of its first day, so that a season can be learned only
from what was seen before.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import measures
from learners_streams import ours, rounded, seeds_of
from runs import Bench, Entry, Failed
from streams import REGRESSION, Stream, regression

RIVALS = [
    Entry("river", name + suffix)
    for name in ("linear", "amrules", "arf10", "srp10")
    for suffix in ("", "_scaled")
]


def run(bench: Bench, options: Any) -> dict[str, Any]:
    """For each stream each learner's error, and the best peer."""
    found = {}
    entries = ours(options.quick, "regression")
    entries += [] if options.peers == "none" else RIVALS
    for name in REGRESSION:
        stream = regression(name).first(800 if options.quick else None)
        results = []
        for entry in entries:
            try:
                results.append(of_entry(bench, entry, stream, options))
            except Failed as reason:
                bench.console.print(f"{name}: no {entry.name}: {reason}", style="yellow")
        theirs = [result for result in results if result["kind"] != "ours"]
        found[name] = {
            "rows": len(stream.y),
            "features": stream.X.shape[1],
            "best_peer": min(theirs, key=lambda r: r["mae"])["learner"] if theirs else None,
            "results": results,
        }
    return found


def of_entry(bench: Bench, entry: Entry, stream: Stream, options: Any) -> dict[str, Any]:
    runs = bench.results(entry, stream, [(0, seed) for seed in seeds_of(entry, options)])
    mean, spread = measures.summary([measures.mean_error(run["picks"], stream.y) for run in runs])
    return {
        "learner": entry.name,
        "kind": entry.kind,
        "seeds": len(runs),
        "mae": rounded(mean, 4),
        "mae_spread": rounded(spread, 4),
        "rows_per_second": round(median(run["rows"] / max(run["seconds"], 1e-9) for run in runs), 1),
        "cached": all(run["cached"] for run in runs),
    }
