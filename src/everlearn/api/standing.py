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


class _Trial(msgspec.Struct):
    version: int


class _Candidate(msgspec.Struct):
    trial: _Trial


class Findings(msgspec.Struct):
    """What the request path needs of a loop's state; the decoder skips all other fields."""

    abstaining: bool = False
    candidate: _Candidate | None = None

    @property
    def on_trial(self) -> int | None:
        """The number of the version on trial."""
        return None if self.candidate is None else self.candidate.trial.version


_findings = msgspec.json.Decoder(Findings)


def findings(state: bytes) -> Findings:
    """What the loop has found, from a checkpoint's state: far cheaper than its whole summary.

    >>> findings(b"").abstaining, findings(b'{"abstaining": true, "rows": 7}').abstaining
    (False, True)
    >>> findings(b'{"candidate": {"trial": {"version": 4}}}').on_trial
    4
    """
    return _findings.decode(state) if state else Findings()


def standing(parts: Parts, model: str, champion: Champion | None = None) -> Standing:
    """Read it; raises NotFoundError for an unknown model."""
    champion = champion or parts.versions.champion(model)
    checkpoint = parts.ledger.checkpoint(model)
    return Standing(parts.log.head(model), checkpoint.cursor, champion, _scores(checkpoint.state))


def _scores(state: bytes) -> Mapping[str, Any]:
    from everlearn.loop.summary import summary

    return summary(state)
