"""Principals, needs, names and limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.access.audit import entry
from everlearn.access.limits import MOST_NAMES, Buckets, LockOut
from everlearn.access.names import one_line, user_name
from everlearn.access.needs import Need, On, met, permit
from everlearn.access.words import SCOPES_OF, Principal, Role, Scope, administrator
from everlearn.errors import ForbiddenError, InvalidError

SCOPES = st.frozensets(st.sampled_from(Scope))
PRINCIPALS = st.builds(
    Principal, st.just("p"), st.just("r"), SCOPES, st.dictionaries(st.sampled_from("ab"), SCOPES)
)


def test_who_is_given_nothing_may_do_nothing() -> None:
    nobody = Principal("p", "admin")
    assert not any(nobody.allows(scope, model) for scope in Scope for model in ("a", None))
    assert not any(nobody.allows_some(scope) for scope in Scope)


def test_roles_hold_each_other() -> None:
    assert SCOPES_OF[Role.VIEWER] < SCOPES_OF[Role.OPERATOR] < SCOPES_OF[Role.ADMIN]
    assert Scope.ADMIN not in SCOPES_OF[Role.OPERATOR]


@given(
    PRINCIPALS, st.sampled_from(Scope), st.sampled_from([*On, "a", "b"]), st.sampled_from(["a", "b", None])
)
def test_a_need_is_met_by_a_scope_that_was_given_for_it(
    who: Principal, scope: Scope, on: On | str, model: str | None
) -> None:
    """Against the rule written out: everywhere, or for the very model, or (some) for any."""
    wanted = {On.PATH: model, On.ALL: None, On.SOME: None}.get(on, on)  # type: ignore[call-overload]
    expected = scope in who.everywhere
    if on is On.PATH and model is None:
        expected = False
    elif on is On.SOME:
        expected |= any(scope in scopes for scopes in who.models.values())
    elif wanted is not None:
        expected |= scope in who.models.get(wanted, ())
    assert met(Need(scope, on), who, model) == expected


def test_a_denial_says_who_and_what() -> None:
    with pytest.raises(ForbiddenError, match="user:ann may not predict model 'shop'"):
        permit(Principal("user:ann", "viewer"), Scope.PREDICT, "shop")
    permit(administrator("key"), Scope.PREDICT, "shop")


@pytest.mark.parametrize(
    "name", ["", "a b", "ann\n", "ann\r\nX: y", "-ann", "änn", "a" * 101, "a/b", "ann\x00", "İ", "ﬀ"]
)
def test_names_that_are_not_plain_are_refused(name: str) -> None:
    with pytest.raises(InvalidError, match="name"):
        user_name(name)


@given(st.text())
def test_an_audit_entry_is_one_printable_line_whatever_was_sent(text: str) -> None:
    made = entry(1.0, text, text, text, 200, text, text)
    for field in (made.who, made.action, made.target, made.address, made.request_id):
        assert field.isprintable()
        assert len(field.splitlines()) <= 1
        assert len(field) <= 300
        field.encode()


def test_one_line_keeps_what_is_plain() -> None:
    assert one_line("/v1/models/schön ok") == "/v1/models/schön ok"
    assert one_line("a\x1b[2Jb\u2028c\ud800") == "a\\x1b[2Jb\\u2028c\\ud800"


@given(st.lists(st.floats(0, 2), max_size=80), st.integers(1, 5), st.floats(0.5, 5))
def test_a_bucket_lets_in_no_more_than_its_rate_and_burst(
    steps: list[float], burst: int, rate: float
) -> None:
    buckets, now, let_in = Buckets(rate, burst), 0.0, 0
    for step in steps:
        now += step
        let_in += buckets.take("ann", now).wait == 0.0
        assert let_in <= burst + now * rate + 1e-6


def test_a_bucket_says_how_long_to_wait() -> None:
    buckets = Buckets(rate=2.0, burst=1)
    assert buckets.take("ann", 0.0).wait == 0.0
    wait = buckets.take("ann", 0.0).wait
    assert wait == pytest.approx(0.5)
    assert buckets.take("ann", wait).wait == 0.0
    assert buckets.take("bob", 0.0).wait == 0.0


def test_a_clock_that_goes_back_locks_nobody_in() -> None:
    buckets = Buckets(rate=1.0, burst=2)
    buckets.take("ann", 1000.0)
    assert buckets.take("ann", 0.0).wait == 0.0


def test_memory_is_bounded_whoever_comes() -> None:
    buckets, lock = Buckets(1.0, 1), LockOut(5)
    for i in range(MOST_NAMES + 50):
        buckets.take(str(i), 0.0)
        lock.failed(str(i), 0.0)
    assert len(buckets._levels) == len(lock._failures) == MOST_NAMES


def test_lock_outs_grow_and_end() -> None:
    lock = LockOut(allowed=3, base=5.0, most=60.0)
    waits = []
    for _ in range(9):
        lock.failed("ann", 0.0)
        waits.append(lock.wait("ann", 0.0))
    assert waits == [0, 0, 5, 10, 20, 40, 60, 60, 60]
    lock.succeeded("ann")
    assert lock.wait("ann", 0.0) == 0.0
