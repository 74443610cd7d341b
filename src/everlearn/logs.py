"""One log for everything: readable lines on a terminal, JSON objects where machines read.

Bind what a line is about with ``logger.contextualize(request_id=..., model=...)``; it stands on every
line inside. Features, labels and secrets are never bound, and tracebacks are written without the
values of variables.
"""

from __future__ import annotations

import inspect
import json
import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any, TextIO

from loguru import logger

from everlearn.access.names import one_line

if TYPE_CHECKING:
    from loguru import Message, Record

CONTEXT = ("request_id", "model")
MAX_MESSAGE = 10_000
"""Characters of a message for people."""

_QUIET = ("alembic", "httpx", "httpcore", "mlflow", "sqlalchemy", "urllib3", "matplotlib", "uvicorn.access")


def setup(part: str, *, level: str = "INFO", as_json: bool = False, stream: TextIO | None = None) -> None:
    """Send all logging of this process (``part`` names it) to a stream, by default standard error."""
    target = stream or sys.stderr
    logger.remove()
    logger.configure(extra={"part": part})
    if as_json:
        logger.add(_JsonLines(target), level=level, format="{message}", backtrace=False, diagnose=False)
    else:
        logger.add(target, level=level, format=_human, backtrace=False, diagnose=False)
    logging.basicConfig(
        handlers=[Intercept()], level=logging.getLevelName(level) if level != "TRACE" else 5, force=True
    )
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        theirs = logging.getLogger(name)
        theirs.handlers, theirs.propagate = [], True
        theirs.setLevel(logging.NOTSET)
    logging.captureWarnings(True)


class Intercept(logging.Handler):
    """Takes what libraries log by the standard library into the same log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on."""
        level: str | int = record.levelno
        if record.levelname in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            level = record.levelname
        frame, depth = inspect.currentframe(), 0
        while frame and (depth == 0 or frame.f_code.co_filename == logging.__file__):
            frame, depth = frame.f_back, depth + 1
        logger.opt(depth=depth, exception=record.exc_info).log(level, "{}", record.getMessage())


def _human(record: Record) -> str:
    extra = record["extra"]
    # What is logged may quote a caller: it forges no second line, and moves no cursor.
    known = one_line(" ".join(f"{name}={extra[name]}" for name in CONTEXT if extra.get(name)))
    extra["_message"] = one_line(record["message"], MAX_MESSAGE)
    # Loguru formats what is returned here: context may hold braces or tags, so it goes in by name.
    extra["_context"] = f"  [{known}]" if known else ""
    return (
        "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> {extra[part]: <9} "
        "{extra[_message]}<dim>{extra[_context]}</dim>\n{exception}"
    )


class _JsonLines:
    """A sink that writes one JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, message: Message) -> None:
        """Write one line."""
        fields = _fields(message.record)
        line = json.dumps(fields, ensure_ascii=False, default=str)
        if not line.isprintable():  # JSON allows some that end lines or move cursors elsewhere
            line = json.dumps(fields, default=str).replace("\x7f", "\\u007f")
        self._stream.write(f"{line}\n")
        self._stream.flush()


def _fields(record: Record) -> Mapping[str, Any]:
    extra = record["extra"]
    line: dict[str, Any] = {
        "at": record["time"].astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": record["level"].name.lower(),
        "message": record["message"],
        "part": extra.get("part"),
        "logger": record["name"],
        "process": record["process"].id,
    }
    line.update(
        {name: value for name, value in extra.items() if name not in line and not name.startswith("_")}
    )
    if (error := record["exception"]) is not None and error.type is not None:
        line["error"] = error.type.__name__
        line["traceback"] = "".join(traceback.format_exception(error.type, error.value, error.traceback))
    return line
