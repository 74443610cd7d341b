"""How a worker's log tells of errors."""

from __future__ import annotations

from loguru import logger

from everlearn.errors import EverlearnError


def report(error: Exception, what: str) -> None:
    """Log an error: one line for those made to be read, with the traceback for all others."""
    if isinstance(error, EverlearnError):
        logger.warning("{}: {}", what, error)
    else:
        logger.opt(exception=error).error("{}: {}", what, type(error).__name__)
