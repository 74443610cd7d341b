"""The table formats that bodies and answers come in, by their media types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from starlette.types import Scope

from everlearn.api.middleware import header
from everlearn.errors import InvalidError

JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"

TABLES = (NDJSON, CSV, ARROW, PARQUET)
"""What tables are read from and written to; JSON is a document of its own shape."""

_OTHER_NAMES = {"application/ndjson": NDJSON, "application/jsonl": NDJSON}


class UnsupportedError(InvalidError):
    """A media type that is not read, or not written."""

    status = 415
    title = "Unsupported media type"

    @property
    def type(self) -> str:
        """Its URI reference."""
        return "/errors/unsupported-media-type"


class NotAcceptableError(InvalidError):
    """No format that the caller accepts is written here."""

    status = 406
    title = "Not acceptable"

    @property
    def type(self) -> str:
        """Its URI reference."""
        return "/errors/not-acceptable"


def content_type(scope: Scope) -> str:
    """The media type of a request's body, in lower case and without parameters."""
    return _plain(header(scope, b"content-type"))


def answer_type(scope: Scope, default: str, offered: Sequence[str] = (JSON, *TABLES)) -> str:
    """The format to answer in: the first that ``Accept`` names, else the default.

    Raises NotAcceptableError if it names formats, and none that is written here.
    """
    wanted = list(_accepted(header(scope, b"accept")))
    for kind in wanted:
        if kind in offered:
            return kind
        if kind in ("*/*", "application/*") or (kind == "text/*" and CSV in offered):
            return default if kind != "text/*" else CSV
    if wanted:
        raise NotAcceptableError(f"Accept names nothing that is written here: ask for {', '.join(offered)}")
    return default


def _accepted(value: str) -> Iterator[str]:
    """The media ranges of an ``Accept`` header, best first; those with ``q=0`` are left out."""
    found: list[tuple[float, str]] = []
    for part in value.split(","):
        kind, *parameters = part.split(";")
        quality = 1.0
        for parameter in parameters:
            name, _, text = parameter.strip().partition("=")
            if name.lower() == "q":
                quality = _number(text)
        if kind.strip() and quality > 0:
            found.append((quality, _plain(kind)))
    return (kind for _, kind in sorted(found, key=lambda item: -item[0]))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _plain(value: str) -> str:
    kind = value.partition(";")[0].strip().lower()
    return _OTHER_NAMES.get(kind, kind)
