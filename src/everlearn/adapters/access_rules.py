"""What every access store agrees on: the errors that they raise, and what can be looked for."""

from __future__ import annotations

from everlearn.errors import ConflictError, NotFoundError


def plain(text: str) -> str:
    """A text to look for, in which nothing is that a database could not take: no stored name holds NUL."""
    return text.replace("\0", "\ufffd")


def unknown_key(key_id: str) -> NotFoundError:
    """The error for a key that is not there."""
    return NotFoundError(f"There is no key {key_id!r}: list the keys to see their ids.")


def unknown_user(name: str) -> NotFoundError:
    """The error for a user who is not there."""
    return NotFoundError(f"There is no user {name!r}: list the users to see their names.")


def taken_user(name: str) -> ConflictError:
    """The error for a second user of a name."""
    return ConflictError(f"There is a user {name!r} already: choose another name, or change that one.")


def changed_user(name: str) -> ConflictError:
    """The error for a change that another one came before."""
    return ConflictError(f"User {name!r} was changed in the meantime: look at it and try again.")
