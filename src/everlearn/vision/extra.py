"""The extra ``vision``: imported when it is first needed, and named where it is missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from everlearn.errors import MissingExtraError

LICENCE = "AGPL-3.0"
"""The licence of Ultralytics YOLO11, which the extra installs: whoever lets others use it over a network owes
them its source, unless they have bought another licence."""


def needed(module: str) -> Any:
    """A module of the extra; raises MissingExtraError that says how to install it, under which licence."""
    try:
        return import_module(module)
    except ImportError as error:
        missing = module.partition(".")[0]
        what = f"Detection ({missing} is missing; Ultralytics YOLO11 is under the {LICENCE})"
        raise MissingExtraError(what, "vision") from error
