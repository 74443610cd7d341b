"""Evidence: against other people's formulas, against enumeration, and under optional stopping."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import gammainc, gammaln

from everlearn.loop import evidence as ev
from everlearn.loop.evidence import Evidence, Moments

counts = st.integers(min_value=0, max_value=3000)
gains = st.lists(st.sampled_from([-1.0, -0.3, 0.0, 0.2, 1.0]), min_size=1, max_size=40)


def seen(wins: int, losses: int, ties: int = 0) -> Evidence:
    evidence = Evidence(binary=True)
    old, new = [1.0] * wins + [0.0] * (losses + ties), [0.0] * wins + [1.0] * losses + [0.0] * ties
    evidence.take(np.array(old), np.array(new))
    return evidence


def measured(values: list[float]) -> Evidence:
    evidence = Evidence(binary=False)
    gain = np.array(values)
    evidence.take(np.maximum(gain, 0.0), np.maximum(-gain, 0.0))
    return evidence


def symmetric(c: float) -> tuple[tuple[float, float, float]]:
    return ((1.0, c, c),)


def optimal_v(c: float, alpha: float = 0.05) -> float:
    """confseq's ``v_opt`` that makes its one-sided mixture the beta(c, c) (its g = h = 1)."""
    log = math.log(1.0 / (2.0 * alpha))
    return (2.0 * c + 1.0) * (2.0 * log + math.log(1.0 + 2.0 * log))


# --- other people's numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (7, 2), (60, 41), (550, 450), (30, 90)])
@pytest.mark.parametrize("c", [2.0, 25.0, 100.0])
def test_the_mixture_is_the_integral_it_claims_to_be(wins: int, losses: int, c: float) -> None:
    def likelihood(p: float) -> float:
        return math.exp(wins * math.log(2 * p) + losses * math.log(2 - 2 * p))

    def density(p: float) -> float:
        return (p * (1 - p)) ** (c - 1) * 4.0 ** (c - 1)

    middle = max(0.5, wins / max(1, wins + losses))
    above = [quad(f, 0.5, 1.0 - 1e-12, points=[middle], limit=200)[0]
             for f in (lambda p: likelihood(p) * density(p), density)]  # fmt: skip
    assert float(ev.log_mcnemar(wins, losses, symmetric(c))) == pytest.approx(
        math.log(above[0] / above[1]), abs=1e-6
    )


@pytest.mark.parametrize("c", [2.0, 12.0, 50.0])
def test_e_mcnemar_is_the_one_of_confseq(c: float) -> None:
    boundaries = pytest.importorskip("confseq.boundaries")
    for wins, losses in [(3, 1), (40, 22), (550, 450), (20, 60)]:
        theirs = boundaries.beta_binomial_log_mixture(
            wins - losses, wins + losses, optimal_v(c), 1.0, 1.0, 0.05, True
        )
        assert float(ev.log_mcnemar(wins, losses, symmetric(c))) == pytest.approx(theirs, abs=1e-8)


def gamma_mixture(log_e: Callable[[float], float], rho: float) -> float:
    """The mixture of e-values over λ in [0, 1) under the truncated gamma of Howard et al., by quadrature."""
    norm = rho * math.log(rho) - gammaln(rho) - math.log(gammainc(rho, rho))

    def weighed(x: float) -> float:
        return math.exp(log_e(x) + norm + (rho - 1) * math.log1p(-x) - rho * (1 - x))

    return math.log(quad(weighed, 0.0, 1.0 - 1e-9, limit=400)[0])


