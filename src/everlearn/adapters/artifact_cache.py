"""Copies of bundles from a store elsewhere, in a folder of this machine and no larger than allowed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from loguru import logger

from everlearn.adapters.artifacts import FolderArtifacts
from everlearn.errors import IntegrityError, NotFoundError, UnavailableError
from everlearn.types import Bundle

IN_USE = 60.0
"""Seconds after its last use for which a copy is kept whatever there is room for: someone may read it."""


class ArtifactCache:
    """The copies that were used last, up to ``limit`` bytes. Processes of one machine may share a folder.

    A copy is verified whenever it is read, as the original is; a damaged one counts as none. The time of its
    folder is when it was used last.
    """

    def __init__(self, root: Path, limit: int) -> None:
        self._folder, self._limit = FolderArtifacts(root), limit

    def get(self, digest: str) -> Bundle | None:
        """The bundle, or ``None`` if there is no sound copy."""
        try:
            bundle = self._folder.get(digest)
        except NotFoundError:
            return None
        except IntegrityError as error:
            logger.warning("a copy is damaged and is fetched again: {}", error)
            self._folder.delete(digest)
            return None
        self._folder.touch(digest)
        return bundle

    def path(self, digest: str) -> str | None:
        """The folder of a copy, if there is one; it stays for :data:`IN_USE` seconds at least."""
        return self._folder.path(digest) if self._folder.touch(digest) else None

    def keep(self, digest: str, files: Mapping[str, bytes]) -> None:
        """Keep a copy of verified files; where there is no room for it, none is kept."""
        if sum(map(len, files.values())) > self._limit:
            return
        try:
            self._folder.keep(digest, files)
            self.trim()
        except (UnavailableError, OSError) as error:
            logger.warning("no copy of {}… is kept: {}", digest[:12], error)

    def drop(self, digest: str) -> None:
        """Forget a copy."""
        self._folder.delete(digest)

    def trim(self) -> None:
        """Remove the copies that were used longest ago, until the rest is within the limit."""
        copies = sorted(self._folder.stored(), key=lambda copy: copy.at)
        over = sum(copy.bytes for copy in copies) - self._limit
        in_use = time.time() - IN_USE
        for copy in copies:
            if over <= 0:
                return
            if self._folder.delete(copy.digest, in_use):
                over -= copy.bytes
