"""The answers that callers use most, as small frozen records; every other answer is a plain dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias, overload

if TYPE_CHECKING:
    from everlearn.types import Scalar

Record: TypeAlias = dict[str, Any]
"""A JSON object of the API, as it came."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer. Keep ``id``: the label is sent for it. ``value`` is ``None`` while nothing is known.

    ``probabilities`` maps each known class to its probability, and is ``None`` for regression.
    ``abstained`` is whether the model abstains: then the answer is not to be relied on, or withheld.
    """

    id: str
    version: int
    value: Scalar
    probabilities: Mapping[str, float] | None = None
    abstained: bool = False

    @classmethod
    def read(cls, record: Record) -> Prediction:
        """Read an item of the API's ``predictions``."""
        return cls(
            record["id"],
            record["version"],
            record["value"],
            record.get("probabilities"),
            bool(record.get("abstained")),
        )


@dataclass(frozen=True, slots=True)
class Predictions(Sequence[Prediction]):
    """The answers of one request, in the order of its rows; all come from one version.

    ``ignored_columns`` counts, by name, the columns that the model's schema does not know.
    """

    model: str
    items: tuple[Prediction, ...]
    ignored_columns: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, record: Record) -> Predictions:
        """Read the answer of ``POST …/predict``."""
        items = tuple(Prediction.read(item) for item in record["predictions"])
        return cls(record["model"], items, record.get("ignored_columns") or {})

    @property
    def ids(self) -> list[str]:
        """The prediction ids, in order."""
        return [item.id for item in self.items]

    @property
    def values(self) -> list[Scalar]:
        """The predicted values, in order."""
        return [item.value for item in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.items)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Prediction, ...]: ...

    def __getitem__(self, index: int | slice) -> Prediction | tuple[Prediction, ...]:
        return self.items[index]


@dataclass(frozen=True, slots=True)
class LabelReceipt:
    """What became of labels: how many are new, how many were known, and which need a look.

    ``conflict`` lists ids that hold another value already (send it with ``correction=True`` to
    replace it); ``parked`` lists ids that no prediction has yet; ``erased`` those of predictions that
    were erased, whose labels are not kept.
    """

    accepted: int
    duplicate: int = 0
    conflict: tuple[str, ...] = ()
    parked: tuple[str, ...] = ()
    erased: tuple[str, ...] = ()

    @classmethod
    def read(cls, record: Record) -> LabelReceipt:
        """Read the answer of ``POST …/labels``."""
        lists = (tuple(record.get(name) or ()) for name in ("conflict", "parked", "erased"))
        return cls(record["accepted"], record["duplicate"], *lists)


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """What the loop made of a command.

    ``decision`` is the ledger row, or ``None`` while the loop has not come to it (then ``seq`` is
    its place in the log). ``skipped`` tells that a retrain was not needed; the decision says why.
    """

    decision: Record | None
    skipped: bool = False
    seq: int | None = None
    detail: str = ""

    @classmethod
    def read(cls, record: Record) -> CommandAnswer:
        """Read the answer of ``promote``, ``rollback``, ``freeze``, ``unfreeze`` or ``retrain``."""
        decision = record.get("decision")
        detail = record.get("detail") or (decision or {}).get("reason", "")
        return cls(decision, bool(record.get("skipped")), record.get("accepted"), detail)


@dataclass(frozen=True, slots=True)
class ChampionAnswer:
    """Which version answered at a time. ``term`` counts the promotions; ``digest`` names its artifact."""

    version: int
    term: int
    digest: str | None
    since: datetime

    @classmethod
    def read(cls, record: Record) -> ChampionAnswer:
        """Read the answer of ``GET …/champion``."""
        since = datetime.fromisoformat(record["since"])
        return cls(record["version"], record["term"], record.get("digest"), since)
