"""The watch over the loss: its budget, its delay, one warning a change, and its life across restarts."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.loop import cusum
from everlearn.loop.cusum import FIRST, KEPT, SLACK, Cusum, CusumState
from everlearn.loop.cusum_calibration import SCALE, Calibration, calibrate, long_run
from everlearn.loop.drift import DriftState, ErrorDrift, Rise
from everlearn.loop.river_detectors import KEPT as ADWIN_KEPT
from everlearn.loop.river_detectors import adwin_delta, graded, hddm_confidence
from everlearn.spec import DriftSpec

ALL = DriftSpec(detectors=("cusum", "adwin", "hddm_a"))


def errors(seed: int, *stretches: tuple[int, float]) -> list[float]:
    """Independent errors: so many rows at such a rate, one stretch after the other."""
    rng = np.random.default_rng(seed)
    return [float(error) for rows, rate in stretches for error in rng.random(rows) < rate]


def sticky(seed: int, rows: int, rate: float, repeat: float) -> list[float]:
    """Errors that repeat the one before with probability ``repeat``."""
    rng = random.Random(seed)
    losses, loss = [], 0.0
    for _ in range(rows):
        if rng.random() >= repeat:
            loss = float(rng.random() < rate)
        losses.append(loss)
    return losses


def again(state: DriftState) -> DriftState:
    """A state that was stored and read."""
    return msgspec.json.decode(msgspec.json.encode(state), type=DriftState)


def warnings(losses: list[float], spec: DriftSpec) -> list[tuple[int, Rise]]:
    watch = ErrorDrift(DriftState(), spec)
    found = [(at, watch.update(loss)) for at, loss in enumerate(losses)]
    return [(at, rise) for at, rise in found if rise is not None]


def only(name: Any, budget: float = 1.0) -> DriftSpec:
    return DriftSpec(detectors=(name,), false_alarms=budget)


class TestWatch:
    @pytest.mark.parametrize("name", ["cusum", "adwin", "hddm_a"])
    def test_each_detector_names_itself_and_tells_before_and_after(self, name: str) -> None:
        (at, rise) = warnings(errors(2, (3000, 0.1), (1000, 0.5)), only(name))[-1]
        assert rise.detector == name
        assert 3000 <= at < 3400
        assert rise.before == pytest.approx(0.1, abs=0.04)
        assert rise.after == pytest.approx(0.5, abs=0.2)
        assert 3000 - (at + 1 - rise.width) == pytest.approx(0, abs=50)

    def test_one_change_is_one_warning_of_all_detectors(self) -> None:
        for seed in range(3):
            found = warnings(errors(seed, (2000, 0.1), (1500, 0.4)), ALL)
            assert sum(at >= 2000 for at, _ in found) == 1

    def test_an_improvement_is_no_warning(self) -> None:
        assert not warnings(errors(2, (2000, 0.5), (2000, 0.2), (2000, 0.05)), ALL)

    def test_a_rise_after_an_improvement_is_one(self) -> None:
        for seed in range(3):
            found = warnings(errors(seed, (5000, 0.3), (2000, 0.1), (1000, 0.25)), only("cusum"))
            assert any(7000 <= at < 7200 for at, _ in found)

    def test_another_champion_starts_anew(self) -> None:
        watch = ErrorDrift(DriftState(), ALL)
        for loss in errors(4, (1500, 0.05)):
            watch.update(loss)
        watch.reset()
        assert (watch.state.inputs, watch.state.means, watch.state.cusum) == ([], [], CusumState())
        assert not any(watch.update(loss) for loss in errors(5, (1500, 0.5)))

    @pytest.mark.parametrize("seed", [1, 2])
    def test_a_stored_state_goes_on_the_same(self, seed: int) -> None:
        losses = [*errors(seed, (1200, 0.1), (600, 0.6)), *sticky(seed, 4500, 0.2, 0.9)]
        whole = ErrorDrift(DriftState(), ALL)
        said = [whole.update(loss) for loss in losses]
        other, found = ErrorDrift(DriftState(), ALL), []
        for at, loss in enumerate(losses):
            if at % 97 == 0:
                other = ErrorDrift(again(other.state), ALL)
            found.append(other.update(loss))
        assert found == said
        assert any(said)
        assert other.state == whole.state

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=600), st.integers(0, 600))
    @settings(max_examples=25, deadline=None)
    def test_a_stored_state_goes_on_the_same_whatever_the_losses(self, losses: list[float], cut: int) -> None:
        whole, first = ErrorDrift(DriftState(), ALL), ErrorDrift(DriftState(), ALL)
        said = [whole.update(loss) for loss in losses]
        found = [first.update(loss) for loss in losses[:cut]]
        second = ErrorDrift(again(first.state), ALL)
        assert found + [second.update(loss) for loss in losses[cut:]] == said
        assert second.state == whole.state

    def test_its_state_is_bounded(self) -> None:
        watch = ErrorDrift(DriftState(), DriftSpec(detectors=("cusum", "adwin")))
        for loss in errors(6, (30_000, 0.1)):
            watch.update(loss)
        assert len(watch.state.cusum.history) <= KEPT + SLACK
        assert len(watch.state.inputs) < 2 * ADWIN_KEPT
        assert len(msgspec.json.encode(watch.state.cusum)) < 12_000

    def test_a_state_of_an_older_release_is_read(self) -> None:
        old = msgspec.json.decode(b'{"inputs":[0.0,1.0],"warnings":3,"last":7}', type=DriftState)
        watch = ErrorDrift(old)
        watch.update(0.0)
        assert (old.warnings, old.inputs, old.cusum.count) == (3, [0.0, 1.0, 0.0], 1)

    def test_the_others_reckon_with_how_losses_hang_together(self) -> None:
        watch = ErrorDrift(DriftState(), ALL)
        for loss in sticky(1, 3000, 0.3, 0.9):
            watch.update(loss)
        assert watch.state.inefficiency > 4
        assert graded(1.1) == 1.0
        assert adwin_delta(1.0, 8.0) < adwin_delta(0.1, 1.0) < adwin_delta(1.0, 1.0)
        assert 0.0 < hddm_confidence(1.0, 500.0) < hddm_confidence(1.0, 1.0)


class TestCusum:
    @pytest.mark.parametrize("rate", [0.01, 0.1, 0.3])
    def test_it_keeps_its_budget_on_stable_losses(self, rate: float) -> None:
        found = [warnings(errors(seed, (50_000, rate)), only("cusum")) for seed in range(4)]
        assert sum(map(len, found)) <= 20

    def test_it_keeps_its_budget_when_errors_come_in_runs(self) -> None:
        found = [warnings(sticky(seed, 50_000, 0.2, 0.9), only("cusum")) for seed in range(3)]
        assert sum(map(len, found)) <= 15

    def test_it_keeps_its_budget_on_losses_between_0_and_1(self) -> None:
        losses = np.random.default_rng(3).beta(1, 3, 50_000).tolist()
        assert len(warnings(losses, only("cusum"))) <= 8

    def test_a_smaller_budget_means_fewer_alarms(self) -> None:
        assert len(warnings(errors(8, (60_000, 0.1)), only("cusum", 0.02))) <= 1

    def test_it_finds_four_points_in_about_four_hundred_rows(self) -> None:
        delays = []
        for seed in range(9):
            found = warnings(errors(seed, (20_000, 0.1), (4000, 0.14)), only("cusum"))
            delays.append(min(at for at, _ in found if at >= 20_000) - 20_000)
        assert np.median(delays) <= 600

    @pytest.mark.parametrize("losses", [[0.0] * 3000, [1.0] * 3000, [0.5] * 3000])
    def test_constant_losses_never_alarm(self, losses: list[float]) -> None:
        assert not warnings(losses, only("cusum"))

    def test_a_model_that_is_always_wrong_and_gets_better_is_no_alarm(self) -> None:
        assert not warnings(errors(1, (2000, 1.0), (1000, 0.9), (1000, 0.1)), only("cusum"))

    def test_a_model_without_errors_that_breaks_is_noticed_at_once(self) -> None:
        ((at, _),) = warnings(errors(1, (2000, 0.0), (500, 0.3)), only("cusum"))
        assert at < 2030

    def test_a_false_alarm_gives_back_what_was_known(self) -> None:
        detector = Cusum(CusumState())
        for loss in errors(4, (10_000, 0.1)):
            detector.update(loss)
        unlucky = next(n for n in range(1, 50) if detector.update(1.0))
        assert detector.state.doubt is not None
        assert detector.state.count == 0
        for loss in errors(2, (1000, 0.1)):
            detector.update(loss)
        assert detector.state.doubt is None
        assert detector.state.count == 11_000 + unlucky

    def test_a_true_alarm_does_not(self) -> None:
        detector = Cusum(CusumState())
        for loss in errors(1, (5000, 0.1), (2000, 0.3)):
            detector.update(loss)
        assert detector.state.doubt is None
        assert detector.state.count == pytest.approx(1950, abs=50)
        assert detector.state.mean == pytest.approx(0.3, abs=0.03)

    def test_it_says_nothing_before_it_knows_what_is_normal(self) -> None:
        assert not warnings(errors(1, (100, 0.0), (FIRST - 101, 1.0)), only("cusum"))

    def test_another_budget_calibrates_again(self) -> None:
        state = CusumState()
        for loss in errors(1, (600, 0.1)):
            Cusum(state).update(loss)
        loose = state.threshold
        Cusum(state, 0.01).update(0.0)
        assert state.threshold > loose
        assert state.budget == 0.01

    def test_another_budget_counts_when_a_false_alarm_is_taken_back(self) -> None:
        detector = Cusum(CusumState())
        for loss in errors(4, (10_000, 0.1)):
            detector.update(loss)
        while not detector.update(1.0):
            pass
        other = Cusum(detector.state, 0.01)
        for loss in errors(2, (1000, 0.1)):
            other.update(loss)
        assert (other.state.doubt, other.state.budget) == (None, 0.01)

    @given(st.lists(st.sampled_from([0.0, 0.25, 1.0]), max_size=700), st.integers(0, 2**32))
    @settings(max_examples=25, deadline=None)
    def test_its_state_stays_sound(self, values: list[float], seed: int) -> None:
        state = CusumState()
        detector = Cusum(state)
        for loss in [*values, *errors(seed, (400, 0.1), (400, 0.8), (400, 0.05))]:
            rise = detector.update(loss)
            assert rise is None or 0 <= rise.before < rise.after <= 1
            assert 0.0 <= state.mean <= 1.0 + 1e-9
            assert state.above >= 0.0
            assert state.below >= 0.0
            assert state.rise_from <= state.count


class TestCalibration:
    @staticmethod
    def history(losses: list[float]) -> bytes:
        return bytes(round(loss * SCALE) for loss in losses)

    def test_it_is_the_same_every_time(self) -> None:
        history = self.history(errors(1, (2000, 0.1)))
        assert calibrate(history, 2000, 1.0) == calibrate(history, 2000, 1.0)

    @given(st.floats(0.01, 1.0), st.floats(1.5, 50.0))
    @settings(max_examples=10, deadline=None)
    def test_fewer_false_alarms_ask_for_a_higher_threshold(self, budget: float, times: float) -> None:
        history = self.history(errors(1, (1000, 0.1)))
        low, high = (calibrate(history, 1000, b).threshold for b in (budget * times, budget))
        assert low < high

    def test_runs_of_errors_are_seen_and_ask_for_more(self) -> None:
        alone = calibrate(self.history(errors(1, (6000, 0.2))), 6000, 1.0)
        runs = calibrate(self.history(sticky(1, 6000, 0.2, 0.8)), 6000, 1.0)
        assert alone.inefficiency == pytest.approx(1.0, abs=0.3)
        assert runs.inefficiency == pytest.approx(9.0, abs=4.0)  # (1 + 0.8) / (1 - 0.8)
        assert runs.threshold > 2 * alone.threshold

    def test_long_run_of_a_constant(self) -> None:
        assert long_run(np.zeros(300, np.uint8)) == 1.0


def test_it_is_cheap_enough_to_watch_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """By count, not by the clock: how seldom it calibrates."""
    calls: list[int] = []

    def counted(history: bytes, count: int, budget: float) -> Calibration:
        calls.append(len(history))
        return calibrate(history, count, budget)

    monkeypatch.setattr(cusum, "calibrate", counted)
    warnings(errors(1, (60_000, 0.1)), only("cusum"))
    assert len(calls) <= 30
    assert max(calls) <= KEPT
