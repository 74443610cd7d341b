from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from everlearn.loop.discrepancy import same_distribution, scaled
from everlearn.loop.loss_tests import FEWEST, loss_risen, no_better
from everlearn.loop.overtaken import kind_of_change, similar_pairs
from everlearn.loop.recurrence import Memory, holm, recognise

A, B, C = np.array([1.0, 1, 0, 0]), np.array([1.0, -1, 0, 0]), np.array([-1.0, 0, 1, 0])
NOISE = 0.05


def rows(rng: np.random.Generator, n: int, w: Any, shift: float = 0.0) -> tuple[Any, Any]:
    """Rows on either side of a plane, a few on the wrong one."""
    X = rng.standard_normal((n, 4)) + shift
    return X, np.where((X @ w > 0) != (rng.random(n) < NOISE), "up", "down")


def losses(w: Any, X: Any, y: Any) -> Any:
    """The 0/1 losses of a version that knows the plane ``w``."""
    return (np.where(X @ w > 0, "up", "down") != y).astype(np.float64)


def memory(rng: np.random.Generator, number: int, w: Any, X: Any, y: Any) -> Memory:
    """A regime with 150 anchors under ``w`` whose version, of the same number, has learned it."""
    ax, ay = rows(rng, 150, w)
    return Memory(number, number, ax, ay, losses(w, ax, ay), losses(w, X, y))


class TestRecognising:
    @pytest.mark.parametrize(("truth", "regime"), [(A, 1), (C, 3), (np.array([0.0, 0, 0, 1]), None)])
    def test_the_right_one_or_none(self, truth: Any, regime: int | None) -> None:
        rng = np.random.default_rng(3)
        X, y = rows(rng, 100, truth)
        known = [memory(rng, number, w, X, y) for number, w in ((1, A), (2, B), (3, C))]
        found = recognise(X, y, 2, losses(B, X, y), known)
        assert found.regime == regime
        assert set(found.to_dict()["tests"]) == {"1", "2", "3"}

    def test_too_few_rows_prove_nothing(self) -> None:
        rng = np.random.default_rng(0)
        X, y = rows(rng, FEWEST - 1, A)
        found = recognise(X, y, 2, losses(B, X, y), [memory(rng, 1, A, X, y)])
        assert found.regime is None
        assert "needed" in found.reason

    def test_not_rejected_is_not_enough(self) -> None:
        """The incumbent is as good on the new rows: nothing shows that regime 1 is back."""
        rng = np.random.default_rng(0)
        X, y = rows(rng, 60, A)
        known = [memory(rng, 1, A, X, y)]
        assert recognise(X, y, 5, losses(A, X, y), known).regime is None

    def test_its_own_version_answers_already(self) -> None:
        """As after a false alarm, or once the version was reused: it errs no more than on its anchors."""
        rng = np.random.default_rng(1)
        back = gone = 0
        for _ in range(20):
            X, y = rows(rng, 60, A)
            back += recognise(X, y, 1, losses(A, X, y), [memory(rng, 1, A, X, y)]).regime == 1
            X, y = rows(rng, 60, B)
            gone += recognise(X, y, 1, losses(A, X, y), [memory(rng, 1, A, X, y)]).regime == 1
        assert back >= 16
        assert gone == 0

    def test_rarely_wrong(self) -> None:
        """New concepts are taken for a known one in far less than alpha of the cases; returns are found."""
        rng = np.random.default_rng(7)
        wrong = right = 0
        for _ in range(30):
            X, y = rows(rng, 80, A)
            known = [memory(rng, 1, A, X, y), memory(rng, 2, B, X, y)]
            right += recognise(X, y, 2, losses(B, X, y), known).regime == 1
            fresh = rng.standard_normal(4)
            X, y = rows(rng, 80, fresh)
            known = [memory(rng, 1, A, X, y), memory(rng, 2, B, X, y)]
            version = recognise(X, y, 2, losses(B, X, y), known).regime
            wrong += version is not None and abs(fresh @ A) / np.linalg.norm(fresh) / np.sqrt(2) < 0.85
        assert right >= 25
        assert wrong <= 1

    def test_looking_again_asks_for_more(self) -> None:
        rng = np.random.default_rng(0)
        X, y = rows(rng, FEWEST, A)
        known = [memory(rng, 1, A, X, y)]
        assert recognise(X, y, 2, losses(B, X, y), known, look=1).regime == 1
        assert recognise(X, y, 2, losses(B, X, y), known, look=1000).regime is None


