"""Certificates of erasures: what was removed and how it was proven, signed with the installation's key.

The signature is an HMAC-SHA256 (RFC 2104) over the certificate's canonical JSON. Its key is derived from the
secret that signs logins, for this purpose alone: whoever holds the installation can check a certificate, and
nobody else can make one. A secret that was replaced still verifies while it is listed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from everlearn.errors import InvalidError

ALGORITHM = "HMAC-SHA256"
FORMAT = 1


class Seal:
    """Signs with the first of some secrets, and verifies with any.

    >>> seal = Seal(["a secret of an installation"])
    >>> signed = seal.sign({"id": "erasure-1"})
    >>> seal.verify(signed), seal.verify({**signed, "id": "erasure-2"})
    (True, False)
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise InvalidError("Certificates need the secret that signs logins: start everlearn once")
        self._keys = {_kid(secret): _key(secret) for secret in secrets}
        self._first = _kid(secrets[0])

    def sign(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The certificate with its signature."""
        plain = _plain(body)
        value = hmac.new(self._keys[self._first], plain, hashlib.sha256).hexdigest()
        return {**body, "signature": {"algorithm": ALGORITHM, "key": self._first, "value": value}}

    def verify(self, certificate: Mapping[str, Any]) -> bool:
        """Whether a certificate is as this installation signed it."""
        signature = certificate.get("signature")
        if not isinstance(signature, Mapping) or signature.get("algorithm") != ALGORITHM:
            return False
        key = self._keys.get(str(signature.get("key")))
        if key is None:
            return False
        body = {name: value for name, value in certificate.items() if name != "signature"}
        value = hmac.new(key, _plain(body), hashlib.sha256).hexdigest()
        return hmac.compare_digest(value, str(signature.get("value")))


def _plain(body: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(body, order="deterministic")


def _kid(secret: str) -> str:
    return hashlib.sha256(b"everlearn certificate kid " + secret.encode()).hexdigest()[:16]


def _key(secret: str) -> bytes:
    return hmac.new(secret.encode(), b"everlearn certificates of erasure", hashlib.sha256).digest()
