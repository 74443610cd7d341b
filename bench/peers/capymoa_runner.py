"""Measures one learner of CapyMOA (MOA on a Java machine in the process); see ``harness.py``.

The learner knows the classes beforehand: its schema wants them. Instances are made before the clock runs.
"""

from __future__ import annotations

from typing import Any

import harness
import numpy as np
from capymoa.classifier import AdaptiveRandomForestClassifier, SAMkNN, StreamingRandomPatches
from capymoa.stream import NumpyStream


def classifier(name: str, schema: Any, seed: int) -> Any:
    """The peers, with CapyMOA's own defaults but for the number of trees."""
    makers = {
        "arf10": lambda: AdaptiveRandomForestClassifier(schema=schema, ensemble_size=10, random_seed=seed),
        "arf30": lambda: AdaptiveRandomForestClassifier(schema=schema, ensemble_size=30, random_seed=seed),
        "srp30": lambda: StreamingRandomPatches(schema=schema, ensemble_size=30, random_seed=seed),
        "samknn": lambda: SAMkNN(schema=schema, random_seed=seed),
    }
    return makers[name]()


class CapyMoa:
    """A learner over instances."""

    def __init__(self, job: dict[str, Any], X: Any, y: Any) -> None:
        classes = job["classes"]
        # One row of each class first, so that the schema has them all in the order of their numbers.
        labels = np.concatenate([np.arange(classes), y])
        rows = np.concatenate([np.repeat(X[:1], classes, axis=0), X])
        stream = NumpyStream(rows, labels)
        self._instances = [stream.next_instance() for _ in labels][classes:]
        self._job, self._schema = job, stream.get_schema()
        self.picks, self.answers = harness.room(job, len(X))

    def begin(self) -> None:  # noqa: D102 - of Session
        self._learner = classifier(self._job["learner"], self._schema, self._job["seed"])

    def run(self, start: int, end: int, delay: int) -> None:  # noqa: D102 - of Session
        instances, train = self._instances, self._learner.train
        for i in range(start, end):
            self._answer(i)
            if i >= delay:
                train(instances[i - delay])

    def _answer(self, i: int) -> None:
        votes = self._learner.predict_proba(self._instances[i])
        if votes is not None:
            self.answers[i] = votes
            self.picks[i] = votes.argmax()

    def size(self) -> int | None:
        """The bytes of the learner as Java writes it."""
        from java.io import ByteArrayOutputStream, ObjectOutputStream

        written = ByteArrayOutputStream()
        try:
            ObjectOutputStream(written).writeObject(self._learner.moa_learner)
        except Exception:
            return None
        return int(written.size())


if __name__ == "__main__":
    harness.main(CapyMoa)
