"""Accounts over a store in memory, with a clock that is moved by hand and hashes that cost little."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from everlearn.access.accounts import Accounts
from everlearn.access.resolving import AccessTokens, KeyRing
from everlearn.access.users import User
from everlearn.access.words import Role
from everlearn.adapters.memory import ManualClock
from everlearn.adapters.memory_access import MemoryAccess
from everlearn.adapters.passwords import Argon2
from everlearn.adapters.tokens import Hs256

SECRET = "a-signing-secret-of-the-tests-0123456789"
PASSWORD = "correct horse battery"


@dataclass
class House:
    """All of access, in memory."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(1_700_000_000.0))
    store: MemoryAccess = field(default_factory=MemoryAccess)
    hasher: Argon2 = field(default_factory=lambda: Argon2(memory=64, passes=1))
    signer: Hs256 = field(default_factory=lambda: Hs256([SECRET]))

    def __post_init__(self) -> None:
        now = self.clock.now
        self.accounts = Accounts(self.store, self.hasher, self.signer, now)
        self.tokens = AccessTokens(self.store, self.signer, now)
        self.keys = KeyRing(self.store, now)

    def user(self, name: str = "ann", role: Role | None = Role.VIEWER) -> User:
        user = User(name, role, {"shop": Role.OPERATOR}, self.hasher.hash(PASSWORD))
        self.store.users.add(user)
        return user


@pytest.fixture
def house() -> House:
    return House()
