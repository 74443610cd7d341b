"""What the parts of the loop may ask of the engine: its state, its spec, a decision, and what follows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from everlearn.loop.shadow import ShadowRow
from everlearn.loop.state import LoopState
from everlearn.spec import ModelSpec
from everlearn.types import Decision, DecisionKind, JobSpec


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


class Judge(Steered, Protocol):
    """The part of the engine that judging steers."""

    def refuse(self, version: int, reason: str, evidence: Mapping[str, Any]) -> None: ...  # noqa: D102
    def promote(  # noqa: D102
        self, kind: DecisionKind, version: int, reason: str, evidence: Mapping[str, Any]
    ) -> None: ...
    def ask_shadow(self, rows: Sequence[ShadowRow], versions: Sequence[int]) -> str: ...  # noqa: D102
    def look_again(self) -> None: ...  # noqa: D102
    def ask(self, job: JobSpec) -> None: ...  # noqa: D102
    def try_archived(self, reason: str) -> None: ...  # noqa: D102
