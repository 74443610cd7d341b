"""What the door needs of an installation, and what its handlers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

from fastapi import Depends, Request

from everlearn.ports import (
    Artifacts,
    Backlog,
    Clock,
    Erasures,
    Jobs,
    Ledger,
    Log,
    Models,
    Scores,
    Tallies,
    Versions,
)

if TYPE_CHECKING:
    from everlearn.adapters.group_commit import GroupCommit
    from everlearn.api.idempotency import Idempotency
    from everlearn.api.image_fetching import Fetcher
    from everlearn.api.instruments import Instruments
    from everlearn.api.quotas import LabelQuotas
    from everlearn.api.runtime import Runtime


class Parts(Protocol):
    """The ports that the door uses; :class:`everlearn.wiring.Installation` has them all."""

    @property
    def clock(self) -> Clock:
        """Wall time."""
        ...

    @property
    def models(self) -> Models:
        """The models."""
        ...

    @property
    def log(self) -> Log:
        """The log."""
        ...

    @property
    def versions(self) -> Versions:
        """The versions."""
        ...

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        ...

    @property
    def scores(self) -> Scores:
        """The score over time, and where all models stand."""
        ...

    @property
    def jobs(self) -> Jobs:
        """The jobs."""
        ...

    @property
    def backlog(self) -> Backlog:
        """The work that waits."""
        ...

    @property
    def tallies(self) -> Tallies:
        """What monitoring reads."""
        ...

    @property
    def erasures(self) -> Erasures:
        """The erasures."""
        ...

    @property
    def artifacts(self) -> Artifacts:
        """The stored versions."""
        ...


@dataclass(frozen=True, slots=True)
class Door:
    """All that a handler works with. ``threshold`` is for specs that name none."""

    parts: Parts
    runtime: Runtime
    writer: GroupCommit
    idempotency: Idempotency
    instruments: Instruments
    threshold: float
    quotas: LabelQuotas
    fetcher: Fetcher


async def _door(request: Request) -> Door:  # async: a plain function would be run in a thread
    door: Door = request.app.state.door
    return door


TheDoor = Annotated[Door, Depends(_door)]
"""The door as a handler's argument."""
