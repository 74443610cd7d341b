"""Bundles in a folder: ``root/ab/abcd…/`` holds the files of the bundle whose digest is ``abcd…``.

A bundle is written to a temporary folder beside the others, flushed to the disk, and renamed: it is
there whole or not at all. A crash leaves temporary folders alone, which a later ``put`` removes when
they are old. What is read is verified before it is parsed, and nothing is ever unpickled. The time of the
folder is when its bundle was put last.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from everlearn.adapters.bundles import (
    MANIFEST,
    decode_bundle,
    digest_of,
    encode_bundle,
    is_digest,
    listing_of,
)
from everlearn.errors import IntegrityError, NotFoundError, UnavailableError
from everlearn.types import Bundle, Stored

TEMPORARY = ".tmp"
STALE_SECONDS = 3600.0
"""How old a temporary folder must be before it counts as left behind by a crash."""


class FolderArtifacts:
    """A content-addressed store of bundles on a local file system, safe for many processes.

    >>> import tempfile
    >>> artifacts = FolderArtifacts(Path(tempfile.mkdtemp()))
    >>> digest = artifacts.put(Bundle({"format": 1}))
    >>> artifacts.get(digest).manifest
    {'format': 1}
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def put(self, bundle: Bundle) -> str:
        """Store a bundle whole or not at all; returns its SHA-256 digest.

        A bundle that is there is not written again, unless it is damaged: then it is replaced.
        Raises InvalidError for what cannot be stored, UnavailableError when the disk is full or
        the folder cannot be written.
        """
        files = encode_bundle(bundle)
        digest = digest_of(files)
        if not (self.sound(digest) and self.touch(digest)):
            self.keep(digest, files)
        return digest

    def keep(self, digest: str, files: Mapping[str, bytes]) -> None:
        """Store the files of a bundle, verified by the caller; raises UnavailableError."""
        temporary = self.root / TEMPORARY / f"{digest[:12]}-{uuid4().hex}"
        try:
            self._remove_stale()
            _write(temporary, files)
            self._install(temporary, digest)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UnavailableError(
                f"The bundle could not be stored in {self.root}: {reason}. Make room, or make it writable"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def touch(self, digest: str) -> bool:
        """Count a bundle as put now; ``False`` if it is gone."""
        try:
            os.utime(self.root / digest[:2] / digest)
        except FileNotFoundError:
            return False
        except PermissionError:  # another's, who alone may remove it too
            pass
        return True

    def get(self, digest: str) -> Bundle:
        """The bundle, every file verified; raises NotFoundError, or IntegrityError that names the file."""
        folder = self._folder(digest)
        if folder is None:
            raise NotFoundError(f"There is no artifact {digest[:80]!r} in {self.root}")
        try:
            return decode_bundle(_read(folder, digest), digest=digest)
        except IntegrityError as error:
            if not folder.exists():  # deleted while it was read
                raise NotFoundError(f"There is no artifact {digest!r} in {self.root}") from None
            raise IntegrityError(f"Artifact {digest[:12]}…: {error.detail}") from error

    def path(self, digest: str) -> str | None:
        """The folder that holds the bundle, not verified; ``None`` if there is none."""
        folder = self._folder(digest)
        return None if folder is None else str(folder)

    def sound(self, digest: str) -> bool:
        """Whether the bundle is there, and every file of it is what it should be."""
        try:
            self.get(digest)
        except (NotFoundError, IntegrityError):
            return False
        return True

    def delete(self, digest: str, before: float | None = None) -> bool:
        """Remove a bundle; returns whether it was. With ``before``, only if it was last put earlier.

        The bundle is taken away in one step and its time read then: a ``put`` that came first has set it
        and the bundle goes back, one that comes later does not find it and writes it again.
        """
        folder = self._folder(digest)
        if folder is None or (before is not None and _time_of(folder) >= before):
            return False
        grave = self._bury(folder)
        if grave is None:
            return False
        if before is None or _time_of(grave) < before:
            _remove(grave)
            return True
        try:
            grave.rename(folder)
        except OSError:  # it was written again meanwhile
            _remove(grave)
        return False

    def stored(self) -> Iterator[Stored]:
        """Every bundle with its bytes, and when it was put last."""
        for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]/*")):
            if is_digest(folder.name) and not folder.is_symlink():
                with suppress(OSError), os.scandir(folder) as entries:  # deleted meanwhile
                    size = sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
                    yield Stored(folder.name, size, _time_of(folder))

    def _folder(self, digest: str) -> Path | None:
        """Where a bundle is; nothing but a digest names a path."""
        if not is_digest(digest):
            return None
        folder = self.root / digest[:2] / digest
        return folder if folder.exists() or folder.is_symlink() else None

    def _install(self, temporary: Path, digest: str) -> None:
        folder = self.root / digest[:2] / digest
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.rename(folder)
        except OSError:
            if self.sound(digest):  # another process was quicker
                return
            if not (folder.exists() or folder.is_symlink()):
                raise
            damaged = self._bury(folder)
            if damaged is not None:
                _remove(damaged)
            temporary.rename(folder)
        _sync_folder(folder.parent)
        _sync_folder(self.root)

    def _bury(self, folder: Path) -> Path | None:
        """Take a bundle away in one step, so that half a bundle is never seen under its digest."""
        grave = self.root / TEMPORARY / f"gone-{uuid4().hex}"
        grave.parent.mkdir(parents=True, exist_ok=True)
        try:
            return folder.rename(grave)
        except FileNotFoundError:
            return None

    def _remove_stale(self) -> None:
        before = time.time() - STALE_SECONDS
        try:
            with os.scandir(self.root / TEMPORARY) as entries:
                stale = [
                    entry.path for entry in entries if entry.stat(follow_symlinks=False).st_mtime < before
                ]
        except FileNotFoundError:
            return
        for path in stale:
            shutil.rmtree(path, ignore_errors=True)


def _time_of(folder: Path) -> float:
    try:
        return folder.lstat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _remove(grave: Path) -> None:
    if grave.is_symlink() or grave.is_file():
        grave.unlink()
    else:
        shutil.rmtree(grave, ignore_errors=True)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, data in files.items():
        with open(folder / name, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    _sync_folder(folder)


def _read(folder: Path, digest: str) -> dict[str, bytes]:
    """The files of a bundle: just those that its manifest lists, each a plain file of the right size."""
    if folder.is_symlink() or not folder.is_dir():
        raise IntegrityError(f"{folder.name} is not a folder")
    files = {MANIFEST: _read_file(folder / MANIFEST)}
    listing = listing_of(files[MANIFEST], digest)
    with os.scandir(folder) as entries:
        extra = sorted({entry.name for entry in entries} - listing.keys() - {MANIFEST})
    if extra:
        raise IntegrityError(f"{extra[0]} is not part of the bundle: its manifest does not list it")
    for name, (size, _) in listing.items():
        files[name] = _read_file(folder / name, size)
    return files


def _read_file(path: Path, size: int | None = None) -> bytes:
    if path.is_symlink() or not path.is_file():
        there = path.is_symlink() or path.exists()
        raise IntegrityError(f"{path.name} is {'not a plain file' if there else 'missing'}")
    try:
        found = path.stat().st_size
        if size is not None and found != size:
            raise IntegrityError(f"{path.name} has {found} bytes instead of {size}: it was cut or changed")
        return path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"{path.name} cannot be read: {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can (Windows cannot)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
