"""The loop on real drifting streams. The data lies beside the repository and is not part of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from everlearn.loop.replay import replay

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_updating_pays_on_the_electricity_market(shared_data: Callable[[str], Path]) -> None:
    market = pd.read_csv(shared_data("elec.csv"))
    report = replay(market, target="class", drop=["date"], label_delay=500, threshold=0.75, learner="window")
    assert report.served["accuracy"] >= 0.73
    assert report.served["accuracy"] - report.baselines["never_updated"]["accuracy"] >= 0.06
    assert report.served["kappa_t"] > 0.4


def test_the_default_learner_pays_on_the_electricity_market(shared_data: Callable[[str], Path]) -> None:
    market = pd.read_csv(shared_data("elec.csv"))
    report = replay(market, target="class", drop=["date"], label_delay=500)
    assert report.served["accuracy"] >= 0.75
    assert report.served["accuracy"] - report.baselines["never_updated"]["accuracy"] >= 0.02


def test_a_class_that_appears_late_is_learned(shared_data: Callable[[str], Path]) -> None:
    insects = pd.read_csv(shared_data("insects.csv")).iloc[5000:17000]
    report = replay(insects, target="target", label_delay=250, threshold=0.75)
    assert report.served["accuracy"] - report.baselines["never_updated"]["accuracy"] >= 0.1


@pytest.mark.parametrize(
    ("name", "target", "delay", "at_least"),
    [
        ("elec.csv", "class", 0, 0.88),
        ("insects.csv", "target", 250, 0.7),
        ("phishing.csv", "target", 500, 0.88),
    ],
)
def test_the_linear_learner_keeps_up_row_by_row(
    shared_data: Callable[[str], Path], name: str, target: str, delay: int, at_least: float
) -> None:
    report = replay(shared_data(name), target=target, label_delay=delay, learner="linear", baselines=False)
    assert report.served["accuracy"] >= at_least
