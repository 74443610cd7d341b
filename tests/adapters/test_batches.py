"""A batch in columns does to a log what its events would do one by one, in every store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everlearn.adapters.batches import LabelBatch, PredictionBatch
from everlearn.adapters.memory import MemoryStore
from everlearn.adapters.sql import SqlStore
from everlearn.errors import InvalidError

IDS = st.lists(st.sampled_from([f"i{n}" for n in range(8)]), min_size=1, max_size=6)
ROWS = st.dictionaries(
    st.sampled_from("xyz"), st.integers(0, 1) | st.text(max_size=2), min_size=1, max_size=2
)
VALUES = st.sampled_from([0, 1, True, 1.0, "yes"])


@st.composite
def predictions(draw: st.DrawFn) -> PredictionBatch:
    ids = draw(IDS)
    n = len(ids)
    texts = st.sampled_from(['"yes"', "1", "0.5", "null"])
    told = st.none() | st.just('{"yes":0.25,"no":0.75}')
    return PredictionBatch(
        ids=ids,
        times=draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)),
        versions=draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)),
        rows=draw(st.lists(ROWS, min_size=n, max_size=n)),
        value_texts=draw(st.lists(texts, min_size=n, max_size=n)),
        probability_texts=draw(st.lists(told, min_size=n, max_size=n)),
    )


@st.composite
def labels(draw: st.DrawFn) -> LabelBatch:
    ids = draw(IDS)
    n = len(ids)
    return LabelBatch(
        ids=ids,
        times=draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)),
        values=draw(st.lists(VALUES, min_size=n, max_size=n)),
        corrections=draw(st.lists(st.booleans(), min_size=n, max_size=n)),
        source=draw(st.sampled_from([None, "key:a", "user:ann"])),
    )


BATCHES = st.lists(predictions() | labels(), min_size=1, max_size=6)
names = count()


@pytest.fixture
def sql(tmp_path: Path, sqlite_template: Path) -> Iterator[SqlStore]:
    path = tmp_path / "everlearn.db"
    shutil.copy(sqlite_template, path)
    store = SqlStore(f"sqlite:///{path}", synchronous="NORMAL")
    yield store
    store.close()


@given(batches=BATCHES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_batch_is_its_events(sql: SqlStore, make: Any, batches: list[Any]) -> None:
    memory, name = MemoryStore(), f"m{next(names)}"
    for store in (sql, memory):
        store.models.create(make.spec(name), at=1.0)
    for batch in batches:
        assert sql.log.append(name, batch) == memory.log.append(name, list(batch))
    assert sql.log.read(name) == memory.log.read(name)
    assert sql.log.head(name) == memory.log.head(name)
    head = sql.log.head(name).seq
    assert sql.log.examples(name, upto=head) == memory.log.examples(name, upto=head)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_long_batch_of_new_events(store: Any, fresh: bool) -> None:
    n = 2500
    ids, times = [f"r{i}" for i in range(n)], [float(i) for i in range(n)]
    made = PredictionBatch(
        ids, times, [2] * n, [{"x": i} for i in range(n)], ['"a"'] * n, ['{"a":1.0}'] * n, fresh
    )
    assert [receipt.seq for receipt in store.log.append("m", made)] == list(range(2, n + 2))
    values = [(True, 1, 1.0, "1")[i % 4] for i in range(n)]
    told = store.log.append("m", LabelBatch(ids[::-1], times, values, [False] * n))
    assert {receipt.status for receipt in told} == {"accepted"}
    head = store.log.head("m")
    assert (head.rows, head.labels, head.parked, head.seq) == (n, n, 0, 2 * n + 1)
    found = store.log.examples("m", upto=head.seq)
    assert [(example.row, example.features) for example in found] == [(i + 1, {"x": i}) for i in range(n)]
    assert [(type(e.target), e.target) for e in found] == [(type(v), v) for v in values[::-1]]


def test_ids_and_times_that_cannot_be_stored(store: Any) -> None:
    for key, time in (("", 1.0), ("a\0", 1.0), ("a" * 500, 1.0), ("a", float("nan"))):
        with pytest.raises(InvalidError):
            store.log.append("m", LabelBatch(["fine", key], [1.0, time], ["a", "b"], [False] * 2))
    assert store.log.head("m").seq == 1


def test_a_batch_is_a_sequence() -> None:
    batch = LabelBatch(["a", "b"], [1.0, 2.0], ["x", "y"], [False, True])
    assert [event.key for event in batch] == ["a", "b"]
    assert batch[-1] == batch[1] == batch[1:][0]
    with pytest.raises(IndexError):
        batch[2]


def test_an_empty_batch_adds_nothing(store: Any) -> None:
    assert store.log.append("m", PredictionBatch([], [], [], [], [], [], fresh=True)) == []
    assert store.log.append("m", LabelBatch([], [], [], [])) == []
    assert store.log.head("m").seq == 1