@pytest.mark.parametrize(("total", "spread"), [(3.0, 5.0), (10.0, 30.0), (-2.0, 4.0), (0.0, 0.0)])
def test_bernstein_mixed_over_a_gamma_is_the_known_closed_form(
    total: float, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proposition 9 of Howard et al. 2021 (the conjugate mixture), from our exponent at each λ."""
    rho = 4.0

    def log_e(fraction: float) -> float:
        monkeypatch.setattr(ev, "FRACTIONS", np.array([fraction]))
        return float(ev.log_bernstein(100, total, spread, 0.0, width=1.0))

    closed = (
        rho * math.log(rho) - gammaln(rho) - math.log(gammainc(rho, rho))
        + gammaln(spread + rho) + math.log(gammainc(spread + rho, total + spread + rho))
        - (spread + rho) * math.log(total + spread + rho) + total + spread
    )  # fmt: skip
    ours = gamma_mixture(log_e, rho)
    assert ours == pytest.approx(closed, abs=1e-5)
    try:
        from confseq.boundaries import gamma_exponential_log_mixture as theirs
    except ImportError:
        return
    log = math.log(10.0)
    v_opt = rho * (2 * log + math.log(1 + 2 * log))
    assert ours == pytest.approx(theirs(total, spread, v_opt, 1.0, 0.05), abs=1e-5)


def test_the_bernstein_mixture_is_its_formula_row_by_row() -> None:
    values = np.random.default_rng(1).uniform(-1, 1, 200)
    s = v = mean = 0.0
    for n, x in enumerate(values):
        v += (x - mean) ** 2
        s += x
        mean = s / (n + 1)
    lambdas = ev.FRACTIONS / 2
    psi = (-np.log(1 - 2 * lambdas) - 2 * lambdas) / 4
    whole = math.log(np.mean(np.exp(lambdas * s - psi * v)))
    moments = Moments()
    moments.take(values)
    assert float(ev.log_bernstein(moments.rows, moments.total, moments.spread)) == pytest.approx(whole)


# --- e-values: at most 1 in expectation under the null --------------------------------------------------


@pytest.mark.parametrize("p", [0.5, 0.45, 0.2, 0.0])
def test_no_fair_coin_earns_anything(p: float) -> None:
    n = 10
    expected = sum(
        p ** sum(flips) * (1 - p) ** (n - sum(flips)) * math.exp(ev.log_mcnemar(sum(flips), n - sum(flips)))
        for flips in product((0, 1), repeat=n)
    )
    assert expected <= 1.0 + 1e-9
    if p == 0.5:
        assert expected == pytest.approx(1.0)


@pytest.mark.parametrize("null", [0.0, -0.01, -0.2, 0.1])
@pytest.mark.parametrize("binary", [True, False])
def test_no_gain_at_its_null_earns_anything(null: float, binary: bool) -> None:
    """All 3^n sequences of gains 1, -1 and 0 whose mean is the null, half of the rows being discordant."""
    n, chances = 7, {1.0: 0.25 + null / 2, -1.0: 0.25 - null / 2, 0.0: 0.5}
    whole = 0.0
    for values in product(chances, repeat=n):
        chance = math.prod(chances[value] for value in values)
        evidence = measured(list(values))
        evidence.binary = binary
        whole += chance * math.exp(ev.log_better(evidence, null))
    assert whole <= 1.0 + 1e-9


def test_looking_all_the_time_breaks_no_promise() -> None:
    """4,000 streams of equal versions, looked at after every row: at most alpha of them ever cross."""
    rng = np.random.default_rng(3)
    values = rng.choice([-1.0, 0.0, 1.0], size=(4000, 400), p=[0.2, 0.6, 0.2])
    wins, losses = np.cumsum(values > 0, axis=1), np.cumsum(values < 0, axis=1)
    rows = np.arange(1, 401)
    totals = np.cumsum(values, axis=1)
    before = np.hstack([np.zeros((4000, 1)), totals[:, :-1]]) / np.maximum(rows - 1, 1)
    spreads = np.cumsum((values - before) ** 2, axis=1)
    wide = ((1.0, 4.0, 4.0),)
    for logs in (ev.log_mcnemar(wins, losses, wide), ev.log_bernstein(rows, totals, spreads)):
        assert (logs.max(axis=1) >= math.log(1 / 0.1)).mean() <= 0.1


def test_the_shares_of_all_attempts_sum_to_alpha() -> None:
    assert ev.share(0.05, 1) == pytest.approx(0.0304, abs=1e-4)
    assert 0.0499 < sum(ev.share(0.05, k) for k in range(1, 10_000)) < 0.05


# --- invariants -----------------------------------------------------------------------------------------


@given(counts, counts)
@example(124, 1588)  # hardly any mass above 1/2: where double precision begins to lose digits
@example(124, 1589)
@example(56, 1819)
@example(9, 1062)
def test_every_more_win_is_more_evidence_and_every_more_loss_less(wins: int, losses: int) -> None:
    here = float(ev.log_mcnemar(wins, losses))
    assert math.isfinite(here)
    assert ev.LEAST <= here <= float(ev.log_mcnemar(wins + 1, losses)) + 1e-9
    assert float(ev.log_mcnemar(wins, losses + 1)) <= here + 1e-9


@given(counts, counts)
def test_better_and_worse_are_never_both_shown(wins: int, losses: int) -> None:
    better, worse = ev.log_both(seen(wins, losses))
    if better > math.log(20):
        assert worse < 0


@given(gains, st.randoms(use_true_random=False))
def test_counts_know_no_order(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    signs = [float(np.sign(value)) for value in values]
    evidence, other = measured(signs), measured([float(np.sign(value)) for value in shuffled])
    evidence.binary = other.binary = True
    for null in (0.0, -0.01):
        assert ev.log_both(evidence, null) == ev.log_both(other, null)


@given(gains, st.integers(min_value=0, max_value=40))
def test_batches_are_the_same_as_rows_bit_for_bit(values: list[float], cut: int) -> None:
    whole, parts = Moments(), Moments()
    whole.take(np.array(values))
    parts.take(np.array(values[:cut]))
    for value in values[cut:]:
        parts.take(np.array([value]))
    assert whole == parts


@given(gains, st.integers(min_value=0, max_value=40))
def test_a_stretch_is_what_is_left_of_the_whole(values: list[float], cut: int) -> None:
    evidence = measured(values[:cut])
    mark = evidence.copy()
    later = measured(values[cut:])
    rest = np.array(values[cut:])
    evidence.take(np.maximum(rest, 0.0), np.maximum(-rest, 0.0))
    since = evidence.since(mark)
    assert (since.rows, since.wins, since.losses) == (later.rows, later.wins, later.losses)
    assert since.gain.total == pytest.approx(later.gain.total)
    both = ev.pooled([mark, since], binary=False)
    assert both.rows == evidence.rows
    assert both.gain.spread == pytest.approx(evidence.gain.spread)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 500), st.floats(-0.5, 0.4))
def test_a_higher_null_is_harder_to_beat(wins: int, losses: int, ties: int, null: float) -> None:
    for evidence in (seen(wins, losses, ties), measured([1.0] * wins + [-1.0] * losses + [0.0] * ties)):
        if null and null + 0.05:
            assert ev.log_better(evidence, null + 0.05) <= ev.log_better(evidence, null) + 1e-9
        assert ev.log_better(evidence, null) == pytest.approx(ev.log_worse(evidence.swapped(), -null))


# --- bounds ---------------------------------------------------------------------------------------------


@given(st.integers(0, 80), st.integers(0, 80), st.integers(0, 500))
def test_bounds_hold_the_mean_between_them(wins: int, losses: int, ties: int) -> None:
    evidence = seen(wins, losses, ties)
    low, high = ev.gain_bounds(evidence, 0.05)
    assert -1.0 <= low <= evidence.gain.mean <= high <= 1.0
    wider = ev.gain_bounds(evidence, 0.001)
    assert wider[0] <= low
    assert wider[1] >= high


@pytest.mark.parametrize("binary", [True, False])
def test_bounds_of_a_loss_cover_it_at_all_times(binary: bool) -> None:
    rng, missed = np.random.default_rng(5), 0
    for _ in range(100):
        loss, out = Moments(), False
        for _ in range(10):
            draws = (rng.random(60) < 0.2).astype(float) if binary else rng.beta(1, 4, 60)
            loss.take(draws)
            low, high = ev.loss_bounds(loss, 0.1, binary=binary)
            out |= not low <= 0.2 <= high
        missed += out
        assert high - low < 0.2
    assert missed <= 10


@pytest.mark.parametrize("binary", [True, False])
def test_a_flood_of_labels_neither_overflows_nor_turns(binary: bool) -> None:
    rows = 200_000
    evidence = seen(0, rows)
    evidence.binary = binary
    evidence.gain.spread = 1.0
    for null in (0.0, -0.01):
        better, worse = ev.log_both(evidence, null)
        assert (better, worse) == (ev.LEAST, ev.MOST)
        assert math.isfinite(ev.numbers(evidence, worse, worse)["e_value"])


def test_nothing_seen_says_nothing() -> None:
    assert ev.loss_bounds(Moments(), 0.05, binary=True) == (0.0, 1.0)
    assert ev.gain_bounds(Evidence(), 0.05) == (-1.0, 1.0)
    assert ev.log_both(Evidence()) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert ev.log_both(Evidence(binary=False), -0.01) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_evidence_survives_its_json() -> None:
    evidence = measured([0.1, -0.7, 1 / 3])
    assert msgspec.json.decode(msgspec.json.encode(evidence), type=Evidence) == evidence
