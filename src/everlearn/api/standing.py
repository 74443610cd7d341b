"""Where a model stands: what several answers tell of it, read in one go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from everlearn.api.parts import Parts
from everlearn.types import Champion, Head


@dataclass(frozen=True, slots=True)
class Standing:
    """The head of a model's log, how far the loop has read it, the champion, and the scores there."""

    head: Head
    cursor: int
    champion: Champion
    scores: Mapping[str, Any]

    @property
    def performance(self) -> float | None:
        """The champion's metric on the newest matured rows it answered; while there are none, all rows'."""
        value = self.scores.get("champion", {}).get("value")
        if value is None:
            value = self.scores.get("served", {}).get("window", {}).get(self.scores.get("metric"))
        return None if value is None else float(value)


class _Abstention(msgspec.Struct):
    """The one field of a loop's state that the request path needs; the decoder skips the others."""

    abstaining: bool = False


_abstention = msgspec.json.Decoder(_Abstention)


def abstains(state: bytes) -> bool:
    """Whether a model abstains, from a checkpoint's state: far cheaper than its whole summary.

    >>> abstains(b""), abstains(b'{"abstaining": true, "rows": 7}')
    (False, True)
    """
    return bool(state) and _abstention.decode(state).abstaining


def standing(parts: Parts, model: str, champion: Champion | None = None) -> Standing:
    """Read it; raises NotFoundError for an unknown model."""
    champion = champion or parts.versions.champion(model)
    checkpoint = parts.ledger.checkpoint(model)
    return Standing(parts.log.head(model), checkpoint.cursor, champion, _scores(checkpoint.state))


def _scores(state: bytes) -> Mapping[str, Any]:
    from everlearn.loop.summary import summary

    return summary(state)
