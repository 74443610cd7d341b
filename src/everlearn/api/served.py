"""What answers for a model: a version in memory, and beside it the candidate that answers its share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypeVar

from loguru import logger

from everlearn.api import route
from everlearn.features.schema import Checked, Schema
from everlearn.predictor import Baseline, Predictor
from everlearn.spec import ModelSpec
from everlearn.types import Champion, Output, Row

T = TypeVar("T")

Role: TypeAlias = Literal["champion", "candidate", "other"]
"""What a version is to the model that it answers for. ``other``: it stands in for a champion that does not
load, or was asked for by its number."""


@dataclass(frozen=True, slots=True)
class Served:
    """What answers for a model. ``version`` is older than ``champion.version`` while a load fails.

    ``abstaining`` is whether the loop has found the model's performance under its floor. ``single`` answers
    one clean row, where the predictor has a quick way. ``candidate`` is the version on trial, while there is
    one and the spec's ``route`` gives it a share. ``bytes``: of memory, without the candidate.
    """

    spec: ModelSpec
    schema: Schema
    champion: Champion
    version: int
    predictor: Predictor | Baseline
    abstaining: bool = False
    single: Callable[[Row], Output] | None = None
    role: Role = "champion"
    candidate: Served | None = None
    bytes: int = 0

    @property
    def weight(self) -> int:
        """Bytes in memory, of the candidate too."""
        return self.bytes + (0 if self.candidate is None else self.candidate.bytes)

    @property
    def joins(self) -> bool:
        """Whether rows of several requests are best answered together: one alone has no quick way."""
        return self.single is None and not isinstance(self.predictor, Baseline)

    @property
    def withholding(self) -> bool:
        """Whether callers get no answers for now."""
        return self.abstaining and self.spec.abstain is not None and self.spec.abstain.action == "withhold"

    def of(self, model: Served) -> Served:
        """This version, with what bears on answers beside it as it is for the model now."""
        return replace(
            self, spec=model.spec, schema=model.schema, champion=model.champion, abstaining=model.abstaining
        )

    def answer(self, rows: Sequence[Row], ids: Sequence[str]) -> tuple[Checked, list[Output], list[int]]:
        """Check rows against the schema and answer them: the clean rows, the outputs, and their versions.

        Raises SchemaError with every fault.
        """
        checked = self.schema.check(rows)
        clean = checked.rows
        if self.candidate is None:
            return checked, self.outputs(clean), [self.version] * len(clean)
        outputs, versions = [Output(None)] * len(clean), [0] * len(clean)
        for side, places in self.sides(clean, ids):
            rows = [clean[i] for i in places]
            by, given = self.ask(side, lambda one, rows=rows: one.outputs(rows))  # type: ignore[misc]
            for i, output in zip(places, given, strict=True):
                outputs[i], versions[i] = output, by.version
        return checked, outputs, versions

    def ask(self, side: Served, work: Callable[[Served], T]) -> tuple[Served, T]:
        """Let a side answer, and who did: if a candidate fails, its rows are the champion's."""
        try:
            return side, work(side)
        except Exception as error:
            if side is self:
                raise
            self.stand_in(side, error)
            return self, work(self)

    def stand_in(self, side: Served, error: Exception) -> None:
        """Say that a candidate could not answer, and that its rows are the champion's."""
        logger.warning(
            "{}: version {} is on trial and could not answer: {}", self.spec.name, side.version, error
        )

    def outputs(self, rows: Sequence[Row]) -> list[Output]:
        """What this version says of clean rows."""
        if self.single is not None and len(rows) == 1:
            return [self.single(rows[0])]
        return self.predictor.predict(rows)

    def sides(self, rows: Sequence[Row], ids: Sequence[str]) -> list[tuple[Served, Sequence[int]]]:
        """Who answers which of some clean rows, by their places: one side, or this one and the candidate."""
        wanted = self.spec.route
        everything: Sequence[int] = range(len(rows))
        if self.candidate is None or wanted is None:
            return [(self, everything)]
        chosen = route.of_candidate(self.spec.name, wanted, rows, ids)
        if not any(chosen):
            return [(self, everything)]
        if all(chosen):
            return [(self.candidate, everything)]
        own = [i for i, one in enumerate(chosen) if not one]
        return [(self, own), (self.candidate, [i for i, one in enumerate(chosen) if one])]

    def roles(self, versions: Sequence[int]) -> Mapping[Role, int]:
        """How many of some answers each role gave, by the versions that gave them."""
        if self.candidate is None:
            return {self.role: len(versions)}
        given = versions.count(self.candidate.version)
        return {self.role: len(versions) - given, "candidate": given}
