"""What every part of the loop may ask of the engine: its state, its spec, and a decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from everlearn.loop.state import LoopState
from everlearn.spec import ModelSpec
from everlearn.types import Decision, DecisionKind


class Steered(Protocol):
    """The engine, as those see it that steer it."""

    @property
    def state(self) -> LoopState:
        """The state after the newest event."""
        ...

    @property
    def spec(self) -> ModelSpec:
        """The spec in force."""
        ...

    def decide(
        self, kind: DecisionKind, reason: str, evidence: Mapping[str, Any], version: int | None = None
    ) -> Decision:
        """Write a decision."""
        ...
