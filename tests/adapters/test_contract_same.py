"""Whatever arrives, memory and SQL say the same: memory is the model of the SQL store."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everlearn.adapters.memory import MemoryStore
from everlearn.adapters.sql import SqlStore
from everlearn.types import EventKind, NewEvent

IDS = st.sampled_from(["a", "b", "c", "ü"])
VALUES = st.sampled_from([0, 1, "yes", None, 0.1, True])
CELLS = st.none() | st.floats() | st.integers(-(2**60), 2**60) | st.booleans() | st.text(max_size=3)
TIMES = st.floats(0, 2e9)


def _event(kind: EventKind, key: Any, body: Any) -> st.SearchStrategy[NewEvent]:
    return st.builds(NewEvent, st.just(kind), TIMES, key, body)


PREDICTIONS = _event(
    EventKind.PREDICTION,
    IDS,
    st.fixed_dictionaries(
        {
            "features": st.just({"x": 1.0}) | st.dictionaries(st.sampled_from("xyz"), CELLS),
            "value": VALUES,
            "probabilities": st.none() | st.dictionaries(st.text(max_size=2), st.floats(0, 1), max_size=2),
            "version": st.integers(0, 3),
        }
    ),
)
SOURCES = {"source": st.sampled_from(["key:a", "key:b", None])}
LABELS = _event(
    EventKind.LABEL,
    IDS,
    st.fixed_dictionaries({"value": VALUES, "correction": st.booleans()}, optional=SOURCES),
)
EXAMPLES = _event(
    EventKind.EXAMPLE,
    st.none() | IDS,
    st.fixed_dictionaries(
        {"features": st.dictionaries(st.just("x"), CELLS), "target": VALUES}, optional=SOURCES
    ),
)
COMMANDS = _event(
    EventKind.COMMAND,
    st.none() | IDS,
    st.fixed_dictionaries({"name": st.just("retrain"), "arguments": st.dictionaries(IDS, VALUES)}),
)
TICKS = _event(EventKind.TICK, st.none() | IDS, st.just({}))
BATCHES = st.lists(
    st.lists(st.one_of(PREDICTIONS, LABELS, LABELS, EXAMPLES, COMMANDS, TICKS), max_size=8), max_size=6
)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def stores(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[MemoryStore, SqlStore]]:
    url = f"sqlite:///{tmp_path_factory.mktemp('same') / 'everlearn.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    sql = SqlStore(url, synchronous="NORMAL")
    sql.migrate()
    yield MemoryStore(), sql
    sql.close()


NAMES = count()


@pytest.mark.slow
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(batches=BATCHES, points=st.lists(st.integers(0, 50), min_size=3, max_size=3))
def test_the_same_events_make_the_same_log(
    stores: tuple[MemoryStore, SqlStore], make: Any, batches: list[list[NewEvent]], points: list[int]
) -> None:
    name = f"same-{next(NAMES)}"
    answers = [list(_answers(store, make.spec(name), batches, points)) for store in stores]
    assert answers[0] == answers[1]


def _answers(store: Any, spec: Any, batches: list[list[NewEvent]], points: list[int]) -> Iterator[str]:
    """All that can be asked of a log, in words: ``repr`` tells ``1`` from ``True`` and from ``1.0``."""
    store.models.create(spec, at=0.0)
    log, name = store.log, spec.name
    for batch in batches:
        yield repr(log.append(name, batch))
        yield repr(log.head(name))
    after, limit, row = points
    yield repr(log.read(name))
    yield repr(log.read(name, after, limit))
    yield repr(log.find(name, ["a", "nobody", "ü", "b", "c"]))
    for upto in range(log.head(name).seq + 1):
        yield repr(log.examples(name, upto=upto))
        yield repr(log.examples(name, upto=upto, after=after % (upto + 1)))
        yield repr(log.examples(name, upto=upto, after=after % 3, newest=limit % 5))
        yield repr(log.examples(name, upto=upto, newest=limit % 5, without={"key:a": after % 9, "key:b": 5}))
        yield repr(log.pending(name, after_row=row % 4, upto=upto))
