"""What the OpenAPI page says of tables: the same paths as the JSON routes, with more media types."""

from __future__ import annotations

from typing import Any

from everlearn.api import formats
from everlearn.api.problems import MEDIA_TYPE, documented

_BINARY = {"type": "string", "format": "binary"}
_ROW = '{"id": "mail-17", "length": 412, "sender": "ann@example.org"}\n'
_ROWS: dict[str, Any] = {
    formats.NDJSON: {"schema": {"type": "string"}, "example": _ROW},
    formats.CSV: {"schema": {"type": "string"}, "example": "id,length,sender\nmail-17,412,ann@example.org\n"},
    formats.ARROW: {"schema": _BINARY},
    formats.PARQUET: {"schema": _BINARY},
}
_LABELS: dict[str, Any] = {
    **_ROWS,
    formats.NDJSON: {"schema": {"type": "string"}, "example": '{"id": "mail-17", "value": "spam"}\n'},
    formats.CSV: {"schema": {"type": "string"}, "example": "id,value\nmail-17,spam\n"},
}
_ANSWERS: dict[str, Any] = {kind: {"schema": _BINARY} for kind in formats.TABLES}
_TABLES = " A body may also be a table, answered in its own format or the one that `Accept` names."
_PARAMETERS = [
    {
        "name": name,
        "in": "query",
        "required": False,
        "schema": {"type": "string", "maxLength": 200},
        "description": f"The column of a table that holds the {what} (default: `{name}`, if no feature).",
    }
    for name, what in (("id", "ids"), ("at", "times"))
]


def add_tables(page: dict[str, Any]) -> None:
    """Tell of tables where they are taken."""
    predict = page["paths"]["/v1/models/{model}/predict"]["post"]
    predict["description"] += _TABLES
    predict["requestBody"]["content"].update(_ROWS)
    predict["responses"]["200"]["content"].update(_ANSWERS)
    predict.setdefault("parameters", []).extend(_PARAMETERS)
    labels = page["paths"]["/v1/models/{model}/labels"]["post"]
    labels["description"] += " A body may also be a table of the columns id, value, correction and at."
    labels["requestBody"]["content"].update(_LABELS)
    for operation, statuses in ((predict, (406, 501)), (labels, (501,))):
        for status, told in documented(*statuses).items():
            problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            told_here = {"description": told["description"], "content": problem}
            operation["responses"].setdefault(str(status), told_here)
    for path, operations in page["paths"].items():
        for operation in operations.values():
            if path.startswith("/v2"):  # where 400 says that the request is wrong
                operation["responses"].pop("422", None)
