"""What a worker needs of an installation."""

from __future__ import annotations

from typing import Protocol

from everlearn.ports import (
    Artifacts,
    Backlog,
    Clock,
    Erasures,
    Jobs,
    Leases,
    Ledger,
    Log,
    Models,
    Scores,
    Versions,
)


class Parts(Protocol):
    """The ports that the worker works through."""

    @property
    def clock(self) -> Clock: ...  # noqa: D102
    @property
    def models(self) -> Models: ...  # noqa: D102
    @property
    def log(self) -> Log: ...  # noqa: D102
    @property
    def versions(self) -> Versions: ...  # noqa: D102
    @property
    def ledger(self) -> Ledger: ...  # noqa: D102
    @property
    def scores(self) -> Scores: ...  # noqa: D102
    @property
    def jobs(self) -> Jobs: ...  # noqa: D102
    @property
    def backlog(self) -> Backlog: ...  # noqa: D102
    @property
    def leases(self) -> Leases: ...  # noqa: D102
    @property
    def erasures(self) -> Erasures: ...  # noqa: D102
    @property
    def artifacts(self) -> Artifacts: ...  # noqa: D102
