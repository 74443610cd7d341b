"""A form from a model's schema: one field a feature, and from what was typed the row that is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everlearn.errors import Fault, SchemaError

TRUE = {"yes": True, "no": False}
"""What a boolean is called in a form."""


MEASURED = (
    "brightness", "contrast", "colour", "sharpness", "texture_1", "texture_2", "texture_3", "texture_4",
)  # fmt: skip
"""What the API measures of every frame, and nobody fills in."""


def features(spec: Mapping[str, Any]) -> dict[str, str]:
    """The columns of a spec and their types.

    >>> features({"features": {"age": "numeric", "colour": {"type": "categorical"}}})
    {'age': 'numeric', 'colour': 'categorical'}
    """
    return {
        name: str(told.get("type", "categorical")) if isinstance(told, Mapping) else str(told)
        for name, told in (spec.get("features") or {}).items()
    }


def beside_image(spec: Mapping[str, Any]) -> dict[str, str]:
    """The columns of a detector that are filled in beside its image, and their types.

    >>> beside_image({"features": {"frame": "image", "camera": "categorical", "contrast": "numeric"}})
    {'camera': 'categorical'}
    """
    return {name: kind for name, kind in features(spec).items() if kind != "image" and name not in MEASURED}


def row_of(kinds: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """The row that was filled in; what was left empty is missing.

    >>> kinds = {"age": "numeric", "member": "boolean", "colour": "categorical"}
    >>> row_of(kinds, {"age": "30", "member": "yes", "colour": ""})
    {'age': 30.0, 'member': True, 'colour': None}
    """
    faults, row = [], {}
    for name, kind in kinds.items():
        text = str(given.get(name) or "").strip()
        try:
            row[name] = _value(kind, text)
        except ValueError:
            faults.append(Fault(name, f"{text!r} is no number: write one like 12.5, or leave it empty"))
    if faults:
        raise SchemaError("; ".join(f"{f.field}: {f.message}" for f in faults), faults)
    return row


def _value(kind: str, text: str) -> Any:
    if not text:
        return None
    if kind == "numeric":
        return float(text)
    if kind == "boolean":
        return TRUE.get(text, text)
    return text


def label_of(task: str, text: str, answered: Any) -> Any:
    """A label as its model's task wants it: a number, or a class of the type that was answered.

    >>> label_of("regression", "2.5", 2.1), label_of("classification", "UP", "DOWN")
    (2.5, 'UP')
    >>> label_of("classification", "1", 0), label_of("classification", "true", False)
    (1, True)
    """
    text = text.strip()
    if isinstance(answered, bool):
        return {"true": True, "false": False, "yes": True, "no": False}.get(text.lower(), text)
    if task == "classification" and not isinstance(answered, (int, float)):
        return text
    try:
        return int(text) if isinstance(answered, int) else float(text)
    except ValueError:
        raise SchemaError(f"{text!r} is no number: write one like 12.5") from None
