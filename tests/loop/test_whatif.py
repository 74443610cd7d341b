"""What-if: the same fold under other settings, shared work, and the policies it is measured by."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlearn.errors import InvalidError, SpecError
from everlearn.loop.defaults import with_defaults
from everlearn.loop.file_driver import FileDriver, Stream
from everlearn.loop.training import silent
from everlearn.loop.whatif import Played, WhatIf, what_if
from everlearn.loop.whatif_driver import Player
from everlearn.loop.whatif_library import Library
from everlearn.loop.whatif_record import Recording, of_log, of_stream
from everlearn.loop.whatif_settings import crossed, lean, parse_choice, references
from everlearn.loop.whatif_worth import course
from everlearn.spec import ModelSpec, parse_spec
from everlearn.types import EventKind, NewEvent

FAST = {"first_rows": 100, "min_labels": 60, "window": 150, "cooldown": 60}
GATE = {"holdout": 60, "min_rows": 30, "look_every": 20}
LOGISTIC = {"name": "window", "size": 300, "estimator": "logistic"}
RIDGE = {"name": "window", "size": 120, "estimator": "ridge"}


def make_spec(delay: int = 20, **changes: Any) -> ModelSpec:
    given: dict[str, Any] = {
        "name": "w", "target": "y", "features": {"a": "numeric", "b": "numeric"}, "learner": LOGISTIC,
        "label_horizon": {"rows": delay}, "policy": FAST, "gate": GATE,
        "publish_every": 200,
    }  # fmt: skip
    return with_defaults(parse_spec({**given, **changes}))


def make_stream(rows: int = 900, delay: int = 20, seed: int = 0) -> Stream:
    """A stream whose concept turns halfway, with a label missing now and then."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2))
    y = (x.sum(axis=1) > 0) != (np.arange(rows) >= rows // 2)
    features = [{"a": a, "b": b} for a, b in x.tolist()]
    targets = [None if i % 17 == 5 else "yes" if truth else "no" for i, truth in enumerate(y)]
    return Stream(features, targets, [float(i) for i in range(rows)], delay)


def played(spec: ModelSpec, recording: Recording, library: Library | None = None) -> Player:
    player = Player(spec, recording, library or Library())
    player.run(silent)
    return player


def told(decisions: Any) -> list[str]:
    """Decisions as text, but for what was timed."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if "second" not in k and "_ms" not in k}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return [
        json.dumps([d.number, d.seq, d.kind, d.reason, d.version, strip(dict(d.evidence))], default=str)
        for d in decisions
    ]


@pytest.fixture(scope="module")
def stream() -> Stream:
    return make_stream()


@pytest.fixture(scope="module")
def recording(stream: Stream) -> Recording:
    return of_stream(stream)


@pytest.fixture(scope="module")
def report(recording: Recording) -> WhatIf:
    """Two policies over the turning stream."""
    base = make_spec()
    return what_if(recording, base, crossed(base, [{"name": "threshold"}, {"name": "every", "every": 150}]))


# -- the same fold -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("learner", "delay"), [(LOGISTIC, 30), ("linear", 0), ("linear", 30), ("majority", 0)]
)
def test_it_decides_and_answers_as_a_replay_does(learner: Any, delay: int) -> None:
    stream, spec = make_stream(delay=delay), make_spec(delay, learner=learner)
    driver = FileDriver(spec, stream)
    driver.run(silent)
    player = played(spec, of_stream(stream))
    assert told(player.decisions) == told(driver.decisions)
    assert player.decision_rows == driver.decision_rows
    answers = [player.outputs[s.row - 1].value for s in driver.scored]
    assert answers == [s.value for s in driver.scored]


@pytest.mark.parametrize("learner", [LOGISTIC, "linear"])
def test_work_that_is_shared_changes_nothing(recording: Recording, learner: Any) -> None:
    base = make_spec(learner=learner)
    specs = [s.spec for s in crossed(base, [{"name": "threshold"}, {"name": "every", "every": 150}])]
    shared = Library()
    for spec in [*specs, *specs]:
        own, with_others = played(spec, recording), played(spec, recording, shared)
        assert told(own.decisions) == told(with_others.decisions)
        assert own.outputs == with_others.outputs
        assert own.labels_used == with_others.labels_used
    assert shared.reused > 0 or base.update == "stream"


def test_a_training_costs_the_same_whoever_made_it_first(recording: Recording) -> None:
    ticks = itertools.count()
    shared, spec = Library(lambda: float(next(ticks))), make_spec()
    first, second = played(spec, recording, shared), played(spec, recording, shared)
    assert first.compute_seconds == second.compute_seconds > 0
    assert min(shared.made, shared.reused) > 0


@pytest.mark.parametrize("learner", [LOGISTIC, "linear"])
def test_leaving_out_the_watch_on_features_changes_no_promotion(recording: Recording, learner: Any) -> None:
    spec = make_spec(learner=learner)
    assert not lean(spec).drift.features
    whole, quick = played(spec, recording), played(lean(spec), recording)
    assert whole.outputs == quick.outputs
    kinds = ("update", "promote", "rollback", "refuse")
    assert [d.kind for d in whole.decisions if d.kind in kinds] == [
        d.kind for d in quick.decisions if d.kind in kinds
    ]
    asking = make_spec(policy={**FAST, "on_unlabelled": "update"})
    assert lean(asking) is asking


def test_a_small_library_forgets_and_works_it_out_again(recording: Recording) -> None:
    spec, small = make_spec(), Library(most_outputs=300, most_trained=1)
    assert played(spec, recording, small).outputs == played(spec, recording).outputs
    assert played(spec, recording, small).outputs == played(spec, recording).outputs


# -- the table -----------------------------------------------------------------------------------------


def by_role(report: WhatIf, role: str) -> Played:
    (line,) = [line for line in report.lines if line.role == role]
    return line


def test_the_references_always_stand_beside(report: WhatIf) -> None:
    roles = [line.role for line in report.lines]
    assert roles == ["setting", "setting", "never", "cadence", "cusum", "always", "oracle"]
    assert by_role(report, "cadence").settings["best_of"] == "250, 500"
    assert by_role(report, "never").trained == 1
    assert by_role(report, "always").trained > by_role(report, "cadence").trained


def test_regret_is_the_cost_beyond_the_oracle(report: WhatIf) -> None:
    oracle, never = by_role(report, "oracle"), by_role(report, "never")
    assert oracle.regret == 0
    assert never.regret == pytest.approx(never.cost - oracle.cost)
    assert never.regret > 100  # the concept turned, and it stayed as it was
    for line in report.lines:
        assert line.cost == pytest.approx(line.loss + report.price * (line.trained - 1))


def test_updating_beats_never_when_the_world_turns(report: WhatIf) -> None:
    best, never = report.best, by_role(report, "never")
    assert best.accuracy is not None
    assert never.accuracy is not None
    assert best.accuracy > never.accuracy + 0.1
    assert never.labels_used is not None
    assert best.labels_used is not None
    assert never.labels_used < best.labels_used <= report.labels


def test_a_dear_update_is_not_worth_it(recording: Recording) -> None:
    base = make_spec(learner="majority")
    dear = what_if(recording, base, crossed(base, [{"name": "never"}]), price=10_000.0)
    assert by_role(dear, "oracle").trained == 1
    assert by_role(dear, "cadence").name == "every 500"


def test_each_learner_has_its_own_references(recording: Recording) -> None:
    base = make_spec()
    asked = crossed(base, [{"name": "never"}], [{"name": "majority"}, {"name": "persistence"}])
    assert [s.name for s in asked] == ["never + majority", "never + persistence"]
    report = what_if(recording, base, asked)
    assert [line.name for line in report.lines if line.role == "never"] == [
        "never + majority",
        "never + persistence",
    ]


def test_regression_is_measured_in_absolute_errors() -> None:
    stream = make_stream()
    numbers = [None if row is None else 3.0 * row["a"] for row in stream.rows]
    recording = of_stream(Stream(stream.rows, numbers, stream.at, 20))
    base = make_spec(task="regression", learner=RIDGE, metric="mae", threshold=0.5)
    report = what_if(recording, base, crossed(base, [{"name": "never"}]))
    line = report.best
    assert line.accuracy is None
    assert line.mean_loss == pytest.approx(line.loss / report.labels, rel=0.06)
    assert line.metric == pytest.approx(line.mean_loss)
    assert by_role(report, "oracle").cost <= line.cost


def test_what_is_known_is_not_worked_out_again(recording: Recording) -> None:
    class Kept(dict[str, Any]):
        def put(self, key: str, value: Any) -> None:
            self[key] = json.loads(json.dumps(dict(value)))

    base, kept = make_spec(learner="majority"), Kept()
    first = what_if(recording, base, crossed(base, [{"name": "never"}]), cache=kept)
    again = what_if(recording, base, crossed(base, [{"name": "never"}]), cache=kept)
    assert [line.cached for line in first.lines] == [False] * len(first.lines)
    assert [line.cached for line in again.lines] == [True] * len(again.lines)
    assert [(x.name, x.loss, x.cost, x.course) for x in again.lines] == [
        (x.name, x.loss, x.cost, x.course) for x in first.lines
    ]
    other = of_stream(make_stream(seed=1))
    assert not what_if(other, base, crossed(base, [{"name": "never"}]), cache=kept).lines[0].cached


def test_progress_rises_to_one(recording: Recording) -> None:
    seen: list[float] = []
    base = make_spec(learner="majority")
    what_if(recording, base, crossed(base), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


# -- what is asked for ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("never", {"name": "never"}),
        ("every:every=500,cooldown=0", {"name": "every", "every": 500, "cooldown": 0}),
        ("every:every=1d", {"name": "every", "every": "1d"}),
        ('any_of:any_of=["threshold","on_drift"],cooldown=9',
         {"name": "any_of", "any_of": ["threshold", "on_drift"], "cooldown": 9}),
        ('{"name": "never"}', {"name": "never"}),
    ],
)  # fmt: skip
def test_a_choice_is_a_name_with_its_parameters(text: str, choice: dict[str, Any]) -> None:
    assert parse_choice(text, "--policy") == choice


@pytest.mark.parametrize("text", ["", ":x=1", "every:500", "{", '{"name"}'])
def test_a_choice_that_cannot_be_read_names_its_option(text: str) -> None:
    with pytest.raises(InvalidError, match="--policy"):
        parse_choice(text, "--policy")


def test_all_combinations_are_played_and_keep_what_is_not_said() -> None:
    base = make_spec()
    made = crossed(
        base, [{"name": "never"}, {"name": "every", "every": 99}], [], [{"name": "open"}, {"alpha": 0.1}]
    )
    assert [s.name for s in made] == [
        "never + open",
        "never + alpha 0.1",
        "every (every 99) + open",
        "every (every 99) + alpha 0.1",
    ]
    assert {s.spec.policy.cooldown for s in made} == {60}
    assert made[1].spec.gate.name == "proof"


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SpecError, match="policy"):
        crossed(make_spec(), [{"name": "sometimes"}])


def test_a_stream_learner_learns_from_every_label_under_always() -> None:
    base = make_spec(learner="linear")
    found = {s.role: s.spec.update for s in references(base, 1000)}
    assert found == {"never": "triggered", "cadence": "triggered", "cusum": "triggered", "always": "stream"}


# -- recordings ----------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    labelled=st.lists(st.booleans(), min_size=1, max_size=40),
    delay=st.integers(0, 50),
    by_time=st.booleans(),
)
def test_every_label_comes_once_and_never_before_its_time(
    labelled: list[bool], delay: int, by_time: bool
) -> None:
    rows, targets = [{"a": 1.0}] * len(labelled), ["x" if known else None for known in labelled]
    at = [float(i) for i in range(len(rows))]
    stream = Stream(rows, targets, at, 0, float(delay)) if by_time else Stream(rows, targets, at, delay)
    recording = of_stream(stream)
    answered, seen = -1, []
    for step in recording.steps:
        if step >= 0:
            assert step == answered + 1
            answered = step
        else:
            row = recording.arrivals[-1 - step].row
            assert answered >= min(row + delay, len(rows) - 1) - by_time
            seen.append(row)
    assert seen == [i for i, known in enumerate(labelled) if known]
    assert recording.ordered


def test_a_live_record_keeps_the_order_in_which_labels_came(make_world: Callable[..., Any]) -> None:
    world = make_world()
    world.stream(60)
    world.command("freeze")
    world.store.log.append(
        world.name,
        [
            NewEvent(EventKind.LABEL, 1.0, "late", {"value": "no"}),
            NewEvent(EventKind.PREDICTION, 1.0, "late", {"features": world.row(), "value": "yes",
                                                       "probabilities": None, "version": 0}),
            NewEvent(EventKind.LABEL, 2.0, "late", {"value": "yes", "correction": True}),
            NewEvent(EventKind.EXAMPLE, 3.0, None, {"features": world.row(), "target": "no"}),
        ],
    )  # fmt: skip
    world.settle()
    recording, spec = of_log(world.events())
    assert spec.name == world.name
    assert len(recording.rows) == 61
    assert recording.truths[-1] == "yes"
    newest = [recording.arrivals[-1 - step] for step in recording.steps[-3:]]
    assert [(a.row, a.value, a.correction) for a in newest] == [
        (60, "no", False), (60, "yes", True), (-1, "no", False),
    ]  # fmt: skip
    assert not recording.ordered
    assert "1 commands of operators are left out" in recording.notes[0]
    player = played(spec, recording)
    assert len(player.outputs) == 61


def test_the_record_stands_beside_as_it_was_served(drifted: Any) -> None:
    recording, spec = of_log(drifted.events())
    report = what_if(recording, spec, crossed(spec, [{"name": "never"}], [{"name": "majority"}]))
    served = by_role(report, "recorded")
    kinds = drifted.kinds()
    assert served.updates == kinds.count("promote") + kinds.count("rollback")
    right = [o.value == t for o, t in zip(recording.served or (), recording.truths, strict=True) if t]
    assert served.accuracy == pytest.approx(sum(right) / len(right))
    assert served.regret is None  # no setting has its learner, so no oracle is found for it


def test_the_settings_in_force_played_again_decide_much_as_they_did(drifted: Any) -> None:
    recording, spec = of_log(drifted.events())
    player = played(spec, recording)
    first = next(d for d in drifted.decisions() if d.kind == "promote")
    again = next(d for d in player.decisions if d.kind == "promote")
    assert again.version == first.version
    assert abs(again.seq - first.seq) <= 40  # live, a job sees what came while the loop was at rest


def test_an_empty_log_has_nothing_to_play(make_world: Callable[..., Any]) -> None:
    with pytest.raises(InvalidError, match="no predictions"):
        of_log(make_world().events())


def test_a_course_leaves_gaps_where_no_label_came() -> None:
    losses = np.array([np.nan] * 100 + [0.0] * 50 + [1.0] * 50)
    points = course(losses, "classification", 4)
    assert points == [None, None, 1.0, 0.0]
