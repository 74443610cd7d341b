"""Test-then-train on every stream, with labels at once and late: ours and the peers'."""

from __future__ import annotations

from statistics import median
from typing import Any

import measures
from runs import Bench, Entry, Failed
from streams import REAL, Missing, Stream

DEFAULT = "blend"
"""The learner that must do without a setting."""

PEERS = [
    Entry("river", "logistic"),
    Entry("river", "alma"),
    Entry("river", "hat"),
    Entry("river", "knn"),
    Entry("river", "arf10"),
    Entry("river", "amf10"),
    Entry("capymoa", "arf30"),
    Entry("capymoa", "srp30"),
    Entry("capymoa", "samknn"),
    Entry("river", "srp10", slow=True),
    Entry("river", "lb10", slow=True),
]
SEEDLESS = {"logistic", "alma", "knn", "samknn"}
"""Peers in which nothing is random: one run tells all."""

RATED = [Entry("river", "arf10"), Entry("capymoa", "arf30")]
QUICK_ROWS = 800


BROUGHT_IN = ("river", "sklearn")
"""Learners that are models of other libraries: as fast, and as large, as those are."""


def ours(quick: bool, task: str = "classification") -> list[Entry]:
    """Every learner of our own that can be built without a setting, and the blend with each budget."""
    from everlearn import learners

    found = [
        Entry("ours", "blend"),
        Entry("ours", "blend", {"budget": "fast"}),
        Entry("ours", "blend", {"budget": "best"}),
    ]
    if quick:
        return [found[0], found[1], Entry("ours", "linear")]
    for name in learners.names():
        if name in BROUGHT_IN:
            continue
        try:
            learners.build(name, task=task)
        except Exception:
            continue
        found += [] if name == "blend" else [Entry("ours", name)]
    return found


def all_streams(quick: bool, console: Any) -> list[Stream]:
    """The streams there are; those whose file is missing are named and left out."""
    found = []
    for name, make in REAL.items():
        try:
            found.append(make().first(QUICK_ROWS if quick else None))
        except Missing as reason:
            console.print(f"{name} is left out: {reason}", style="yellow")
    return found


def peers(which: str) -> list[Entry]:
    """The peers of a choice: none, quick (those that are not slow), all."""
    return [entry for entry in PEERS if which == "all" or (which == "quick" and not entry.slow)]


def run(bench: Bench, options: Any) -> dict[str, Any]:
    """The result of each learner on each stream with each delay, and what was left out."""
    found = {}
    for stream in all_streams(options.quick, bench.console):
        if options.only and stream.name not in options.only:
            continue
        results, skipped = [], []
        for entry in [*ours(options.quick), *peers(options.peers)]:
            try:
                results += of_entry(bench, entry, stream, options)
            except Failed as reason:
                skipped.append({"learner": entry.name, "reason": str(reason)})
        found[stream.name] = {
            "rows": len(stream.y),
            "features": stream.X.shape[1],
            "classes": stream.classes,
            "delay": stream.delay,
            "digest": stream.digest,
            "results": results,
            "skipped": skipped,
        }
    return found


def of_entry(bench: Bench, entry: Entry, stream: Stream, options: Any) -> list[dict[str, Any]]:
    """A learner's result with labels at once and with late ones."""
    seeds = seeds_of(entry, options)
    delays = list(dict.fromkeys([0, stream.delay]))
    wanted = [(delay, seed) for delay in delays for seed in seeds]
    runs = bench.results(entry, stream, wanted)
    return [
        summed(entry, stream, delay, [r for r, (late, _) in zip(runs, wanted, strict=True) if late == delay])
        for delay in delays
    ]


def seeds_of(entry: Entry, options: Any) -> list[int]:
    """One where nothing is random or a run takes long; else as many as asked for."""
    if entry.kind == "ours":
        count = 1 if entry.learner in ("window", "majority", "persistence") else options.seeds
    else:
        count = 1 if entry.learner in SEEDLESS else options.peer_seeds
    return [options.seed + i for i in range(count)]


