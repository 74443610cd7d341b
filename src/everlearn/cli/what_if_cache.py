"""What earlier calls of ``what-if`` worked out: a JSON file a result, named by the digest of what went in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

import everlearn


class FolderCache:
    """Results in a folder. They count only for the very code that made them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _code(self) -> str:
        """The installed code in a few letters: another file, size or time of change is other code."""
        from everlearn.loop.whatif_library import digest_of

        root = Path(everlearn.__file__).parent
        files = [(str(p.relative_to(root)), p.stat()) for p in sorted(root.rglob("*.py"))]
        return digest_of([everlearn.__version__, [(n, s.st_size, s.st_mtime_ns) for n, s in files]])[:12]

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}-{self._code}.json"

    def get(self, key: str) -> dict[str, Any] | None:
        """A result; ``None`` if it is not known, or its file cannot be read."""
        try:
            found: dict[str, Any] = msgspec.json.decode(self._path(key).read_bytes(), type=dict[str, Any])
        except (OSError, msgspec.MsgspecError):
            return None
        return found

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a result, whole or not at all; a folder that cannot be written is no error."""
        path = self._path(key)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(msgspec.json.encode(value))
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
