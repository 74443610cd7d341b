"""What the nouns of one in-memory store share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from threading import RLock
from typing import Any

from everlearn.adapters import rules
from everlearn.adapters.memory_log import ModelLog
from everlearn.spec import ModelSpec
from everlearn.types import (
    Champion,
    Checkpoint,
    Decision,
    Erasure,
    Floor,
    Job,
    Message,
    ScorePoint,
    Version,
)


@dataclass(slots=True)
class ModelData:
    """All that is kept of one model."""

    spec: ModelSpec
    champions: list[Champion]
    versions: dict[int, Version]
    log: ModelLog = field(default_factory=ModelLog)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    decisions: list[Decision] = field(default_factory=list)
    points: dict[tuple[int, int], ScorePoint] = field(default_factory=dict)
    card: bytes = b""
    id: int = 0


class SharedData:
    """What the nouns of one store share, under one lock."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.models: dict[str, ModelData] = {}
        self.jobs: dict[str, Job] = {}
        self.leases: dict[str, tuple[str, float]] = {}
        self.messages: dict[int, Message] = {}
        self.ids = count(1)
        self.erasures: dict[str, Erasure] = {}
        self.floors: dict[str, Floor] = {}

    def model(self, name: str) -> ModelData:
        """A model; raises NotFoundError."""
        try:
            return self.models[name]
        except KeyError:
            raise rules.unknown_model(name) from None

    def tell(self, model: str, body: Mapping[str, Any], destination: str = rules.REGISTRY) -> None:
        """Write a message, for the registry if nothing else is said."""
        number = next(self.ids)
        self.messages[number] = Message(number, destination, model, body)
