"""Numbers, times and foreign text as people read them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlearn.dashboard.words import ORDER, STATES, number, plain, power, state_of
from everlearn.types import ROUTES


def test_every_state_has_a_word_a_shape_and_a_place_in_the_order() -> None:
    assert set(ORDER) == set(STATES)
    assert len({state.word for state in STATES.values()}) == len(STATES)
    assert len({(state.tone, state.shape) for state in STATES.values()}) == len(STATES)


def test_every_kind_of_job_is_named_in_words() -> None:
    jobs = pytest.importorskip("everlearn.dashboard.panels.jobs", exc_type=ImportError)
    assert set(jobs.KINDS) == set(ROUTES)


def test_a_state_that_is_not_known_is_shown_as_it_is() -> None:
    assert state_of("hibernating").word == "Hibernating"


@given(st.text())
def test_foreign_text_keeps_no_mark_of_markdown(text: str) -> None:
    unescaped = re.sub(r"\\.", "", plain(text))
    assert not set(unescaped) & set("`*_{}[]()#<>~:$&|!")


@given(st.one_of(st.none(), st.floats(), st.integers(), st.booleans(), st.text()))
def test_any_value_has_a_text(value: object) -> None:
    assert number(value)
    assert power(value)
