"""The audit log: who did what, on what, when, from where, and with which result."""

from __future__ import annotations

import re
from dataclasses import dataclass

from everlearn.access.names import one_line

_SUBJECT = re.compile(r"/subjects/.+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act. ``result`` is the HTTP status it was answered with; ``number`` is given by the store."""

    at: float
    who: str
    action: str
    target: str
    result: int
    address: str = ""
    request_id: str = ""
    number: int = 0


def entry(
    at: float, who: str, action: str, target: str, result: int, address: str = "", request_id: str = ""
) -> AuditEntry:
    """An entry whose texts are one line each, whatever the caller sent. It names no erased subject."""
    texts = (one_line(text) for text in (who, action, _SUBJECT.sub("/subjects/…", target)))
    who, action, target = texts
    return AuditEntry(at, who, action, target, result, one_line(address, 64), one_line(request_id, 64))
