from __future__ import annotations

import time

from everlearn.adapters.clock import SystemClock
from everlearn.adapters.memory import ManualClock
from everlearn.ports import Clock


def test_the_system_clock_is_the_wall_clock() -> None:
    clock: Clock = SystemClock()
    before = time.time()
    clock.sleep(0.001)
    clock.sleep(-1)
    assert before <= clock.now() <= time.time()


def test_a_manual_clock_moves_when_told() -> None:
    clock = ManualClock(5.0)
    port: Clock = clock
    port.sleep(2.0)
    port.sleep(-9.0)
    clock.advance(0.5)
    assert port.now() == 7.5
