"""A learner of somebody's own package that misbehaves as it is told: a test's way to a job that goes wrong.

Each time it learns it leaves a file in ``folder``. With ``-once`` it misbehaves the first time alone. With
``ponder`` it takes so many ``seconds`` to answer many rows at once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from everlearn.errors import UnavailableError
from everlearn.learners.majority import Majority

MANY = 200


class Awkward(Majority):
    name: ClassVar[str] = "awkward"
    prefers: ClassVar[Literal["stream", "triggered"]] = "triggered"
    incremental: ClassVar[bool] = False

    def __init__(
        self,
        *,
        task: str = "classification",
        categorical: Sequence[int] = (),
        seed: int = 0,
        mode: str = "quick",
        folder: str = "",
        seconds: float = 0.0,
    ) -> None:
        super().__init__(task=task, categorical=categorical, seed=seed)
        self.mode, self.folder, self.seconds = mode, folder, seconds

    def learn(self, X: Any, y: Any) -> None:
        runs = len(list(Path(self.folder).glob("run-*")))
        (Path(self.folder) / f"run-{os.getpid()}-{time.time_ns()}").touch()
        mode, _, once = self.mode.partition("-")
        if not (once and runs):
            getattr(self, f"_{mode}")()
        super().learn(X, y)

    def predict(self, X: Any) -> Any:
        if self.mode == "ponder" and len(X) >= MANY:
            time.sleep(self.seconds)
        return super().predict(X)

    def _ponder(self) -> None:
        pass

    def _quick(self) -> None:
        pass

    def _slow(self) -> None:
        time.sleep(self.seconds)

    def _crash(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def _greedy(self) -> None:
        kept = []
        for _ in range(100):
            kept.append(b"x" * (30 << 20))
            time.sleep(0.02)

    def _away(self) -> None:
        raise UnavailableError("the store is away")

    def _broken(self) -> None:
        raise ValueError("it is broken")
