from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.loop import transfer
from everlearn.loop.transfer import MOST_VERSIONS, Matrix

GEM = np.array([[0.90, 0.30, 0.20], [0.70, 0.85, 0.40], [0.60, 0.75, 0.95]])
"""Three versions, one a regime, as in the papers: R[i, j] after task i on task j."""

HOME = np.array([0, 1, 2])


class TestPublishedDefinitions:
    """Each by hand on the square matrix of the papers."""

    def test_average_accuracy(self) -> None:
        assert transfer.average_accuracy(GEM) == pytest.approx((0.60 + 0.75 + 0.95) / 3)

    def test_backward_transfer(self) -> None:
        assert transfer.backward_transfer(GEM, HOME) == pytest.approx(((0.60 - 0.90) + (0.75 - 0.85)) / 2)

    def test_forward_transfer(self) -> None:
        baseline = np.array([0.5, 0.25, 0.25])
        expected = ((0.30 - 0.25) + (0.40 - 0.25)) / 2
        assert transfer.forward_transfer(GEM, HOME, baseline) == pytest.approx(expected)

    def test_forgetting(self) -> None:
        assert transfer.forgetting(GEM, HOME) == pytest.approx((0.30 + 0.10) / 2)

    def test_forgetting_is_negative_if_all_got_better(self) -> None:
        assert transfer.forgetting(np.array([[0.5, 0.5], [0.7, 0.9]]), HOME[:2]) == pytest.approx(-0.2)

    def test_worst_case(self) -> None:
        assert transfer.min_accuracy(GEM, HOME) == pytest.approx((0.60 + 0.75) / 2)
        expected = 0.95 / 3 + 2 / 3 * (0.60 + 0.75) / 2
        assert transfer.worst_case_accuracy(GEM, HOME) == pytest.approx(expected)

    def test_intransigence(self) -> None:
        reference = np.array([0.92, 0.90, 0.95])
        expected = (0.02 + 0.05 + 0.0) / 3
        assert transfer.intransigence(GEM, HOME, reference) == pytest.approx(expected)


class TestVersionsAndReturns:
    def test_several_versions_in_a_regime(self) -> None:
        """The last version of the stay is the one "after learning" it; a dip between two shows."""
        R = np.array([[0.8, 0.1], [0.9, 0.2], [0.3, 0.7], [0.6, 0.8]])
        home = np.array([0, 0, 1, 1])
        assert transfer.backward_transfer(R, home) == pytest.approx(0.6 - 0.9)
        assert transfer.forgetting(R, home) == pytest.approx(0.9 - 0.6)
        assert transfer.min_accuracy(R, home) == pytest.approx(0.3)
        assert transfer.forward_transfer(R, home, np.array([0.5, 0.1])) == pytest.approx(0.2 - 0.1)

    def test_a_regime_that_came_back_is_the_current_one_and_not_forgotten(self) -> None:
        R, home = np.array([[0.9, 0.2], [0.4, 0.8], [0.9, 0.3]]), np.array([0, 1, 0])
        assert transfer.stays(home, 2) == [(0, 0), (1, 1)]
        assert transfer.forgetting(R, home) == pytest.approx(0.8 - 0.3)
        assert transfer.worst_case_accuracy(R, home) == pytest.approx(0.9 / 2 + 0.3 / 2)

    def test_nothing_measured_says_nothing(self) -> None:
        empty = np.full((2, 2), np.nan)
        found = transfer.measures(empty, HOME[:2], np.full(2, np.nan))
        assert set(found.values()) == {None}
        assert math.isnan(transfer.average_accuracy(np.empty((0, 0))))

    @given(st.integers(1, 5), st.integers(1, 4), st.randoms())
    def test_within_bounds(self, versions: int, regimes: int, random: object) -> None:
        draw = np.random.default_rng(random.randrange(10**6))  # type: ignore[attr-defined]
        R, home = draw.random((versions, regimes)), draw.integers(0, regimes, versions)
        found = transfer.measures(R, home, np.full(regimes, 0.5))
        for name in ("average_accuracy", "min_accuracy", "worst_case_accuracy", "intransigence"):
            assert found[name] is None or 0 <= found[name] <= 1
        both = found["forgetting"], found["backward_transfer"]
        assert (both[0] is None) == (both[1] is None)
        if both[0] is not None and both[1] is not None:
            assert both[0] >= -both[1] - 1e-12


class TestRecovery:
    def test_until_the_rows_that_follow_are_good_again(self) -> None:
        losses = np.array([1.0] * 100 + [0.0] * 100)
        assert transfer.recovery_time(losses, 0.0, 0.0, 20) == 100
        assert transfer.recovery_time(losses, 0.0, 0.1, 20) == 98
        assert transfer.recovery_time(losses[:110], 0.0, 0.0, 20) is None
        assert transfer.recovery_time(losses[:10], 0.0, 0.0, 20) is None
        assert transfer.recovery_time(losses[100:], 0.0, 0.0, 20) == 0


class TestMatrix:
    def test_kept_bounded_and_plain(self) -> None:
        matrix = Matrix()
        for version in range(1, MOST_VERSIONS + 11):
            matrix.put(version, 1, {"1": 0.5})
        assert len(matrix.rows) == MOST_VERSIONS
        assert matrix.rows[0].version == 11
        assert msgspec.json.decode(msgspec.json.encode(matrix), type=Matrix) == matrix

    def test_measured_later_against_a_new_regime(self) -> None:
        matrix = Matrix()
        matrix.put(1, 1, {"1": 0.9})
        matrix.put(2, 2, {"1": 0.6, "2": 0.8})
        matrix.put(1, 1, {"2": 0.5})
        matrix.baseline = {"1": 0.5, "2": 0.4}
        found = matrix.to_dict()
        assert found["R"] == [[0.9, 0.5], [0.6, 0.8]]
        assert found["measures"]["forward_transfer"] == pytest.approx(0.1)
        assert matrix.best(1) == 1
        assert matrix.best(2) == 2
        assert matrix.best(3) is None

    def test_a_hole_is_not_a_zero(self) -> None:
        matrix = Matrix()
        matrix.put(1, 1, {"1": 0.9})
        matrix.put(2, 2, {"2": 0.8})
        found = matrix.to_dict()
        assert found["R"] == [[0.9, None], [None, 0.8]]
        assert found["measures"]["backward_transfer"] is None
        assert found["measures"]["average_accuracy"] == 0.8

    def test_regimes_that_are_dropped_or_merged(self) -> None:
        matrix = Matrix()
        matrix.put(1, 1, {"1": 0.9})
        matrix.put(2, 2, {"1": 0.6, "2": 0.8})
        matrix.put(3, 3, {"1": 0.9, "2": 0.3, "3": 0.9})
        matrix.merge(3, into=1)
        assert matrix.to_dict()["learned_in"] == [1, 2, 1]
        assert matrix.to_dict()["regimes"] == [1, 2]
        matrix.keep([1])
        assert matrix.to_dict()["regimes"] == [1]
        assert matrix.to_dict()["versions"] == [1, 2, 3]

    def test_nothing_yet(self) -> None:
        assert Matrix().to_dict()["measures"] == {}

    def test_from_what_a_job_reports(self) -> None:
        evidence = {"1": {"rows": 4, "champion": 0.25, "candidate": 0.5}, "2": {"rows": 0}}
        assert transfer.accuracies(evidence, "champion") == {"1": 0.75}
