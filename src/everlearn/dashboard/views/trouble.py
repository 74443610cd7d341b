"""What a page says when it cannot show what was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from everlearn.errors import (
    EverlearnError,
    ForbiddenError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What to say: a title, why, what to type, and whether trying again or logging in may help."""

    title: str
    text: str
    commands: str = ""
    retry: bool = False
    log_in: bool = False


def of_error(error: EverlearnError) -> Trouble:
    """What to say of an error.

    >>> of_error(UnavailableError("No answer from http://x")).retry
    True
    """
    told = str(error.detail)
    if isinstance(error, UnauthorizedError):
        return Trouble(
            "Your log-in is over", "It expired, or was ended elsewhere. Log in again.", log_in=True
        )
    if isinstance(error, ForbiddenError):
        return Trouble(
            "You may not see this", f"{told}. An administrator can give you a role for it, under Admin."
        )
    if isinstance(error, NotFoundError):
        return Trouble("It is not there", told)
    if isinstance(error, UnavailableError):
        return Trouble(
            "The server does not answer",
            "Serving may go on without it being reachable from here. This page tries again by itself.",
            "everlearn up        # starts it\neverlearn doctor    # says what is missing",
            retry=True,
        )
    number = f" (request {error.request_id})" if error.request_id else ""
    return Trouble(error.title, f"{told}{number}", retry=True)


FIRST_MODEL = (
    "everlearn init history.csv --target COLUMN   # writes spec.yaml from your data\n"
    "everlearn models create spec.yaml            # makes the model: it answers at once\n"
    "everlearn load MODEL history.csv             # tells it what is known already"
)
"""What to type when there is no model yet."""
