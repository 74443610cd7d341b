"""Checks of what a learner keeps and depends on; see :mod:`everlearn.learners.checks`."""

from __future__ import annotations

import builtins
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners.checks_case import Case, alike
from everlearn.learners.contract import Learner, State
from everlearn.learners.states import held, need, same, size, spoil, stored


def _says_what_it_is(case: Case) -> None:
    learner = case.new()
    need(isinstance(learner, Learner), "it lacks a member of the contract (everlearn.learners.Learner)")
    need(isinstance(learner.name, str) and bool(learner.name), f"its name is {learner.name!r}")
    need(learner.prefers in ("stream", "triggered"), f"it prefers {learner.prefers!r}")
    need(type(learner.incremental) is bool, f"incremental is {learner.incremental!r}")
    wants = learner.wants
    need(wants is None or (type(wants) is int and wants > 0), f"it wants {wants!r} rows")


def _state_survives_storage(case: Case) -> None:
    X, y = case.stream()
    learner, other = case.taught(X, y), case.new()
    state = learner.state()
    other.restore(stored(state))
    need(same(other.state(), state), "a restored learner has another state")
    need(other.classes == learner.classes, "a restored learner has other classes")
    need(same(other.predict(X), learner.predict(X)), "a restored learner answers otherwise")
    used = case.taught(X[::-1].copy(), y[::-1])
    used.predict(X)
    used.restore(stored(state))
    need(alike(used, learner, X), "restore leaves something of what was learned before it")


def _learns_on_after_storage(case: Case) -> None:
    X, y = case.stream(240)
    learner, other, used = case.taught(X[:150], y[:150]), case.new(), case.taught(X[150:], y[150:])
    for restored in (other, used):
        restored.restore(stored(learner.state()))
    for part in (slice(150, 170), slice(170, 240)):
        learner.learn(X[part], y[part])
        for restored in (other, used):
            try:
                restored.learn(X[part], y[part])
            except InvalidError:
                need(
                    not other.incremental, "a restored learner refuses to learn on, though it is incremental"
                )
                return
            need(alike(restored, learner, X), "a restored learner learns on otherwise than the original")


def _refuses_a_damaged_state(case: Case) -> None:
    X, y = case.stream(60)
    whole, learner = case.taught(X, y).state(), case.taught(X[:30], y[:30])
    before = learner.state()
    for what, damaged in _damaged(whole):
        try:
            learner.restore(damaged)
        except IntegrityError:
            need(same(before, learner.state()), f"a state {what}: part of it was taken over all the same")
            continue
        raise AssertionError(f"restore takes a state {what}")


def _damaged(state: State) -> Iterator[tuple[str, Any]]:
    yield "that is empty", {}
    yield "with nothing but its width", {"width": 4}
    yield "in which all is text", dict.fromkeys(state, "?")
    for key, value in state.items():
        yield f"without {key}", {name: stored(part) for name, part in state.items() if name != key}
        if isinstance(value, np.ndarray):
            spoiled = stored(state)
            spoiled[key] = np.stack([value, value])
            yield f"whose {key} has another shape", spoiled


def _learns_a_batch_as_its_rows(case: Case) -> None:
    X, y = case.stream()
    whole = case.taught(X, y)
    for step in (1, 17):
        parts = case.new()
        for start in range(0, len(X), step):
            parts.learn(X[start : start + step], y[start : start + step])
        need(
            alike(whole, parts, X),
            f"learning a batch differs from learning it {step} rows at a time",
        )

    X, y = case.stream(1500)
    whole, parts = case.taught(X, y), case.new()
    for start in range(0, len(X), 250):
        parts.learn(X[start : start + 250], y[start : start + 250])
    need(alike(whole, parts, X[:50]), "learning a large batch differs from learning it 250 rows at a time")


def _predict_changes_nothing(case: Case) -> None:
    X, y = case.stream()
    asked, quiet = case.new(), case.new()
    remembers = getattr(asked, "remembers", False)  # it says that it judges itself by what it was asked
    for start in range(0, len(X), 40):
        part = slice(start, start + 40)
        before = asked.state()
        first = asked.predict(X)
        need(same(first, asked.predict(X)), "predict gives other answers when it is asked again")
        need(same(before, asked.state()), "predict changes the state")
        asked.learn(X[part], y[part])
        quiet.learn(X[part], y[part])
    need(
        remembers or alike(quiet, asked, X),
        "a learner that was asked learns otherwise than one that was not",
    )


