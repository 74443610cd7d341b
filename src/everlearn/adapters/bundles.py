"""A bundle as files, and back: the one stored form of a version, whatever keeps the files.

``manifest.json`` is canonical JSON (sorted keys, no spaces, ASCII) and lists the size and SHA-256 of
every other file; so its own SHA-256 covers them all and is the bundle's digest. Arrays are in
``arrays.safetensors``, files of named formats lie beside it. Equal bundles give equal bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everlearn.errors import Fault, IntegrityError, InvalidError
from everlearn.types import Bundle

MANIFEST = "manifest.json"
ARRAYS = "arrays.safetensors"

DTYPES = frozenset(
    [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
    ]
)
"""What an array of a bundle may be made of."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def is_digest(text: str) -> bool:
    """Whether a text is a SHA-256 in hex: 64 digits of 0-9 and a-f, and nothing else."""
    return _DIGEST.fullmatch(text) is not None


def digest_of(files: Mapping[str, bytes]) -> str:
    """The bundle's digest: the SHA-256 of its ``manifest.json``."""
    return sha256(files[MANIFEST]).hexdigest()


def encode_bundle(bundle: Bundle) -> dict[str, bytes]:
    """A bundle's files by name.

    Raises InvalidError for what cannot be stored: an array of objects or text, a file name with
    separators, a manifest that is not JSON or has a key ``files``.
    """
    files = {ARRAYS: _encode_arrays(bundle.arrays)}
    for name in sorted(bundle.files):
        _check_file_name(name, files)
        files[name] = bytes(bundle.files[name])
    if "files" in bundle.manifest:
        raise _invalid("manifest.files", "is the name of the list of files: use another key")
    listing = {name: {"bytes": len(data), "sha256": sha256(data).hexdigest()} for name, data in files.items()}
    return {MANIFEST: _canonical({**bundle.manifest, "files": listing}), **files}


def decode_bundle(files: Mapping[str, bytes], *, digest: str | None = None) -> Bundle:
    """The bundle in files; the size and SHA-256 of each is verified before any of them is parsed.

    With ``digest`` the manifest itself is verified too. Arrays come back writable. Raises
    IntegrityError that names the file at fault.
    """
    if MANIFEST not in files:
        raise IntegrityError(f"{MANIFEST} is missing")
    listing = listing_of(files[MANIFEST], digest)
    for name in sorted(files.keys() - listing.keys() - {MANIFEST}):
        raise IntegrityError(f"{name} is not part of the bundle: its manifest does not list it")
    for name, (size, sha) in listing.items():
        _verify(name, files.get(name), size, sha)
    manifest = json.loads(files[MANIFEST])
    del manifest["files"]
    named = {name: bytes(files[name]) for name in listing if name != ARRAYS}
    return Bundle(manifest, _decode_arrays(files[ARRAYS]), named)


def listing_of(manifest: bytes, digest: str | None = None) -> dict[str, tuple[int, str]]:
    """The size in bytes and the SHA-256 of every file that a stored manifest lists.

    Raises IntegrityError if the manifest does not have the ``digest`` or lists no proper files.
    """
    if digest is not None and sha256(manifest).hexdigest() != digest:
        raise IntegrityError(f"{MANIFEST} is not what the digest {digest[:12]}… says: it was changed or cut")
    try:
        entries = json.loads(manifest)["files"].items()
        listing = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in entries}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise IntegrityError(f"{MANIFEST} is not a bundle's manifest: it lists no files") from None
    odd = [name for name in listing if not _FILE_NAME.fullmatch(name) or name == MANIFEST]
    if odd or ARRAYS not in listing:
        raise IntegrityError(f"{MANIFEST} lists {odd[0]!r}" if odd else f"{MANIFEST} does not list {ARRAYS}")
    return listing


def _verify(name: str, data: bytes | None, size: int, sha: str) -> None:
    if data is None:
        raise IntegrityError(f"{name} is missing")
    if len(data) != size:
        raise IntegrityError(f"{name} has {len(data)} bytes instead of {size}: it was cut or changed")
    if sha256(data).hexdigest() != sha:
        raise IntegrityError(f"{name} is not what its SHA-256 says: it was changed")


def _canonical(value: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _invalid("manifest", f"is not JSON ({error}): keep arrays and bytes out of it") from None
    return text.encode("ascii")


def _check_file_name(name: str, taken: Mapping[str, bytes]) -> None:
    if not _FILE_NAME.fullmatch(name):
        raise _invalid(f"files[{name!r}]", "is no file name: use letters, digits, '.', '_' and '-'")
    if name.lower() in {MANIFEST, *(other.lower() for other in taken)}:
        raise _invalid(f"files[{name!r}]", "is taken (upper and lower case count as one): rename it")


def _encode_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    from safetensors.numpy import save

    plain = {}
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        if array.dtype.name not in DTYPES:
            fix = "use numbers or booleans; keep text and labels as lists in the manifest"
            raise _invalid(f"arrays[{name!r}]", f"has dtype {array.dtype}, which cannot be stored: {fix}")
        if name == "__metadata__":
            raise _invalid("arrays['__metadata__']", "is a name that the format keeps for itself: rename it")
        plain[name] = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    return save(plain)


def _decode_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except (SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError(f"{ARRAYS} cannot be read: {error}") from None
    return {name: arrays[name] if arrays[name].flags.writeable else arrays[name].copy() for name in arrays}


def _invalid(field: str, message: str) -> InvalidError:
    return InvalidError(f"{field}: {message}", [Fault(field, message)])
