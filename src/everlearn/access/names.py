"""Names that people choose, and texts that callers send, made safe for headers, logs and terminals."""

from __future__ import annotations

import re

from everlearn.errors import Fault, InvalidError

MAX_LABEL = 100
MAX_TARGET = 300

_USER = re.compile(r"[a-z0-9][a-z0-9._@-]{0,99}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def user_name(text: str) -> str:
    """A user's name as it is stored: in lower case. Raises InvalidError for one that is not plain.

    >>> user_name("Ann@example.org")
    'ann@example.org'
    """
    name = text.lower()
    if not text.isascii() or not _USER.fullmatch(name):
        raise fault("name", "must be 1 to 100 letters, digits or . _ @ -, and begin with a letter or digit")
    return name


def key_label(text: str) -> str:
    """What a key is for, in words of its maker: one printable line. Raises InvalidError."""
    if not 0 < len(text) <= MAX_LABEL or not text.isprintable() or text != text.strip():
        raise fault("name", f"must be 1 to {MAX_LABEL} printable characters on one line")
    return text


def model_name(field: str, text: str) -> str:
    """A model's name in a grant; the model need not be there yet. Raises InvalidError."""
    if not _MODEL.fullmatch(text):
        raise fault(field, "must be a model's name: letters, digits or . _ -")
    return text


def one_line(text: str, most: int = MAX_TARGET) -> str:
    r"""A text that can forge no line and move no cursor: what is not printable stands escaped.

    >>> one_line("shop\r\nadmin deleted all")
    'shop\\r\\nadmin deleted all'
    """
    cut = text[:most]
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)
    return safe[:most]


def fault(field: str, message: str) -> InvalidError:
    """The error for one field."""
    return InvalidError(f"{field}: {message}", [Fault(field, message)])