def _gives_away_nothing_of_its_own(case: Case) -> None:
    X, y = case.stream()
    learner, expected = case.taught(X, y), case.taught(X, y)
    young = case.taught(X[:60], y[:60])
    for one in (young, learner):
        answer = one.predict(X)
        kept = answer.copy()
        if one is young:
            young.learn(X[60:], y[60:])
        one.predict(X[::-1].copy())
        need(same(answer, kept), "predict writes into an answer that it gave before")
    answer[...] = 0.5
    need(same(learner.predict(X), kept), "predict gives away the learner's own array")
    page = X[::-1].copy()
    learner.predict(page)
    page[:] = X
    need(same(learner.predict(page), kept), "predict takes an array for the one that it held before")
    given = learner.state()
    spoil(given)
    need(alike(learner, expected, X), "state() gives away the learner's own arrays")
    given, other = stored(expected.state()), case.new()
    other.restore(given)
    spoil(given)
    need(alike(other, expected, X), "restore keeps the state's own arrays")
    if getattr(learner, "remembers", False):
        return  # these were not asked the same
    for one in (learner, other, expected):
        try:
            one.learn(X, y)
        except InvalidError:
            need(not one.incremental, "a restored learner refuses to learn on, though it is incremental")
            return
    need(alike(learner, expected, X), "state() gives away the learner's own arrays")
    need(alike(other, expected, X), "restore keeps the state's own arrays")


def _shares_nothing_with_another(case: Case) -> None:
    X, y = case.stream()
    first = case.taught(X, y)
    state, answers, classes = first.state(), first.predict(X), first.classes
    second = case.new()
    need(second.classes == [], "a new learner knows the classes of one that was taught")
    second.learn(X[:60, ::-1].copy(), y[60:])
    unchanged = same(first.state(), state) and same(first.predict(X), answers) and first.classes == classes
    need(unchanged, "teaching one learner changes another")


def _same_seed_same_learner(case: Case) -> None:
    X, y = case.stream()
    before = _surroundings()
    first = case.taught(X, y)
    first.predict(X)
    need(before[0] == _surroundings()[0], "the global random generator was used")
    need(before[1] == _surroundings()[1], "a setting of numpy was changed")
    np.random.seed(3)
    try:
        with _another_day():
            second = case.taught(X, y)
            need(alike(second, first, X), "two learners with the same seed differ")
    finally:
        np.random.seed(None)


def _surroundings() -> tuple[str, str]:
    return repr((np.random.get_state(legacy=False), random.getstate())), repr(np.geterr())


@contextmanager
def _another_day() -> Iterator[None]:
    """The clock of the machine shows another time."""
    clocks = {name: getattr(time, name) for name in ("time", "time_ns")}
    time.time = lambda: clocks["time"]() + 1e7
    time.time_ns = lambda: clocks["time_ns"]() + 10**16
    try:
        yield
    finally:
        for name, clock in clocks.items():
            setattr(time, name, clock)


def _is_the_same_in_every_process(case: Case) -> None:
    """``hash()`` of text differs from process to process: nothing may be decided by it."""
    X, y = case.stream()
    labels = [f"class {value}" for value in np.array(y).tolist()] if case.task == "classification" else y
    plain, hashed = builtins.hash, []

    def watched(value: Any) -> int:
        if isinstance(value, str | bytes) and str(value).startswith("class "):
            hashed.append(value)
        return plain(value)

    builtins.hash = watched
    try:
        learner = case.taught(X, labels)
        learner.predict(X)
        case.new().restore(stored(learner.state()))
    finally:
        builtins.hash = plain
    need(not hashed, f"it uses hash({hashed[:1]}), which differs from process to process")


def _memory_is_bounded(case: Case) -> None:
    X, y = case.stream(9000)
    X[:, 3] = np.arange(9000)  # ever new categories
    learner = case.new()
    learner.learn(X[:1200], y[:1200])
    if getattr(learner, "remembers", False):
        learner.predict(case.noise(10_000, seed=3)[0])  # more than it should remember
    learner.predict(X[:1200])
    warm, warm_held = size(learner.state()), held(learner)
    for start in range(1200, 9000, 2600):
        part = slice(start, start + 2600)
        learner.predict(X[part])
        learner.learn(X[part], y[part])
    learner.predict(X[:1200])
    grown, grown_held = size(learner.state()), held(learner)
    rows = "from row 1200 to 9000"
    need(grown <= 1.3 * warm + 4096, f"the state grows from {warm} to {grown} bytes {rows}")
    # What is not in the state has no reason to grow; the room for what is may be twice as large as it.
    most = warm_held + 2 * max(grown - warm, 0) + 0.1 * warm_held + 16384
    need(grown_held <= most, f"what it holds grows from {warm_held} to {grown_held} bytes {rows}")


BOTH = (
    _says_what_it_is,
    _learns_a_batch_as_its_rows,
    _predict_changes_nothing,
    _state_survives_storage,
    _learns_on_after_storage,
    _refuses_a_damaged_state,
    _gives_away_nothing_of_its_own,
    _shares_nothing_with_another,
    _same_seed_same_learner,
    _is_the_same_in_every_process,
    _memory_is_bounded,
)
