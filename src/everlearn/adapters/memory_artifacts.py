"""Bundles in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import RLock

from everlearn.adapters.bundles import decode_bundle, digest_of, encode_bundle
from everlearn.errors import IntegrityError, NotFoundError
from everlearn.types import Bundle, Stored


class MemoryArtifacts:
    """:class:`everlearn.ports.Artifacts` in memory: the encoded files, so that reading is proven too."""

    def __init__(self) -> None:
        self._bundles: dict[str, dict[str, bytes]] = {}
        self._put_at: dict[str, float] = {}
        self._lock = RLock()

    def put(self, bundle: Bundle) -> str:
        """See the port."""
        files = dict(encode_bundle(bundle))
        digest = digest_of(files)
        with self._lock:
            self._bundles.setdefault(digest, files)
            self._put_at[digest] = time.time()
        return digest

    def get(self, digest: str) -> Bundle:
        """See the port."""
        files = self._bundles.get(digest)
        if files is None:
            raise NotFoundError(f"There is no artifact {digest}: it was deleted, or is in another store.")
        if digest_of(files) != digest:
            raise IntegrityError(f"Artifact {digest} is not what its digest says: restore it from a backup.")
        return decode_bundle(files)

    def path(self, digest: str) -> str | None:  # noqa: ARG002
        """No folder holds it."""
        return None

    def sound(self, digest: str) -> bool:
        """See the port."""
        try:
            self.get(digest)
        except (NotFoundError, IntegrityError):
            return False
        return True

    def delete(self, digest: str, before: float | None = None) -> bool:
        """See the port."""
        with self._lock:
            if digest not in self._bundles or (before is not None and self._put_at[digest] >= before):
                return False
            del self._bundles[digest], self._put_at[digest]
            return True

    def stored(self) -> Iterator[Stored]:
        """See the port."""
        with self._lock:
            held = [
                Stored(digest, sum(map(len, files.values())), self._put_at[digest])
                for digest, files in sorted(self._bundles.items())
            ]
        yield from held
