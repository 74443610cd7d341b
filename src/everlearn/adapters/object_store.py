"""Bundles on an object store: S3, or whatever else fsspec reaches by a URL.

``URL/ab/abcd…/`` holds the files of the bundle with the digest ``abcd…``. Its manifest is written last and is
the digest's text, so an upload that dies leaves nothing that is taken for a bundle. What is read is verified
before it is parsed. Copies of what was verified lie in a folder of this machine, for the next process and for
when the store is down; of images there are none.

Nobody can take several objects away in one step, so a ``delete`` that must not meet a ``put`` raises a flag,
``URL/.sweeping/abcd…/``, before it looks how old the bundle is; and a ``put`` looks for the flag after it has
written, and then whether all is there. One of the two sees the other: the first lets go, the second waits and
writes again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar
from uuid import uuid4

from everlearn.adapters.artifact_cache import ArtifactCache
from everlearn.adapters.bundles import (
    MANIFEST,
    decode_bundle,
    digest_of,
    encode_bundle,
    is_digest,
    listing_of,
)
from everlearn.adapters.object_files import open_store, refused, words_of
from everlearn.errors import EverlearnError, IntegrityError, NotFoundError, UnavailableError
from everlearn.types import Bundle, Stored
from everlearn.vision.frames import is_image

T = TypeVar("T")

SWEEPING = ".sweeping"
ATTEMPTS = 3
FIRST_WAIT = 0.25
SECONDS = 60.0
"""How long one question to the store is repeated when it fails."""

FLAG_SECONDS = 20.0
"""How long after raising its flag a ``delete`` may still remove something. A ``put`` waits twice as long for
a flag that nobody takes down."""

REMEMBERED = 4096
"""Bundles whose objects a process remembers to have verified."""

_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")


class ObjectArtifacts:
    """A content-addressed store of bundles at a URL that fsspec knows, safe for many processes.

    >>> artifacts = ObjectArtifacts("memory://doctest")
    >>> digest = artifacts.put(Bundle({"format": 1}))
    >>> artifacts.get(digest).manifest
    {'format': 1}
    """

    def __init__(self, url: str, cache: ArtifactCache | None = None) -> None:
        self.url = url.rstrip("/")
        self._cache = cache
        self._files, self._root = open_store(self.url)
        self._seen: dict[str, frozenset[tuple[str, str]]] = {}

    def put(self, bundle: Bundle) -> str:
        """Store a bundle whole or not at all; returns its SHA-256 digest.

        What is there and sound is not sent again. Raises InvalidError for what cannot be stored, and
        UnavailableError when the store does not answer or refuses.
        """
        files = encode_bundle(bundle)
        digest = digest_of(files)
        unsent: Mapping[str, bytes] = files
        if self.sound(digest):
            unsent = {MANIFEST: files[MANIFEST]}  # counts as put now
        for _ in range(ATTEMPTS):
            self._write(digest, unsent)
            self._wait_for_sweep(digest)
            if self._has_all(digest, files):  # else a delete came between our look and our writing
                break
            unsent = files
        else:
            raise UnavailableError(f"Artifact {digest[:12]}… is deleted from {self.url} again and again")
        self._copy(digest, bundle, files)
        return digest

    def get(self, digest: str) -> Bundle:
        """The bundle, every file verified: the copy on this machine, or fetched.

        Raises NotFoundError, IntegrityError that names the file, or UnavailableError.
        """
        if not is_digest(digest):
            raise NotFoundError(f"There is no artifact {digest[:80]!r} in {self.url}")
        copy = None if self._cache is None else self._cache.get(digest)
        return copy or self._fetch(digest)

    def path(self, digest: str) -> str | None:
        """The folder of this machine that holds a copy, fetched if need be; ``None`` without one."""
        if self._cache is None or not is_digest(digest):
            return None
        found = self._cache.path(digest)
        if found is None:
            try:
                self._fetch(digest)
            except NotFoundError:
                return None
            found = self._cache.path(digest)
        return found

    def sound(self, digest: str) -> bool:
        """Whether the store holds the bundle whole. What was verified is not fetched again while the store
        names the same objects."""
        try:
            listed = self._listed(digest)
            if listed and self._seen.get(digest) == _fingerprint(listed):
                return True
            self._fetch(digest)
        except (NotFoundError, IntegrityError):
            return False
        return True

    def delete(self, digest: str, before: float | None = None) -> bool:
        """Remove a bundle; returns whether it was. With ``before``, only if it was last put earlier.

        A store that does not say when an object was written keeps it.
        """
        listed = self._listed(digest)
        if not listed or (before is not None and _newest(listed) >= before):
            return False
        if before is None:
            self._remove(digest, listed)
            return True
        flag = f"{self._flags(digest)}/{uuid4().hex}"
        raised = time.monotonic()
        self._ask(lambda: self._files.pipe_file(flag, b"delete"))
        try:
            listed = self._listed(digest)
            if _newest(listed) >= before or time.monotonic() - raised > FLAG_SECONDS:
                return False
            self._remove(digest, listed)
            return True
        finally:
            with suppress(EverlearnError, FileNotFoundError):
                self._ask(lambda: self._files.rm_file(flag))

    def stored(self) -> Iterator[Stored]:
        """Every bundle, and what is left of uploads that died: its bytes, and when it was written last."""
        groups: dict[str, list[Mapping[str, Any]]] = {}
        for path, info in self._find(self._root).items():
            parts = path.rsplit("/", 2)
            if len(parts) == 3 and is_digest(parts[1]) and not parts[0].endswith(SWEEPING):
                groups.setdefault(parts[1], []).append(info)
        for digest, infos in sorted(groups.items()):
            held = {str(i): info for i, info in enumerate(infos)}
            yield Stored(digest, sum(int(info.get("size") or 0) for info in infos), _newest(held))

    def check(self) -> str:
        """A line that says where the store is and that it answers; raises UnavailableError."""
        self._find(f"{self._root}/{SWEEPING}")
        return f"{self.url} answers"

    def _fetch(self, digest: str) -> Bundle:
        listed = self._listed(digest)
        if MANIFEST not in listed:
            raise NotFoundError(f"There is no artifact {digest!r} in {self.url}")
        try:
            files = self._verified(digest, listed)
            bundle = decode_bundle(files, digest=digest)
        except IntegrityError as error:
            raise IntegrityError(f"Artifact {digest[:12]}…: {error.detail}") from error
        except FileNotFoundError:
            raise NotFoundError(f"There is no artifact {digest!r} in {self.url}") from None
        if len(self._seen) >= REMEMBERED:
            self._seen.clear()
        self._seen[digest] = _fingerprint(listed)
        self._copy(digest, bundle, files)
        return bundle

    def _copy(self, digest: str, bundle: Bundle, files: Mapping[str, bytes]) -> None:
        """Keep a copy on this machine; of images none, so that what is removed is removed everywhere."""
        if self._cache is not None and not is_image(bundle):
            self._cache.keep(digest, files)

    def _verified(self, digest: str, listed: Mapping[str, Mapping[str, Any]]) -> dict[str, bytes]:
        """The files of a bundle; what its manifest does not name, or has another size, is not fetched."""
        folder = self._folder(digest)
        manifest: bytes = self._ask(lambda: self._files.cat_file(f"{folder}/{MANIFEST}"))
        listing = listing_of(manifest, digest)
        for name in sorted(listed.keys() - listing.keys() - {MANIFEST}):
            raise IntegrityError(f"{name} is not part of the bundle: its manifest does not list it")
        for name, (size, _) in listing.items():
            if name not in listed:
                raise IntegrityError(f"{name} is missing")
            if listed[name].get("size") != size:
                found = listed[name].get("size")
                raise IntegrityError(f"{name} has {found} bytes instead of {size}: it was cut or changed")
        paths = {f"{folder}/{name}": name for name in listing}
        found = self._ask(lambda: self._files.cat(list(paths), on_error="raise"))
        return {MANIFEST: manifest, **{paths[path]: bytes(data) for path, data in found.items()}}

    def _write(self, digest: str, files: Mapping[str, bytes]) -> None:
        """Send files, the manifest last. Large ones go in parts, and count when all of them are there."""
        folder = self._folder(digest)
        parts = {f"{folder}/{name}": data for name, data in files.items() if name != MANIFEST}
        if parts:
            self._ask(lambda: self._files.pipe(parts))
        self._ask(lambda: self._files.pipe_file(f"{folder}/{MANIFEST}", files[MANIFEST]))

    def _remove(self, digest: str, listed: Mapping[str, Any]) -> None:
        """The manifest first: what is half removed is no bundle."""
        folder = self._folder(digest)
        for name in sorted(listed, key=lambda name: name != MANIFEST):
            with suppress(FileNotFoundError):
                self._ask(lambda name=name: self._files.rm_file(f"{folder}/{name}"))  # type: ignore[misc]
        self._seen.pop(digest, None)
        if self._cache is not None:
            self._cache.drop(digest)

    def _wait_for_sweep(self, digest: str) -> None:
        """Wait while somebody deletes this bundle."""
        until = time.monotonic() + 2 * FLAG_SECONDS
        while flags := self._find(self._flags(digest)):
            if time.monotonic() > until:  # whoever raised them died, and removes nothing any more
                for flag in flags:
                    with suppress(FileNotFoundError):
                        self._ask(lambda flag=flag: self._files.rm_file(flag))  # type: ignore[misc]
                return
            time.sleep(0.1)

    def _has_all(self, digest: str, files: Mapping[str, bytes]) -> bool:
        """Whether all of these files are there, by their names and sizes."""
        listed = self._listed(digest)
        return all(name in listed and listed[name].get("size") == len(data) for name, data in files.items())

    def _flags(self, digest: str) -> str:
        """Where those who delete a bundle raise their flags, each its own."""
        return f"{self._root}/{SWEEPING}/{digest}"

    def _folder(self, digest: str) -> str:
        return f"{self._root}/{digest[:2]}/{digest}"

    def _listed(self, digest: str) -> dict[str, Mapping[str, Any]]:
        """What lies in a bundle's folder, by name; nothing but a digest names a folder."""
        if not is_digest(digest):
            return {}
        found = self._find(self._folder(digest))
        return {path.rpartition("/")[2]: info for path, info in found.items()}

    def _find(self, path: str) -> dict[str, Mapping[str, Any]]:
        self._files.invalidate_cache()
        try:
            found = self._ask(lambda: self._files.find(path, detail=True))
        except FileNotFoundError:
            return {}
        return {name: info for name, info in found.items() if info.get("type") != "directory"}

    def _ask(self, question: Callable[[], T]) -> T:
        """Ask the store, again if it does not answer. Raises FileNotFoundError, or UnavailableError."""
        until, wait = time.monotonic() + SECONDS, FIRST_WAIT
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return question()
            except FileNotFoundError as error:
                if refused(error):
                    raise UnavailableError(f"The store {self.url} is not there: {words_of(error)}") from None
                raise
            except Exception as error:  # each kind of store has its own errors
                if refused(error):
                    raise UnavailableError(f"The store {self.url} refuses: {words_of(error)}") from None
                if attempt == ATTEMPTS or time.monotonic() + wait > until:
                    raise UnavailableError(
                        f"The store {self.url} does not answer: {words_of(error)}"
                    ) from None
            time.sleep(wait)
            wait *= 4
        raise AssertionError("unreachable")


def _fingerprint(listed: Mapping[str, Mapping[str, Any]]) -> frozenset[tuple[str, str]]:
    """What changes when an object is written again with other bytes."""
    return frozenset(
        (name, f"{info.get('size')} {info.get('ETag') or info.get('etag') or _time_of(info)}")
        for name, info in listed.items()
    )


def _newest(listed: Mapping[str, Mapping[str, Any]]) -> float:
    return max(map(_time_of, listed.values()), default=float("inf"))


def _time_of(info: Mapping[str, Any]) -> float:
    """When an object was written; infinity where the store does not say."""
    for key in _TIMES:
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
        if isinstance(value, str):
            with suppress(ValueError):
                return datetime.fromisoformat(value).timestamp()
    return float("inf")
