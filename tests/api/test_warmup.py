"""The warm-up: what it goes through works, and it neither delays nor breaks anything."""

from __future__ import annotations

import threading
import time

import pytest

from everlearn.api import warmup


def test_every_step_works() -> None:
    for step in warmup.STEPS:
        step()


def test_it_waits_until_the_process_is_ready_and_stops_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(warmup, "STEPS", (done.set,))
    ready = threading.Event()
    stopping = warmup.start(lambda: not ready.is_set())
    assert not done.wait(0.15)
    ready.set()
    assert done.wait(5)

    done.clear()
    stopping = warmup.start(lambda: True)
    stopping.set()
    time.sleep(0.15)
    assert not done.is_set()


def test_a_step_that_fails_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()

    def broken() -> None:
        tried.set()
        raise OSError

    monkeypatch.setattr(warmup, "STEPS", (broken,))
    warmup.start(lambda: False)
    assert tried.wait(5)
