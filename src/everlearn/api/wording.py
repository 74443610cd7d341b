"""What pydantic finds wrong, as a field and what to send instead. Never with the values that were sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from everlearn.errors import Fault

_MESSAGES = {
    "missing": "is missing: send it",
    "extra_forbidden": "is not known here: check its spelling, or leave it out",
    "dict_type": "send a JSON object",
    "model_type": "send a JSON object",
    "model_attributes_type": "send a JSON object",
    "list_type": "send a list",
    "string_type": "send text",
    "string_too_short": "send at least {min_length} characters",
    "string_too_long": "send at most {max_length} characters",
    "string_pattern_mismatch": "send text that matches {pattern}",
    "int_type": "send a whole number",
    "int_parsing": "send a whole number",
    "int_parsing_size": "send a smaller whole number",
    "int_from_float": "send a whole number",
    "float_type": "send a number",
    "float_parsing": "send a number",
    "finite_number": "send a finite number",
    "bool_type": "send true or false",
    "bool_parsing": "send true or false",
    "greater_than_equal": "send {ge} or more",
    "less_than_equal": "send {le} or less",
    "greater_than": "send more than {gt}",
    "less_than": "send less than {lt}",
    "too_short": "has {actual_length} items: send at least {min_length}",
    "too_long": "has more than {max_length} items: send it in parts",
    "literal_error": "send one of {expected}",
    "enum": "send one of {expected}",
    "json_invalid": "is not valid JSON: {error}",
}
_NAMED = re.compile(r"(\w+(?:\[\d+\])?): (.+)", re.DOTALL)


def fault_of(item: Mapping[str, Any]) -> Fault:
    """One of pydantic's findings in words.

    >>> fault_of({"type": "missing", "loc": ("body", "rows", 3, "age"), "msg": "Field required"})
    Fault(field='rows[3].age', message='is missing: send it')

    A validator of several fields says which one it means: ``ids: 2 for 3 rows``.
    """
    field = field_of(item["loc"])
    known = _MESSAGES.get(item.get("type", ""))
    if known is not None:
        return Fault(field, known.format_map(_Given(item.get("ctx") or {})))
    message = str(item["msg"]).removeprefix("Value error, ")
    named = _NAMED.fullmatch(message) if item.get("type") == "value_error" else None
    return Fault(named[1], named[2]) if named else Fault(field, message)


def field_of(location: Sequence[Any]) -> str:
    """A validation location as a field name.

    >>> field_of(("body", "rows", 3, "age")), field_of(("query", "limit")), field_of(("body", 17))
    ('rows[3].age', 'limit', 'body')
    """
    if len(location) == 2 and location[0] == "body" and isinstance(location[1], int):
        return "body"
    name = ""
    for part in location[1:]:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name or str(location[0] if location else "body")


class _Given(dict[str, Any]):
    """What pydantic tells of a finding; what it leaves out stays vague instead of failing."""

    def __missing__(self, key: str) -> str:
        return "what is allowed"
