"""Passwords by argon2id, with what OWASP asks for at least: 19 MiB and two passes."""

from __future__ import annotations

from functools import cached_property
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MEMORY_KIB = 19_456
PASSES = 2
AT_ONCE = 2


class Argon2:
    """:class:`everlearn.access.ports.Hasher`. At most two hashes at once, so memory stays bounded.

    ``memory`` (KiB) and ``passes`` are for tests, which have no time.
    """

    def __init__(self, memory: int = MEMORY_KIB, passes: int = PASSES) -> None:
        self._memory = memory
        self._passes = passes
        self._turns = BoundedSemaphore(AT_ONCE)

    @cached_property
    def _hasher(self) -> PasswordHasher:
        from argon2 import PasswordHasher, Type

        return PasswordHasher(self._passes, self._memory, parallelism=1, type=Type.ID)

    @cached_property
    def _nobody(self) -> str:
        """A hash that no password has, to spend the same time on unknown users."""
        from everlearn.access.secrets import new_secret

        return self._hasher.hash(new_secret())

    def hash(self, password: str) -> str:
        """See the port."""
        with self._turns:
            return self._hasher.hash(password)

    def verify(self, hashed: str | None, password: str) -> bool:
        """See the port."""
        from argon2.exceptions import InvalidHashError, VerificationError

        with self._turns:
            try:
                same = self._hasher.verify(hashed or self._nobody, password)
            except (VerificationError, InvalidHashError, UnicodeError):
                return False
        return same and hashed is not None

    def outdated(self, hashed: str) -> bool:
        """See the port."""
        return self._hasher.check_needs_rehash(hashed)
