"""What MLflow is told of a model and of a version: parameters, metrics, tags and the signature."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from everlearn.adapters.mlflow_pyfunc import output_columns
from everlearn.predictor import Predictor
from everlearn.spec import ModelSpec
from everlearn.types import Decision, Version

MODEL = "everlearn.model"
VERSION = "everlearn.version"
KEY = "everlearn.key"
TERM = "everlearn.term"

_LONGEST_KEY = 250
_LONGEST_VALUE = 4000
_ODD = re.compile(r"[^A-Za-z0-9_\-. ]")


def key_of(version: Version) -> str:
    """What tells a version from every other, also from one of a deleted model of the same name."""
    return f"{version.number}-{version.digest or 'none'}-{version.created_at:.6f}"


def model_tags(spec: ModelSpec) -> dict[str, str]:
    """The tags of a registered model and of its experiment."""
    return {
        MODEL: spec.name,
        "everlearn.task": spec.task,
        "everlearn.target": spec.target,
        "everlearn.learner": spec.learner.name,
        "everlearn.metric": str(spec.metric),
        "everlearn.threshold": "" if spec.threshold is None else str(spec.threshold),
    }


def version_tags(version: Version, job: str | None) -> dict[str, str]:
    """The tags of a run and of a model version: they point back to everlearn's records."""
    tags = {
        MODEL: version.model,
        VERSION: str(version.number),
        "everlearn.digest": version.digest or "",
        "everlearn.parent": "" if version.parent is None else str(version.parent),
        KEY: key_of(version),
    }
    return tags | ({"everlearn.job": job} if job else {})


def promotion_tags(message: Mapping[str, Any], decision: Decision | None) -> dict[str, str]:
    """The tags of a model version that say when and why it became champion (the last time)."""
    tags = {TERM: str(message["term"]), "everlearn.decision": str(message.get("decision", ""))}
    if decision is None:
        return tags
    reason = {"everlearn.decided": decision.kind.value, "everlearn.reason": decision.reason[:_LONGEST_VALUE]}
    return tags | reason


def parameters(version: Version) -> dict[str, str]:
    """The parameters of a run: the learner, its parameters, and the stretch of log it learned from."""
    learner = {f"learner.{name}": _text(value) for name, value in version.parameters.items()}
    own = {
        "learner": version.learner,
        "rows": str(version.rows),
        "learned_from": str(version.learned_from),
        "learned_through": str(version.learned_through),
        "learned_upto": str(version.learned_upto),
        "parent": "" if version.parent is None else str(version.parent),
    }
    return {_name(name): value for name, value in (learner | own).items()}


def metrics(version: Version) -> dict[str, float]:
    """The numbers in a version's metrics, those inside others under dotted names.

    Booleans are 1 and 0; text and what is not finite is left out.
    """
    return {_name(name): value for name, value in _numbers(version.metrics, "")}


def signature(predictor: Predictor) -> Any:
    """MLflow's signature of a version.

    Inputs are optional columns of type ``any``: MLflow would refuse integers in a ``double`` column
    and 0/1 in a ``boolean`` one, which serving takes. everlearn's own schema checks them instead,
    and the model's metadata names their kinds.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, DataType, Schema

    inputs = [ColSpec(AnyType(), name, required=False) for name in sorted(predictor.spec.features)]
    value, *probabilities = output_columns(predictor)
    kinds = {"str": DataType.string, "int": DataType.long, "bool": DataType.boolean, "float": DataType.double}
    found = {type(label).__name__ for label in predictor.learner.classes}
    found = {"regression": {"float"}, "detection": {"str"}}.get(predictor.spec.task, found)
    kind = kinds.get(found.pop(), AnyType()) if len(found) == 1 else AnyType()
    outputs = [ColSpec(kind, value), *(ColSpec(DataType.double, name) for name in probabilities)]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, bool | int | float) and math.isfinite(value):
            yield f"{prefix}{name}", float(value)


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return text[:_LONGEST_VALUE]


def _name(name: str) -> str:
    """A name in the letters that every MLflow store takes."""
    return _ODD.sub("_", name).strip(". ")[:_LONGEST_KEY] or "_"
