"""Access tokens: JWTs signed with HS256 and nothing else. The key is chosen by ``kid`` from our own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from everlearn.access.secrets import MIN_SIGNING
from everlearn.access.sessions import Claims
from everlearn.errors import InvalidError

ALGORITHM = "HS256"
ISSUER = "everlearn"
KIND = "at+jwt"
_MOST = 4096


def kid_of(secret: str) -> str:
    """The name of a signing secret: it tells nothing about it."""
    return hashlib.sha256(b"everlearn kid " + secret.encode()).hexdigest()[:16]


class Hs256:
    """:class:`everlearn.access.ports.Signer` over one or more secrets: the first signs, all verify.

    So a new secret is put in front, and the old one is taken away when its last token has expired.

    Raises:
        InvalidError: if there is none, or one is shorter than its hash.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets or min(map(len, secrets)) < MIN_SIGNING:
            raise InvalidError(f"Tokens need a signing secret of {MIN_SIGNING} characters or more")
        self._secrets = {kid_of(secret): secret for secret in secrets}
        self._first = kid_of(secrets[0])

    def sign(self, claims: Claims, now: float) -> str:
        """See the port."""
        import jwt

        body = {
            "iss": ISSUER, "aud": ISSUER, "sub": claims.user, "sid": claims.session,
            "iat": int(now), "exp": int(claims.expires),
        }  # fmt: skip
        headers = {"kid": self._first, "typ": KIND}
        return jwt.encode(body, self._secrets[self._first], algorithm=ALGORITHM, headers=headers)

    def verify(self, token: str, now: float) -> Claims | None:
        """See the port."""
        if len(token) > _MOST or not token.isascii():
            return None
        body = self._body(token)
        if body is None:
            return None
        user, session, expires = body["sub"], body["sid"], body["exp"]
        if not (isinstance(user, str) and isinstance(session, str) and type(expires) is int):
            return None
        return Claims(user, session, float(expires)) if expires > now else None

    def _body(self, token: str) -> dict[str, Any] | None:
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            kid = header.get("kid")
            secret = self._secrets.get(kid) if isinstance(kid, str) else None
            if secret is None or header.get("typ") != KIND or header.get("alg") != ALGORITHM:
                return None
            # Expiry is checked against the given time, not the library's clock.
            options: Any = {"require": ["exp", "iat", "sub", "sid"], "verify_exp": False, "verify_iat": False}
            body: dict[str, Any] = jwt.decode(
                token, secret, algorithms=[ALGORITHM], audience=ISSUER, issuer=ISSUER, options=options
            )
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        return body
