"""Digits come to a live server class by class, labels late: no promotion may cost what was known before.

The digits are those of scikit-learn, 8 x 8 pixels. ``bench/digits.py`` does the same with MNIST.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sklearn.datasets import load_digits

from everlearn.wiring import Installation

pytest.importorskip("torch", reason="fine-tuning needs the extra torch", exc_type=ImportError)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

FALL = 2.0
"""Points of accuracy on all classes so far that a promotion may cost."""

LEARNERS: dict[str, dict[str, Any]] = {
    "image": {"name": "image", "shape": [1, 8, 8], "patch": 3, "filters": 60, "first": 40},
    "fine_tuning": {"name": "fine_tuning", "outputs": 10},
    "ungated": {"name": "fine_tuning", "outputs": 10},
}


@pytest.fixture
def world(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The stream of the benchmark and what is done with it."""
    monkeypatch.syspath_prepend(root / "bench")
    return import_module("digits_world")


@pytest.fixture
def digits(world: ModuleType) -> Any:
    """120 images of each digit in the stream, and 50 of each to be tested on."""
    images, truths = load_digits().images, load_digits().target
    return world.class_by_class(images, truths, (1, 8, 8), 16.0, rows=120, test=50, seed=0)


@pytest.fixture
def installation(serve: Callable[..., Any]) -> Iterator[tuple[Any, Installation]]:
    """A live server, and its stores as an operator of the same machine opens them."""
    server = serve(mlflow=False)
    opened = Installation.load(data=server.data)
    yield server, opened
    opened.close()


def test_the_classes_come_one_after_another(digits: Any) -> None:
    first = {digit: digits.y.tolist().index(digit) for digit in range(10)}
    assert set(first) == set(digits.begins)
    assert [digits.begins[digit] for digit in range(2, 10)] == [first[digit] for digit in range(2, 10)]
    assert digits.arrived(digits.begins[5]) == [0, 1, 2, 3, 4]
    assert digits.arrived(digits.begins[5] + 1) == [0, 1, 2, 3, 4, 5]
    sent, kept = ({tuple(row) for row in X.tolist()} for X in (digits.X, digits.test_images))
    assert not sent & kept


def test_the_gate_keeps_what_fine_tuning_loses(
    world: ModuleType,
    live_record: ModuleType,
    digits: Any,
    installation: tuple[Any, Installation],
) -> None:
    server, opened = installation
    with server.client() as client:
        pupils = []
        for name, learner in LEARNERS.items():
            more = world.UNGATED if name == "ungated" else {}
            how = {"delay": 40, "publish_every": 60, "first_rows": 120, **more}
            client.create_model(world.spec_of(name, digits, learner, **how))
            pupils.append(world.Pupil(name, digits, client, opened))
        ignored = lambda *_: None  # noqa: E731
        world.teach(pupils, digits, delay=40, batch=30, told=ignored, progress=ignored)
        for pupil in pupils:
            pupil.prove()
        found = {pupil.name: pupil.report() for pupil in pupils}
        told = client.why("fine_tuning")

    image, gated, ungated = (found[name] for name in LEARNERS)
    print(told["headline"], told["paragraph"], told["why_not"], sep="\n")
    for name, one in found.items():
        print(name, {key: value for key, value in one.items() if not isinstance(value, list)})

    # Every version goes live: what it knew is gone in the end but for the last digit.
    assert ungated["promotions"] > 10
    assert ungated["worst_fall"] > 10.0
    assert ungated["best"] > 60.0
    assert ungated["final"] < 20.0

    # The same learner under the gate: what would have forgotten is refused, and the ledger says so.
    assert gated["promotions"] >= 1
    assert gated["worst_fall"] <= FALL
    assert gated["refused_forgetful"] >= 5
    assert (told["kind"], told["evidence"]["end"]) == ("refuse", "reject")
    assert told["evidence"]["bars"]["forgetting"]["passed"] is False
    assert "it has forgotten" in told["paragraph"]

    # A learner that forgets nothing passes the same gate, class after class.
    assert image["promotions"] >= 8
    assert image["worst_fall"] <= FALL
    assert image["final"] > 90.0

    # What was scored is what was served, and the record proves itself.
    for name, one in found.items():
        assert (one["compared"] > 0, one["different"]) == (True, 0)
        assert one["final_served"] == one["final"]
        assert live_record.verdict(server.data, name) == "identical"
