"""A process of its own that uses a store: ``python store_worker.py ROLE URL ARGUMENT...``."""

from __future__ import annotations

import os
import sys
import time

from everlearn.adapters.sql import SqlStore
from everlearn.types import EventKind, NewEvent, Step


def _pair(key: str) -> list[NewEvent]:
    body = {"features": {"x": 1.5}, "value": 1, "probabilities": {"0": 0.1, "1": 0.9}, "version": 0}
    label = NewEvent(EventKind.LABEL, 2.0, key, {"value": 1})
    return [NewEvent(EventKind.PREDICTION, 1.0, key, body), label]


def append(store: SqlStore, name: str, calls: str, size: str) -> None:
    """Append predictions and their labels; say each id once it is acknowledged."""
    for call in range(int(calls)):
        keys = [f"{name}-{call}-{i}" for i in range(int(size))]
        receipts = store.log.append("m", [event for key in keys for event in _pair(key)])
        if any(receipt.seq is None for receipt in receipts):
            raise AssertionError(receipts)
        print("\n".join(keys), flush=True)


def commit(store: SqlStore, until: str) -> None:
    """Commit steps until the cursor is there; say what each took in."""
    while (before := store.ledger.checkpoint("m")).cursor < int(until):
        events = store.log.read("m", before.cursor, 17)
        if not events:
            time.sleep(0.005)
            continue
        if store.ledger.commit("m", Step(before.cursor, events[-1].seq, b"s" * 1000)):
            print(before.cursor, events[-1].seq, flush=True)


def migrate(store: SqlStore) -> None:
    """Bring the schema up to date."""
    store.migrate()
    print(store.check())


def fork(store: SqlStore) -> None:
    """Use one store on both sides of a fork."""
    append(store, "before", "1", "1")
    child = os.fork()
    append(store, "child" if child == 0 else "parent", "20", "1")
    store.close()
    if child == 0:
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        raise AssertionError("the child failed")


ROLES = {role.__name__: role for role in (append, commit, migrate, fork)}

if __name__ == "__main__":
    used = SqlStore(sys.argv[2])
    ROLES[sys.argv[1]](used, *sys.argv[3:])
    used.close()
