"""Versions that are asked for by their number: loaded when they are, and the newest few kept at hand."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace

from everlearn.api.loading import Loader
from everlearn.api.parts import Parts
from everlearn.api.served import Served
from everlearn.errors import EverlearnError, NotFoundError, UnavailableError
from everlearn.types import VersionState

MOST = 8
"""Versions that a process keeps in memory beside champions and candidates."""


class Shelf:
    """Loads versions by number, one at a time, and keeps those that were asked for last."""

    def __init__(self, parts: Parts, loader: Loader) -> None:
        self._parts, self._loader = parts, loader
        self._kept: OrderedDict[tuple[str, str], Served] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, served: Served, number: int) -> Served:
        """A version of the model that is served; blocks while it is loaded.

        Raises NotFoundError for one that is not there or was refused, UnavailableError for one that does not
        load.
        """
        spec = served.spec
        found = self._parts.versions.get(spec.name, number)
        if found.state in (VersionState.REFUSED, VersionState.ERASED):
            raise NotFoundError(
                f"Version {number} of model {spec.name!r} was {found.state}, and does not answer"
            )
        if found.digest is None:
            return self._loader.load(spec, served.champion, number, None, "other")
        with self._lock:
            key = (spec.name, found.digest)
            kept = self._kept.pop(key, None)
            if kept is None:
                try:
                    kept = self._loader.load(spec, served.champion, number, found.digest, "other")
                except EverlearnError as error:
                    raise UnavailableError(
                        f"Version {number} of model {spec.name!r} cannot be loaded: {error.detail}"
                    ) from error
            self._kept[key] = kept
            if len(self._kept) > MOST:
                self._kept.popitem(last=False)
        return replace(kept.of(served), version=number)