class TestLosses:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 30), st.integers(0, 30))
    def test_fishers_exact_test(self, m: int, n: int, a: int, b: int) -> None:
        a, b = min(a, m), min(b, n)
        old, new = np.repeat([1.0, 0.0], [a, m - a]), np.repeat([1.0, 0.0], [b, n - b])
        expected = fisher_exact([[b, n - b], [a, m - a]], alternative="greater").pvalue
        assert loss_risen(old, new) == pytest.approx(expected, abs=1e-9)

    def test_other_losses_by_permutation(self) -> None:
        rng = np.random.default_rng(0)
        old = rng.random(100)
        assert loss_risen(old, rng.random(80)) > 0.01
        assert loss_risen(old, rng.random(80) + 0.3) == pytest.approx(1 / 200)

    def test_the_sign_test(self) -> None:
        ours, theirs = np.array([0.0, 0, 0, 1, 1]), np.array([1.0, 1, 1, 0, 1])
        assert no_better(ours, theirs) == pytest.approx(5 / 16)
        assert no_better(ours, ours) == 1.0

    def test_holm(self) -> None:
        assert holm([0.001, 0.02, 0.04], 0.05) == [True, True, True]
        assert holm([0.03, 0.03], 0.05) == [False, False]
        assert holm([], 0.05) == []


class TestDistributions:
    def test_holds_its_level(self) -> None:
        rng = np.random.default_rng(0)
        found = [same_distribution(*rows(rng, 60, A), *rows(rng, 40, A), permutations=99) for _ in range(150)]
        assert np.mean(np.array(found) <= 0.05) <= 0.09

    @pytest.mark.parametrize("change", ["truth", "features", "missing", "classes"])
    def test_sees_each_kind_of_change(self, change: str) -> None:
        rng = np.random.default_rng(1)
        X, y = rows(rng, 150, A)
        new_X, new_y = rows(rng, 150, B if change == "truth" else A, 0.7 if change == "features" else 0.0)
        if change == "missing":
            new_X[rng.random(150) < 0.4, 2] = np.nan
        if change == "classes":
            new_y = np.where(rng.random(150) < 0.3, "new", new_y)
        assert same_distribution(X, y, new_X, new_y) <= 0.02

    def test_values_to_predict(self) -> None:
        rng = np.random.default_rng(2)
        X, new_X = rng.standard_normal((120, 2)), rng.standard_normal((120, 2))
        assert same_distribution(X, X[:, 0], new_X, new_X[:, 0]) > 0.05
        assert same_distribution(X, X[:, 0], new_X, -new_X[:, 0]) <= 0.02

    def test_awkward_columns(self) -> None:
        """Constant, empty, huge and nearly constant columns are no errors and give no warnings."""
        X = np.array([[1.0, np.nan, 1e300, 0.0], [1.0, np.nan, -1e300, 0.0], [1.0, np.nan, 2.0, np.nan]])
        columns = scaled(X)
        assert np.isfinite(columns).all()
        assert len(columns) == 3
        y = np.array(["a", "b", "a"])
        assert 0 < same_distribution(X, y, X, y, permutations=19) <= 1


class TestKindOfChange:
    def change(self, seed: int, new_w: Any, shift: float, n: int = 300) -> str:
        """Regime A's version against one that learned the new rows: under ``new_w``, x moved by ``shift``.

        Where x has moved away, the new version knows nothing of the old region and guesses there.
        """
        rng = np.random.default_rng(seed)
        anchors, truth = rows(rng, 150, A)
        X, y = rows(rng, n, new_w, shift)
        guesses = (rng.random(150) < 0.5).astype(np.float64)
        on_anchors = guesses if shift else losses(new_w, anchors, truth)
        return kind_of_change(
            anchors,
            X,
            losses(A, anchors, truth),
            on_anchors,
            losses(A, X, y),
            losses(new_w, X, y),
        ).kind

    def test_the_same_x_with_another_truth_is_obsolete(self) -> None:
        assert {self.change(seed, B, 0.0) for seed in range(8)} == {"obsolete"}

    def test_another_x_with_the_same_truth_is_protected(self) -> None:
        assert {self.change(seed, A, 9.0) for seed in range(8)} == {"protected"}

    def test_x_moved_but_overlaps_and_is_still_right_there(self) -> None:
        kinds = [self.change(seed, A, 0.8) for seed in range(12)]
        assert "obsolete" not in kinds
        assert kinds.count("protected") >= 6

    def test_nothing_to_lose_is_undecided(self) -> None:
        assert self.change(0, A, 0.0) == "undecided"

    def test_few_rows_are_undecided(self) -> None:
        assert self.change(0, B, 0.0, n=10) == "undecided"
        assert self.change(0, A, 9.0, n=30) == "undecided"

    def test_pairs_are_one_to_one_and_near(self) -> None:
        rng = np.random.default_rng(0)
        anchors, new = rng.standard_normal((80, 3)), rng.standard_normal((200, 3))
        here, there = similar_pairs(anchors, new)
        assert len(here) == len(set(here.tolist())) == len(set(there.tolist()))
        apart = np.linalg.norm(anchors[here] - new[there], axis=1)
        assert 30 <= len(here) <= 80
        assert np.median(apart) < np.median(np.linalg.norm(anchors[:80] - new[:80], axis=1)) / 2
        assert len(similar_pairs(anchors, new + 50.0)[0]) == 0
