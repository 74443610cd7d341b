"""A version as an MLflow ``pyfunc``: loads anywhere that has everlearn and MLflow, and nothing is unpickled.

``mlflow.pyfunc.load_model("models:/NAME@champion").predict(frame)`` answers as everlearn serves. A
frame has a column for each feature; missing columns, ``None`` and NaN are missing values, other
columns are ignored. The answer is a frame with the index of the input:

* ``value``: the most probable class, or the estimate; ``None`` while nothing is known
* ``probability_<class>``: one column for each class (classification only)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from everlearn.adapters.bundles import decode_bundle, is_digest
from everlearn.errors import IntegrityError
from everlearn.features.schema import Schema
from everlearn.predictor import Predictor, class_key

if TYPE_CHECKING:
    import pandas as pd

VALUE = "value"
PROBABILITY = "probability_"


def output_columns(predictor: Predictor) -> list[str]:
    """The columns of the answers of a version."""
    if predictor.spec.task != "classification":
        return [VALUE]
    keys = dict.fromkeys(class_key(label) for label in predictor.learner.classes)
    return [VALUE, *(f"{PROBABILITY}{key}" for key in keys)]


class Pyfunc:
    """What MLflow wraps: a predictor that takes and gives data frames."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._schema = Schema.from_spec(predictor.spec)
        self._columns = output_columns(predictor)

    def predict(self, data: Any) -> pd.DataFrame:
        """Answers for the rows of a frame, or of what makes one; raises SchemaError if they do not fit."""
        import pandas as pd

        frame = data if isinstance(data, pd.DataFrame) else pd.DataFrame(data)
        rows = [{str(name): cell for name, cell in row.items()} for row in frame.to_dict(orient="records")]
        outputs = self.predictor.predict(self._schema.check(rows).rows)
        answers: dict[str, Any] = {VALUE: [output.value for output in outputs]}
        for column in self._columns[1:]:
            key = column.removeprefix(PROBABILITY)
            answers[column] = [(output.probabilities or {})[key] for output in outputs]
        return pd.DataFrame(answers, index=frame.index)


def _load_pyfunc(path: str) -> Pyfunc:
    """Load a bundle's folder, whose name is its digest: MLflow calls this.

    Every file is verified against the digest before it is parsed, then the version answers its own
    anchors. Raises IntegrityError.
    """
    folder = Path(path)
    if not is_digest(folder.name):
        raise IntegrityError(f"{folder.name!r} is not a digest: the model's data folder was renamed")
    if any(not item.is_file() for item in folder.iterdir()):
        raise IntegrityError(f"{folder.name[:12]}… holds something that is no file: it was changed")
    files = {item.name: item.read_bytes() for item in folder.iterdir()}
    predictor = Predictor.from_bundle(decode_bundle(files, digest=folder.name))
    predictor.self_test()
    return Pyfunc(predictor)
