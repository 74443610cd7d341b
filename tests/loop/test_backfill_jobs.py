"""A part of a backfill: what is planned, what it answers, and that doing it twice makes no difference."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from everlearn.adapters.bundles import encode_bundle
from everlearn.errors import ConflictError, IntegrityError, InvalidError, NotFoundError
from everlearn.loop.backfill_columns import Columns, bundle_of, columns_of, common_kind
from everlearn.loop.backfill_jobs import labels_at, work
from everlearn.loop.backfill_plan import MOST_PARTS, Stretch, check_version, plan, stretch_of
from everlearn.loop.backfill_report import gather, state_of
from everlearn.loop.training import silent
from everlearn.types import (
    Bundle,
    EventKind,
    Head,
    Job,
    JobState,
    NewEvent,
    Output,
    Prediction,
    Version,
    VersionState,
)

HEAD = Head(seq=1000, rows=400)


@pytest.fixture
def world(make_world: Any) -> Any:
    """A model of which version 1 has answered."""
    made = make_world()
    while not made.store.versions.champion("toy").version:
        made.stream(20)
    made.stream(60)
    return made


def jobs_of(world: Any, part_rows: int = 1000, number: int = 1, **stretch: Any) -> list[Any]:
    head = world.store.log.head("toy")
    version = world.store.versions.get("toy", number)
    given = {"after": 0, "upto": head.seq, **stretch}
    return plan(world.spec, version, Stretch(**given), head.seq, part_rows, "0123456789ab")


def done(world: Any, spec: Any, **parts: Any) -> dict[str, Any]:
    given = {
        "log": world.store.log, "versions": world.store.versions, "artifacts": world.store.artifacts,
        "erasures": world.store.erasures, "kept_from": 0, "now": world.clock.now, "progress": silent,
    }  # fmt: skip
    return work("toy", spec.arguments, **{**given, **parts})


def columns(world: Any, found: dict[str, Any]) -> Columns:
    return columns_of(world.store.artifacts.get(found["digest"]))


class TestStretch:
    def test_all_of_the_log_by_default(self) -> None:
        assert stretch_of(HEAD, 0, None, None, None, None) == Stretch(0, 1000)

    def test_what_was_dropped_is_left_out_and_said(self) -> None:
        found = stretch_of(HEAD, 301, None, None, None, None)
        assert (found.after, found.notes) == (300, ("the log up to position 300 was dropped",))
        assert stretch_of(HEAD, 301, 300, None, None, None).notes == ()

    @pytest.mark.parametrize(
        ("asked", "said"),
        [
            ((299, None, None, None), "after: the log up to position 300 was dropped: give 300 or more"),
            ((None, 300, None, None), "upto: no position lies after 300"),
            ((None, 1001, None, None), "upto: the log ends at position 1000: give 1000 or less"),
            ((1000, None, None, None), "after: no position lies after 1000"),
            ((None, None, 20.0, 10.0), "until: lies before since"),
        ],
    )
    def test_what_is_empty_or_not_there_is_refused(self, asked: Any, said: str) -> None:
        with pytest.raises(InvalidError, match=said) as refused:
            stretch_of(HEAD, 301, *asked)
        assert refused.value.faults[0].field == said.partition(":")[0]

    def test_a_log_without_predictions_has_nothing_to_answer(self) -> None:
        with pytest.raises(InvalidError, match="no predictions yet"):
            stretch_of(Head(seq=10), 0, None, None, None, None)

    def test_both_ends_of_the_time_belong_to_it(self) -> None:
        stretch = Stretch(0, 10, 5.0, 7.0)
        assert [stretch.has(at) for at in (4.9, 5.0, 7.0, 7.1)] == [False, True, True, False]


class TestPlan:
    def version(self, **changes: Any) -> Version:
        made = Version("toy", 3, 2, "linear", {}, 1, 200, 250, 100, "a" * 64, {}, 0.0)
        return replace(made, **changes)

    def planned(self, world: Any, part_rows: int = 300, **changes: Any) -> list[Any]:
        stretch = Stretch(**{"after": 300, "upto": 1000, **changes})
        return plan(world.spec, self.version(), stretch, 1000, part_rows, "0123456789ab")

    def test_the_parts_cover_the_stretch(self, world: Any) -> None:
        jobs = self.planned(world)
        assert [(job.arguments["after"], job.arguments["upto"]) for job in jobs] == [
            (300, 600), (600, 900), (900, 1000)
        ]  # fmt: skip
        assert {job.arguments["of"] for job in jobs} == {3}
        assert [job.id for job in jobs] == [f"toy-backfill-0123456789ab-{i}" for i in range(3)]

    def test_they_hold_positions_and_no_row(self, world: Any) -> None:
        asked = self.planned(world)[0].arguments
        kept = {
            "group",
            "of",
            "version",
            "known",
            "since",
            "until",
            "task",
            "metric",
            "learned_upto",
            "notes",
        }
        assert asked.keys() == {*kept, "name", "after", "upto"}

    def test_too_many_parts_name_the_fix(self, world: Any) -> None:
        assert len(self.planned(world, 1, after=0)) == MOST_PARTS
        with pytest.raises(InvalidError, match="1001 parts, and 1000 is the most: give 2 or more") as refused:
            self.planned(world, 1, after=0, upto=1001)
        assert refused.value.faults[0].field == "part_rows"

    def test_the_baseline_and_withdrawn_versions_are_refused(self) -> None:
        check_version(self.version())
        with pytest.raises(InvalidError, match="0 is the baseline"):
            check_version(self.version(number=0, digest=None))
        with pytest.raises(ConflictError, match="Version 3 was withdrawn"):
            check_version(self.version(state=VersionState.ERASED))

    def test_a_detector_is_refused_with_the_reason(self, world: Any) -> None:
        detector = SimpleNamespace(name="gate", task="detection", metric="frame_f1")
        with pytest.raises(InvalidError, match="gate finds objects in frames, whose images are not kept"):
            plan(detector, self.version(), Stretch(0, 10), 10, 5, "0123456789ab")  # type: ignore[arg-type]

    def test_it_says_where_the_scores_are_no_test(self, world: Any) -> None:
        assert self.planned(world)[0].arguments["notes"] == []
        (note,) = self.planned(world, after=200)[0].arguments["notes"]
        assert "may have learned rows up to position 250" in note

    def test_it_says_which_metric_stands_in(self, world: Any) -> None:
        spec = world.spec.model_copy(update={"metric": "auc"})
        (job,) = plan(spec, self.version(), Stretch(300, 400), 1000, 300, "0123456789ab")
        assert job.arguments["metric"] == "accuracy"
        assert job.arguments["notes"] == ["auc needs all rows at once: accuracy stands in for it"]


class TestWork:
    def test_a_part_done_twice_is_the_same(self, world: Any) -> None:
        for job in jobs_of(world, 70):
            first, again = done(world, job), done(world, job)
            assert again == first

    def test_late_labels_and_corrections_change_no_part(self, world: Any) -> None:
        jobs = jobs_of(world, 70)
        first = [done(world, job) for job in jobs]
        names = [name for job in first for name in columns(world, job).ids][-40:]
        known = world.store.log.find("toy", names)
        other = {"yes": "no", "no": "yes"}
        for name, (_, label) in known.items():
            value = other[label.value] if label else "yes"
            body = {"value": value, "correction": label is not None}
            world.store.log.append("toy", [NewEvent(EventKind.LABEL, 1.0, name, body)])
        assert world.store.log.find("toy", names) != known
        assert [done(world, job)["digest"] for job in jobs] == [one["digest"] for one in first]
        later = [done(world, job)["digest"] for job in jobs_of(world, 70)[: len(jobs)]]
        assert later != [one["digest"] for one in first]

    def test_every_prediction_is_answered_once_in_order(self, world: Any) -> None:
        found = [columns(world, done(world, job)) for job in jobs_of(world, 70)]
        events = world.store.log.read("toy", 0, 100_000)
        asked = [event for event in events if isinstance(event, Prediction)]
        assert [seq for part in found for seq in part.positions] == [one.seq for one in asked]
        assert [name for part in found for name in part.ids] == [one.id for one in asked]
        assert [value for part in found for value in part.served] == [one.output.value for one in asked]

    def test_a_stretch_without_predictions_is_an_empty_part(self, world: Any) -> None:
        (job,) = jobs_of(world, since=1e12)
        found = done(world, job)
        assert (found["rows"], found["first"], found["kinds"]) == (0, None, [])
        assert columns(world, found).ids == []

    def test_a_log_that_was_dropped_meanwhile_is_said(self, world: Any) -> None:
        (job,) = jobs_of(world)
        with pytest.raises(InvalidError, match="up to position 7 was dropped"):
            done(world, job, kept_from=8)
        done(world, jobs_of(world, after=7)[0], kept_from=8)

    def test_a_damaged_artifact_answers_nothing(self, world: Any) -> None:
        (job,) = jobs_of(world)
        artifacts, digest = world.store.artifacts, world.store.versions.get("toy", 1).digest
        artifacts._bundles[digest]["manifest.json"] += b" "
        before = len(list(artifacts.stored()))
        with pytest.raises(IntegrityError, match=digest):
            done(world, job)
        assert len(list(artifacts.stored())) == before

    def test_rows_that_are_erased_while_it_works_are_not_left(self, world: Any) -> None:
        (job,) = jobs_of(world)
        before = {one.digest for one in world.store.artifacts.stored()}

        class Erasures:
            def list(self, model: str) -> list[Any]:
                assert {one.digest for one in world.store.artifacts.stored()} > before
                return [SimpleNamespace(model=model, seq=job.arguments["known"] + 1)]

        with pytest.raises(InvalidError, match="Rows were erased since"):
            done(world, job, erasures=Erasures())
        assert {one.digest for one in world.store.artifacts.stored()} == before

    def test_progress_ends_at_one(self, world: Any) -> None:
        told: list[float] = []
        (job,) = jobs_of(world)
        done(world, job, progress=told.append)
        assert told
        assert told[-1] == 1.0


class TestLabels:
    def test_they_are_as_they_were_at_a_position(self, make_world: Any) -> None:
        log = make_world().store.log

        def label(name: str, value: str, correction: bool = False) -> int:
            body = {"value": value, "correction": correction}
            return int(log.append("toy", [NewEvent(EventKind.LABEL, 1.0, name, body)])[0].seq)

        def at(known: int) -> dict[str, Any]:
            events = log.read("toy", 0, 1000)
            return labels_at(log, "toy", [e for e in events if isinstance(e, Prediction)], known)

        label("parked", "yes")
        body = {"features": {"a": 1.0}, "value": None, "probabilities": None, "version": 0}
        asked = ("parked", "early", "never")
        log.append("toy", [NewEvent(EventKind.PREDICTION, 1.0, name, body) for name in asked])
        first = label("early", "yes")
        turned = label("early", "no", correction=True)
        again = label("early", "yes", correction=True)
        late = label("parked", "no", correction=True)
        assert at(first - 1) == {"parked": "yes"}
        assert at(first) == {"parked": "yes", "early": "yes"}
        assert at(turned) == {"parked": "yes", "early": "no"}
        assert at(again) == {"parked": "yes", "early": "yes"}
        assert at(late) == {"parked": "no", "early": "yes"}


class TestStored:
    def filled(self, **changes: Any) -> Columns:
        made = Columns()
        asked = Prediction(9, 12.25, "ä/1", 1, 3, {}, Output("no", {"yes": 0.1, "no": 0.9}))
        made.add(asked, Output("yes", {"yes": 0.1 + 0.2, "no": 0.7}), True)
        return replace(made, **changes)

    def test_what_is_read_is_what_was_stored(self) -> None:
        columns = self.filled(values=["yes"], labels=[None])
        assert columns_of(bundle_of(columns, {"model": "m"})) == columns

    def test_equal_columns_are_equal_bytes(self) -> None:
        one, other = (encode_bundle(bundle_of(self.filled(), {"model": "m"})) for _ in range(2))
        assert one == other
        assert encode_bundle(bundle_of(self.filled(), {"model": "n"})) != one

    def test_another_bundle_is_refused(self) -> None:
        for manifest in ({"format": 1}, {"kind": "backfill", "format": 2}, {"kind": "image"}):
            with pytest.raises(IntegrityError, match="no answers of a backfill"):
                columns_of(Bundle(manifest))

    def test_the_types_of_cells_are_told(self) -> None:
        assert self.filled().kinds() == ["bool", "str"]
        assert self.filled(served=[1], values=[2**70], labels=[None]).kinds() == ["int", "str"]
        assert common_kind(["int"], "regression") == "float"
        assert common_kind([], "classification") == "str"


class TestState:
    def job(self, state: JobState, result: dict[str, Any] | None = None) -> Job:
        spec = SimpleNamespace(kind="backfill", arguments={})
        return Job(spec, state, result=result)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("states", "said"),
        [
            ("queued queued", "queued"),
            ("queued done", "running"),
            ("running failed", "running"),
            ("done done", "done"),
            ("done cancelled", "cancelled"),
            ("dead cancelled", "failed"),
            ("done failed", "failed"),
        ],
    )
    def test_the_parts_make_the_whole(self, states: str, said: str) -> None:
        jobs = [self.job(JobState(state), {"digest": "a" * 64}) for state in states.split()]
        assert state_of(jobs) == said
        assert said == "done" or gather(jobs) is None

    def test_a_part_whose_answers_were_removed_is_erased(self) -> None:
        jobs = [self.job(JobState.DONE, {"digest": "a" * 64}), self.job(JobState.DONE, {})]
        assert state_of(jobs) == "erased"
        assert gather(jobs) is None


def test_an_unknown_version_is_not_found(world: Any) -> None:
    with pytest.raises(NotFoundError):
        jobs_of(world, number=99)
