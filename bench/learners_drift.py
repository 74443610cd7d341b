"""Planted changes: abrupt, gradual and recurring ones, ours beside River's best."""

from __future__ import annotations

from typing import Any

import measures
from learners_streams import ours, rounded
from runs import Bench, Entry, Failed
from streams import Stream, planted

RIVALS = [
    Entry("river", "hat"),
    Entry("river", "arf10"),
    Entry("river", "amf10"),
    Entry("river", "srp10", slow=True),
    Entry("river", "lb10", slow=True),
]
TRACE_ROWS = 250


def run(bench: Bench, options: Any) -> list[dict[str, Any]]:
    """For each stream every learner's accuracy, over all of it and after the changes; labels at once."""
    rows = 1500 if options.quick else 10_000
    rivals = [r for r in RIVALS if options.peers == "all" or (options.peers == "quick" and not r.slow)]
    entries = [entry for entry in ours(options.quick) if entry.learner not in ("majority", "persistence")]
    return [
        of_stream(bench, stream, [*entries, *rivals], options.seed) for stream in planted(options.seed, rows)
    ]


def of_stream(bench: Bench, stream: Stream, entries: list[Entry], seed: int) -> dict[str, Any]:
    results = []
    for entry in entries:
        try:
            (result,) = bench.results(entry, stream, [(0, seed)])
        except Failed as reason:
            bench.console.print(f"{stream.name}: no {entry.name}: {reason}", style="yellow")
            continue
        picks = result["picks"]
        results.append(
            {
                "learner": entry.name,
                "kind": entry.kind,
                "accuracy": rounded(100.0 * float((picks == stream.y).mean())),
                "after_change": rounded(measures.after(picks, stream.y, stream.changes)),
                "trace": [round(value, 1) for value in measures.trace(picks, stream.y, TRACE_ROWS)],
            }
        )
    return {
        "stream": stream.name,
        "rows": len(stream.y),
        "changes": list(stream.changes),
        "trace_rows": TRACE_ROWS,
        "results": results,
        "best_peer": best_peer(results),
    }


def best_peer(results: list[dict[str, Any]]) -> str | None:
    """River's best on a stream, by accuracy over all of it."""
    theirs = [result for result in results if result["kind"] != "ours"]
    return max(theirs, key=lambda result: result["accuracy"])["learner"] if theirs else None
