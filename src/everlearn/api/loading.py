"""From a stored version to one that answers: read, verified, warmed and tested before anyone asks it."""

from __future__ import annotations

from dataclasses import replace

from loguru import logger

from everlearn.api.parts import Parts
from everlearn.api.served import Role, Served
from everlearn.api.standing import Findings, findings
from everlearn.api.weight import weigh
from everlearn.features.schema import Schema
from everlearn.predictor import Baseline, Predictor
from everlearn.spec import ModelSpec
from everlearn.types import Champion
from everlearn.vision.frames import StoredImages


class Loader:
    """Loads versions of the models of an installation. ``images`` are those that detectors look at."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.images = StoredImages(parts.artifacts, kept=0)
        self._cursors: dict[str, int] = {}

    def load(
        self,
        spec: ModelSpec,
        champion: Champion,
        version: int,
        digest: str | None,
        role: Role = "champion",
    ) -> Served:
        """A version that answers; raises whatever is wrong with it."""
        predictor: Predictor | Baseline
        single, opaque = None, 0
        if digest is None:
            predictor = self.baseline(spec.name)
        else:
            bundle = self._parts.artifacts.get(digest)
            opaque = sum(map(len, bundle.files.values()))  # a library's own memory is about as large
            predictor = Predictor.from_bundle(bundle, self.images)
            _warm(predictor)
            predictor.self_test()
            predictor.anchors = ()  # what it was tested by: rows, and images, that may be erased one day
            single = predictor.single()
        abstaining = self.findings(spec).abstaining
        served = Served(spec, Schema.from_spec(spec), champion, version, predictor, abstaining, single, role)
        return replace(served, bytes=weigh(served) + opaque)

    def baseline(self, model: str) -> Baseline:
        """Version 0: what most labels said so far."""
        found = self.newer_baseline(model, anew=True)
        assert found is not None
        return found

    def newer_baseline(self, model: str, *, anew: bool = False) -> Baseline | None:
        """The same, or ``None`` where the loop has taken in nothing since (unless ``anew``)."""
        from everlearn.loop.state import majority_of

        checkpoint = self._parts.ledger.checkpoint(model)
        if not anew and checkpoint.cursor == self._cursors.get(model):
            return None
        self._cursors[model] = checkpoint.cursor
        return Baseline(majority_of(checkpoint.state))

    def findings(self, spec: ModelSpec) -> Findings:
        """What the loop has found that bears on the answers; not looked up where nothing could.

        ``on_trial`` is told only where the candidate has a share of the answers.
        """
        if not self.has_findings(spec):
            return Findings()
        routed = spec.route is not None and spec.route.candidate > 0
        found = findings(self._parts.ledger.checkpoint(spec.name).state)
        return Findings(found.abstaining and spec.abstain is not None, found.candidate if routed else None)

    def has_findings(self, spec: ModelSpec) -> bool:
        """Whether there can be any."""
        return spec.abstain is not None or (spec.route is not None and spec.route.candidate > 0)

    def forget(self, model: str) -> None:
        """A model is gone."""
        self._cursors.pop(model, None)


def _warm(predictor: Predictor) -> None:
    try:
        predictor.warm()
    except Exception as error:  # it answers all the same; the self-test is what decides
        logger.debug("{}: its learner is not warmed: {}", predictor.spec.name, error)
