"""Files of a version that are damaged or gone are made again from the log, and must come out the same.

A version is derived data: its job's plan, the log and the version before it give the same bytes again.
"""

from __future__ import annotations

from typing import Protocol

from loguru import logger

from everlearn.errors import EverlearnError, IntegrityError
from everlearn.loop import drive
from everlearn.ports import Artifacts, Jobs, Log, Versions
from everlearn.spec import parse_spec


class Parts(Protocol):
    """What mending needs of an installation."""

    @property
    def log(self) -> Log: ...  # noqa: D102
    @property
    def versions(self) -> Versions: ...  # noqa: D102
    @property
    def jobs(self) -> Jobs: ...  # noqa: D102
    @property
    def artifacts(self) -> Artifacts: ...  # noqa: D102


def mend(model: str, number: int, parts: Parts) -> bool:
    """Make a version's files again if they need it; returns whether they did.

    Raises NotFoundError for what is unknown, and IntegrityError if other bytes come out than those that
    were published: another release made them, or the log was changed.
    """
    version = parts.versions.get(model, number)
    if version.digest is None or parts.artifacts.sound(version.digest):
        return False
    plan = parts.jobs.get(str(version.metrics.get("job"))).spec.arguments
    if not drive.is_erased(model, plan["champion"], parts.versions):
        mend(model, plan["champion"], parts)  # what it learned from, or was compared with
    trained = drive.derive(model, parse_spec(plan["spec"]), plan, parts.log, parts.versions, parts.artifacts)
    digest = parts.artifacts.put(trained.predictor.bundle(trained.anchors))
    if digest != version.digest:
        raise IntegrityError(
            f"Version {number} of {model} is damaged, and comes out of the log as {digest[:12]}… instead of "
            f"{version.digest[:12]}…: restore its files from the backup, or promote another version"
        )
    return True


def try_to_mend(model: str, number: int, parts: Parts) -> None:
    """The same, and say so; what cannot be mended is only told of."""
    with logger.contextualize(model=model):
        try:
            if mend(model, number, parts):
                logger.warning("the files of version {} were damaged: made again from the log", number)
        except EverlearnError as error:
            logger.error("the files of version {} cannot be made again: {}", number, error)
        except Exception as error:
            logger.opt(exception=error).error("the files of version {} cannot be made again", number)
