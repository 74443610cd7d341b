"""The contract of learners as a test generator, for the built-in ones and other people's.

::

    @pytest.mark.parametrize("name, check", check_learner(partial(build, "linear")))
    def test_keeps_the_contract(name, check):
        check()

Each check builds learners of its own and raises AssertionError with what was broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from everlearn.learners import checks_answers as answers
from everlearn.learners import checks_forget as forget
from everlearn.learners import checks_input as input_
from everlearn.learners import checks_state as state
from everlearn.learners.checks_case import Case, Make
from everlearn.types import Task

__all__ = ["Check", "Make", "check_learner"]

Check = Callable[[], None]


def check_learner(
    make: Make,
    *,
    tasks: Sequence[Task] = ("classification", "regression"),
    baseline: bool | None = None,
) -> Iterator[tuple[str, Check]]:
    """Every check of the contract as ``(name, callable)``, for each task the learner claims.

    ``make(**parameters)`` must build a learner whose memory is full within 1,200 rows, so that its
    bound can be seen (give a window a small size). A ``baseline`` need not learn from the rows: by default
    one is a learner that has an attribute ``baseline`` which is true, or one of the built-in ones. A learner
    with an attribute ``remembers`` which is true may learn otherwise for having been asked.
    """
    for task in tasks:
        case = Case(make, task, baseline)
        for check in _BOTH + (_CLASSIFICATION if task == "classification" else _REGRESSION):
            yield f"{task}: {check.__name__.removeprefix('_').replace('_', ' ')}", _bind(check, case)


def _bind(check: Callable[[Case], None], case: Case) -> Check:
    def run() -> None:
        try:
            check(case)
        except AssertionError:
            raise
        except Exception as error:
            what = check.__name__.removeprefix("_").replace("_", " ")
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error

    return run


_BOTH: tuple[Callable[[Case], None], ...] = (*state.BOTH, *answers.BOTH, *input_.BOTH, *forget.BOTH)
_CLASSIFICATION: tuple[Callable[[Case], None], ...] = (*answers.CLASSIFICATION, *input_.CLASSIFICATION)
_REGRESSION: tuple[Callable[[Case], None], ...] = input_.REGRESSION
