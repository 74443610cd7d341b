"""The benchmark of recurring concepts: its streams, its measures by hand, and the idea without the engine."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from everlearn.loop.anchors import eligible
from everlearn.loop.recurrence import Memory, recognise
from everlearn.loop.regimes import Regimes
from everlearn.loop.transfer import recovery_time
from everlearn.spec import RegimeSpec

KEYS = {
    "streams",
    "ratio",
    "pooled",
    "archived",
    "at_once",
    "reuse_never",
    "retrain_never",
    "returns",
    "new",
    "new_reused",
    "skipped",
    "goals",
    "policy",
    "learner",
    "delay",
    "seeds",
    "seed",
    "quick",
    "seconds",
}


@pytest.fixture
def recurring(bench: Path) -> ModuleType:
    return import_module("recurring")


def losses(*stretches: tuple[int, float]) -> Any:
    """Losses of stretches of (rows, share wrong), the wrong ones evenly spaced."""
    parts = []
    for rows, share in stretches:
        wrong = np.floor(np.arange(1, rows + 1) * share) > np.floor(np.arange(rows) * share)
        parts.append(wrong.astype(np.float64))
    return np.concatenate(parts)


class TestStreams:
    @pytest.mark.parametrize("name", ["hyperplane", "hyperplane3", "agrawal", "sea"])
    def test_the_same_seed_gives_the_same_rows(self, recurring: ModuleType, name: str) -> None:
        _, build = recurring.STREAMS[name]
        one, two, other = build(60, 4, 1), build(60, 4, 1), build(60, 4, 2)
        assert len(one.y) == 240
        assert one.changes == (60, 120, 180)
        assert one.digest == two.digest != other.digest

    def test_concepts_take_turns(self, recurring: ModuleType) -> None:
        """A plane fitted to one stretch is right on its returns, and no better than chance elsewhere."""
        stream = recurring.hyperplanes("h", 3, 1000, 6, 0)
        w = np.linalg.lstsq(stream.X[:1000], 2.0 * stream.y[:1000] - 1, rcond=None)[0]
        right = ((stream.X @ w > 0) == stream.y).reshape(6, 1000).mean(axis=1)
        assert (right[[0, 3]] > 0.9).all()
        assert (right[[1, 2, 4, 5]] < 0.6).all()


class TestMeasures:
    BOUNDS = (0, 600, 1200, 1800, 2400)

    def test_level_is_what_both_reached_at_first(self, recurring: ModuleType) -> None:
        good = recurring.Run(losses((2400, 0.05)), [], 0)
        worse = recurring.Run(losses((600, 0.1), (600, 0.05), (1200, 0.5)), [], 0)
        assert recurring.levels([good, worse], self.BOUNDS, 2) == pytest.approx([0.1, 0.05])

    def test_returns(self, recurring: ModuleType) -> None:
        """Third stretch: wrong for 100 rows, then a reused version; the fourth is never lost."""
        run = recurring.Run(losses((1200, 0.0), (100, 1.0), (1100, 0.0)), [(5, False), (1300, True)], 1)
        back, kept = recurring.returns(run, self.BOUNDS, [0.0, 0.0], delay=0)
        assert back == recurring.Return(95, True, True)  # 5 wrong rows in 250 are within 2 points
        assert kept is None
        late = recurring.returns(run, self.BOUNDS, [0.0, 0.0], delay=50)[0]
        assert late.labels == 45

    def test_archived_is_the_newest_promotion_since_the_return(self, recurring: ModuleType) -> None:
        run = recurring.Run(np.zeros(10), [(100, True), (700, True), (800, False)], 0)
        first, second, third = (recurring.archived(run, 600, row) for row in (650, 750, 900))
        assert first.tolist() == [False] * 50 + [True] * 100 + [False] * 100
        assert second.tolist() == [True] * 50 + [False] * 200
        assert not third.any()

    def test_what_comes_back_in_a_stretch_counts_there(self, recurring: ModuleType) -> None:
        run = recurring.Run(np.zeros(10), [(100, False), (600, True)], 0)
        assert [recurring.came_back(run, *stretch) for stretch in ((0, 300), (300, 600), (600, 900))] == [
            False,
            True,
            False,
        ]

    def test_never_counts_with_all_labels(self, recurring: ModuleType) -> None:
        run = recurring.Run(losses((1200, 0.0), (1200, 1.0)), [], 0)
        found = recurring.returns(run, self.BOUNDS, [0.0, 0.0], delay=0)
        assert found == [recurring.Return(600, False, False)] * 2
        quick = recurring.Return(50, True, True)
        line = recurring.summed([(quick, one) for one in found])
        assert (line["ratio"], line["archived"], line["retrain_never"]) == (12.0, 1.0, 2)
        assert recurring.summed([(one, quick) for one in found])["ratio"] is None

    def test_no_returns(self, recurring: ModuleType) -> None:
        assert recurring.summed([])["ratio"] is None


def learned(X: Any, y: Any) -> Any:
    return np.linalg.lstsq(X, 2.0 * y - 1, rcond=None)[0]


def wrong(w: Any, X: Any, y: Any) -> Any:
    return ((X @ w > 0) != y).astype(np.float64)


def simulated(recurring: ModuleType, seed: int, every: int = 20) -> tuple[int, int]:
    """Labels to recovery when A comes back after B: recognised and reused, and learned anew.

    The pieces without the engine: regimes with anchors that are not learned from, a test every 20 labels,
    a change point that is told at once, and for retraining a fit to all rows since the return
    after every 20 labels, which no gate delays.
    """
    stretch, spec = 1500, RegimeSpec(anchor_every=10)
    stream = recurring.hyperplanes("h", 2, stretch, 3, seed)
    X, y = stream.X, stream.y
    memory = Regimes()
    versions = {}
    for number, start in enumerate((0, stretch), 1):
        keep = np.array([not eligible(row + 1, spec.anchor_every) for row in range(start, start + stretch)])
        part = slice(start, start + stretch)
        versions[number] = learned(X[part][keep], y[part][keep])
        for row in range(start, start + stretch):
            memory.take(row + 1, f"p{row + 1}", int(y[row]), 0.0, spec)
        memory.promoted(start + 1, number)
        memory.cut(start + stretch, "told", spec)
        memory.take(start + stretch + 1, "p", int(y[start + stretch]), 0.0, spec)
        memory.cut(start + stretch + 1, "told", spec)
    known = []
    new_X, new_y = X[2 * stretch :], y[2 * stretch :]
    level = float(wrong(versions[1], X[:stretch], y[:stretch]).mean())
    reused = retrained = stretch
    for labels in range(every, stretch, every):
        known = [
            Memory(
                number,
                number,
                X[rows],
                y[rows],
                wrong(versions[number], X[rows], y[rows]),
                wrong(versions[number], new_X[:labels], new_y[:labels]),
            )
            for number in (1, 2)
            for rows in [[a.row - 1 for a in memory.find(number).reservoir.entries]]  # type: ignore[union-attr]
        ]
        own = wrong(versions[2], new_X[:labels], new_y[:labels])
        found = recognise(new_X[:labels], new_y[:labels], 2, own, known, look=labels // every)
        if found.regime == 1:
            reused = labels
            break
    for labels in range(every, stretch, every):
        w = learned(new_X[:labels], new_y[:labels])
        if recovery_time(wrong(w, new_X[labels:], new_y[labels:])[:250], level, 0.02, 250) == 0:
            retrained = labels
            break
    return reused, retrained


def test_reuse_needs_far_fewer_labels_than_learning_anew(recurring: ModuleType) -> None:
    pairs = np.array([simulated(recurring, seed) for seed in range(7)])
    reused, retrained = np.median(pairs, axis=0)
    assert reused <= 60
    assert retrained >= 5 * reused


def test_a_small_run_has_all_its_keys(recurring: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurring, "QUICK_STRETCH", 500)
    monkeypatch.setattr(recurring, "QUICK_TURNS", 3)
    options = recurring.parse(["--quick", "--only", "hyperplane"])
    result = recurring.run(options, recurring.Console(stderr=True))
    assert set(result) == KEYS
    assert result["streams"]["hyperplane"]["returns"] <= 1
    recurring.show(result)
