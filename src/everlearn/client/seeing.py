"""The verbs that show how models do: all on one page, one over time, and what is behind its score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from everlearn.client.answers import Record
from everlearn.client.binding import Verb
from everlearn.client.calls import Call, get, path, read_record, to_time, write

if TYPE_CHECKING:
    from datetime import datetime


class SeeingVerbs:
    """How models do. All raise NotFoundError for an unknown model."""

    @Verb
    def overview(self, *, limit: int = 100, cursor: str | None = None) -> Call[Record]:
        """A page of cards, the worst models first: ``{"items", "next", "total", "counts"}``.

        A card has the score with its bounds against the threshold, the champion and its age, the state in
        one word with a reason, and the newest decision.
        """
        return get("/v1/overview", limit=limit, cursor=cursor)

    @Verb
    def timeline(
        self,
        model: str,
        points: int = 200,
        since: datetime | float | str | None = None,
        until: datetime | float | str | None = None,
    ) -> Call[Record]:
        """The score over time, ``points`` of it at most, with baselines, decisions and regimes."""
        return get(path(model, "timeline"), points=points, **span(since, until))

    @Verb
    def matrix(self, model: str) -> Call[Record]:
        """R[version, regime] with the measures of forgetting and transfer."""
        return get(path(model, "matrix"))

    @Verb
    def maturity(self, model: str) -> Call[Record]:
        """How late labels come, as curves, and the horizon."""
        return get(path(model, "maturity"))

    @Verb
    def drift(self, model: str) -> Call[Record]:
        """What has moved: the loss, every feature, the answers; and the estimate without labels."""
        return get(path(model, "drift"))

    @Verb
    def trial(self, model: str) -> Call[Record]:
        """``{"candidate", "bake"}``: the running evidence, each null where there is none."""
        return get(path(model, "trial"))

    @Verb
    def segments(self, model: str, column: str | None = None) -> Call[Record]:
        """How well the newest labelled predictions went, by the value of a feature."""
        return get(path(model, "segments"), column=column)

    @Verb
    def decisions_page(
        self,
        model: str,
        kind: str | Sequence[str] | None = None,
        since: datetime | float | str | None = None,
        until: datetime | float | str | None = None,
        *,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Call[Record]:
        """One page of the ledger, newest first: ``{"items", "next"}``; ``next`` is the next ``cursor``."""
        asked = span(since, until)
        return get(path(model, "decisions"), kind=kinds(kind), cursor=cursor, limit=limit, **asked)

    @Verb
    def versions_page(self, model: str, *, cursor: str | None = None, limit: int = 50) -> Call[Record]:
        """One page of the versions, newest first."""
        return get(path(model, "versions"), cursor=cursor, limit=limit)

    @Verb
    def jobs_page(self, model: str, *, cursor: str | None = None, limit: int = 50) -> Call[Record]:
        """One page of the jobs, newest first."""
        return get(path(model, "jobs"), cursor=cursor, limit=limit)

    @Verb
    def verify(self, model: str, number: int) -> Call[Record]:
        """Have a worker replay the record up to a decision, and compare: ask :meth:`verification` for it."""
        return write("POST", path(model, "decisions", number, "verify"), {}, read_record)

    @Verb
    def verification(self, model: str, id: str) -> Call[Record]:  # noqa: A002
        """How far a verification is; ``found`` says whether the record is identical once it is done."""
        return get(path(model, "verifications", id))


def span(
    since: datetime | float | str | None, until: datetime | float | str | None
) -> dict[str, float | str | None]:
    """A time as the parameters ``from`` and ``to``."""
    return {
        "from": None if since is None else to_time(since),
        "to": None if until is None else to_time(until),
    }


def kinds(kind: str | Sequence[str] | None) -> list[str] | None:
    """One kind of decision or several as the parameter ``kind``."""
    if kind is None:
        return None
    return [kind] if isinstance(kind, str) else list(kind)