def summed(entry: Entry, stream: Stream, delay: int, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of some seeds as one."""
    each = [
        {
            **measures.classification(run["picks"], run["answers"], stream.y, delay),
            "new_class_recall": measures.recall(run["picks"], stream.y, dict(stream.arriving)),
            "after_change": measures.after(run["picks"], stream.y, stream.changes),
        }
        for run in runs
    ]
    figures = {key: measures.summary([one[key] for one in each]) for key in each[0]}
    sizes = [run["state_bytes"] for run in runs if run["state_bytes"] is not None]
    peaks = [run["peak_bytes"] for run in runs if run["peak_bytes"] is not None]
    return {
        "learner": entry.name,
        "kind": entry.kind,
        "delay": delay,
        "seeds": len(runs),
        "accuracy": rounded(figures["accuracy"][0]),
        "accuracy_spread": rounded(figures["accuracy"][1]),
        "accuracy_all": rounded(figures["accuracy_all"][0]),
        "kappa_t": rounded(figures["kappa_t"][0]),
        "log_loss": rounded(figures["log_loss"][0], 4),
        "new_class_recall": rounded(figures["new_class_recall"][0], 1),
        "after_change": rounded(figures["after_change"][0]),
        "rows_per_second": round(median(run["rows"] / max(run["seconds"], 1e-9) for run in runs), 1),
        "peak_mb": rounded(max(peaks) / 2**20 if peaks else None, 1),
        "state_kb": rounded(max(sizes) / 2**10 if sizes else None, 1),
        "cached": all(run["cached"] for run in runs),
    }


def rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None else round(value, digits)


# -- rates beside each other -----------------------------------------------------------------------------


def rates(bench: Bench, options: Any) -> list[dict[str, Any]]:
    """How many times as many rows a second as a peer, on one core, stretch by stretch in turns."""
    found = []
    for stream in all_streams(options.quick, bench.console):
        if stream.name not in ("elec", "insects") or (options.only and stream.name not in options.only):
            continue
        for peer in RATED if options.peers != "none" else []:
            try:
                found += beside(bench, stream, peer, options)
            except Failed as reason:
                bench.console.print(f"no rate beside {peer.name}: {reason}", style="yellow")
    return found


def beside(bench: Bench, stream: Stream, peer: Entry, options: Any) -> list[dict[str, Any]]:
    """The peer and each of our budgets, timed on the same stretches in turns."""
    length = 100 if options.quick else 500
    count = 3 if options.quick else len(stream.y) // length - 1
    entries = [peer, *(entry for entry in ours(options.quick) if entry.learner == DEFAULT)]
    bench.console.print(f"{stream.name}: rates beside {peer.name}", style="dim")
    seconds: dict[str, list[float]] = {entry.name: [] for entry in entries}
    with Group(bench, entries) as runners:
        for runner, entry in zip(runners, entries, strict=True):
            runner.ask({**bench.job(entry, stream, 0, options.seed), "stretches": True})
        for start in range(0, min((count + 1) * length, len(stream.y) - length + 1), length):
            for runner, entry in zip(runners, entries, strict=True):
                seconds[entry.name].append(runner.ask([start, start + length]))
    theirs = seconds.pop(peer.name)[1:]
    return [
        {
            "stream": stream.name,
            "learner": name,
            "peer": peer.name,
            "ratio": round(median(b / a for a, b in zip(mine[1:], theirs, strict=True)), 1),
            "rows_per_second": round(length / median(mine[1:]), 1),
            "peer_rows_per_second": round(length / median(theirs), 1),
            "stretches": len(theirs),
            "stretch_rows": length,
        }
        for name, mine in seconds.items()
    ]


class Group:
    """Runners on one core."""

    def __init__(self, bench: Bench, entries: list[Entry]) -> None:
        from contextlib import ExitStack

        self._bench, self._entries, self._stack = bench, entries, ExitStack()

    def __enter__(self) -> list[Any]:
        try:
            return [self._stack.enter_context(self._bench.runner(e, core=0)) for e in self._entries]
        except BaseException:
            self._stack.close()
            raise

    def __exit__(self, *_: object) -> None:
        self._stack.close()
