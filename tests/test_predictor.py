from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everlearn import learners
from everlearn.adapters.artifacts import FolderArtifacts
from everlearn.adapters.bundles import decode_bundle, digest_of, encode_bundle
from everlearn.errors import EverlearnError, IntegrityError, InvalidError, SpecError
from everlearn.predictor import MAX_ANCHORS, Baseline, Predictor, _Packed, class_key, unpack
from everlearn.spec import parse_spec
from everlearn.types import Bundle, Output

FEATURES = {"x": "numeric", "z": "numeric", "on": "boolean", "colour": "categorical", "when": "timestamp"}
LEARNERS: dict[str, Any] = {
    "majority": "majority",
    "persistence": "persistence",
    "linear": "linear",
    "window": {"name": "window", "size": 150, "estimator_parameters": {"max_iter": 10}},
}
TASKS = pytest.mark.parametrize("task", ["classification", "regression"])


def make_spec(learner: Any = "majority", **fields: Any) -> Any:
    return parse_spec({"name": "m", "target": "y", "features": FEATURES, "learner": learner, **fields})


def make_rows(n: int, seed: int = 0) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    rows = [
        {
            "x": float(random.normal()),
            "z": int(random.integers(5)),
            "on": bool(random.integers(2)),
            "colour": str(random.choice(["red", "green", "blue"])),
            "when": float(random.uniform(1.6e9, 1.7e9)),
        }
        for _ in range(n)
    ]
    for row in rows[::7]:
        del row["z"]
    return rows


def make_targets(rows: list[dict[str, Any]], task: str) -> list[Any]:
    if task == "regression":
        return [3.0 * row["x"] + (row["colour"] == "red") for row in rows]
    return [("up" if row["x"] > 0 else "down") if row["on"] else row["colour"] for row in rows]


def trained(learner: str, task: str) -> tuple[Predictor, list[dict[str, Any]]]:
    predictor = Predictor.new(make_spec(LEARNERS[learner], task=task))
    rows = make_rows(200)
    predictor.learn(rows, make_targets(rows, task))
    return predictor, make_rows(30, seed=1)


@TASKS
@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_a_version_is_exactly_its_artifact(learner: str, task: str, tmp_path: Path) -> None:
    predictor, rows = trained(learner, task)
    answers = predictor.predict(rows)
    artifacts = FolderArtifacts(tmp_path)
    digest = artifacts.put(predictor.bundle(rows))

    loaded = Predictor.from_bundle(artifacts.get(digest))
    loaded.self_test()
    assert len(loaded.anchors) == MAX_ANCHORS
    assert loaded.predict(rows) == answers
    assert artifacts.put(loaded.bundle(rows)) == digest, "what was loaded is what was stored"

    more = make_rows(60, seed=2)
    for each in (predictor, loaded):
        each.learn(more, make_targets(more, task))
    assert loaded.predict(rows) == predictor.predict(rows), "and it goes on learning as the other does"


@TASKS
@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_outputs(learner: str, task: str) -> None:
    predictor, rows = trained(learner, task)
    for output in predictor.predict(rows):
        if task == "regression":
            assert isinstance(output.value, float)
            assert output.probabilities is None
        else:
            assert output.probabilities is not None
            assert sum(output.probabilities.values()) == pytest.approx(1)
            assert output.value == max(output.probabilities, key=lambda key: output.probabilities[key])


@TASKS
@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_a_copy_is_a_twin_that_learns_on_its_own(learner: str, task: str) -> None:
    predictor, rows = trained(learner, task)
    before = predictor.predict(rows)
    twin = predictor.copy()
    assert twin.predict(rows) == before
    more = [{**row, "colour": "violet"} for row in make_rows(80, seed=3)]
    twin.learn(more, make_targets(more, task))
    assert predictor.predict(rows) == before
    assert twin.predict(rows) != before


@TASKS
@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_while_nothing_is_known_the_value_is_none(learner: str, task: str) -> None:
    predictor = Predictor.new(make_spec(LEARNERS[learner], task=task))
    expected = Output(None, None if task == "regression" else {})
    assert predictor.predict(make_rows(2)) == [expected, expected]
    loaded = Predictor.from_bundle(predictor.bundle(make_rows(2)))
    loaded.self_test()
    assert loaded.predict(make_rows(1)) == [expected]


@pytest.mark.parametrize(
    ("labels", "keys"),
    [([True, False], ["true", "false"]), ([3, 7], ["3", "7"]), (["a", "b"], ["a", "b"])],
)
def test_values_keep_the_type_of_labels_and_keys_are_text(labels: list[Any], keys: list[str]) -> None:
    predictor = Predictor.new(make_spec())
    predictor.learn(make_rows(3), [labels[0], labels[0], labels[1]])
    loaded = Predictor.from_bundle(decode_bundle(encode_bundle(predictor.bundle())))
    (output,) = loaded.predict(make_rows(1))
    assert output.value is labels[0] or output.value == labels[0]
    assert type(output.value) is type(labels[0])
    assert list(output.probabilities or {}) == keys
    assert [class_key(label) for label in labels] == keys


def test_classes_of_one_key_are_one_class() -> None:
    predictor = Predictor.new(make_spec())
    predictor.learn(make_rows(5), ["1", 1, 1, "2", "2"])
    (output,) = predictor.predict(make_rows(1))
    assert output.value == "1"
    assert output.probabilities == pytest.approx({"1": 0.6, "2": 0.4})


def test_the_order_of_keys_and_of_features_does_not_matter() -> None:
    rows = make_rows(200)
    targets = make_targets(rows, "classification")
    there, back = (
        Predictor.new(make_spec("linear", features=features))
        for features in (FEATURES, dict(reversed(FEATURES.items())))
    )
    there.learn(rows, targets)
    back.learn([dict(reversed(row.items())) for row in rows], targets)
    assert there.predict(rows) == back.predict(rows)


def test_learning_and_predicting_nothing() -> None:
    predictor = Predictor.new(make_spec("linear"))
    predictor.learn([], [])
    assert predictor.predict([]) == []
    with pytest.raises(InvalidError, match="2 values for 1 rows"):
        predictor.learn([{"x": 1}], ["a", "b"])


def test_learner_parameters_are_those_of_the_spec() -> None:
    with pytest.raises(InvalidError, match="sise"):
        Predictor.new(make_spec({"name": "window", "sise": 3}))
    for name in ("task", "categorical"):
        with pytest.raises(SpecError, match=f"learner.{name}: follows from"):
            Predictor.new(make_spec({"name": "window", name: "x"}))
    with pytest.raises(InvalidError, match=learners.names()[0]):
        Predictor.new(make_spec("no-such-learner"))


def test_the_manifest_says_what_it_is() -> None:
    predictor, rows = trained("linear", "classification")
    manifest = predictor.bundle(rows[:2]).manifest
    assert sorted(manifest) == [
        "anchors", "classes", "encoder", "everlearn", "format", "learner", "libraries", "spec",
    ]  # fmt: skip
    assert parse_spec(manifest["spec"]) == predictor.spec
    assert manifest["classes"] == predictor.learner.classes
    assert sorted(manifest["libraries"]) == ["numpy", "python", "scikit-learn", "skops"]
    assert len(manifest["anchors"]["rows"]) == len(manifest["anchors"]["outputs"]) == 2


def damaged(bundle: Bundle, **changes: Any) -> Bundle:
    return replace(bundle, manifest={**bundle.manifest, **changes})


def test_a_newer_format_says_which_everlearn_it_needs() -> None:
    bundle = damaged(Predictor.new(make_spec()).bundle(), format=2, everlearn="9.1.0")
    with pytest.raises(IntegrityError, match=r"format 2.*needs everlearn 9\.1\.0"):
        Predictor.from_bundle(bundle)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": None},
        {"format": True},
        {"format": "1"},
        {"spec": {}},
        {"spec": 3},
        {"encoder": {}},
        {"encoder": []},
        {"learner": {}},
        {"learner": {"state": {"$array": "unknown"}}},
        {"learner": {"state": {"$file": ["x"]}}},
        {"learner": {"state": {"$float": "what"}}},
        {"learner": {"state": 3}},
        {"anchors": {}},
        {"anchors": {"rows": [{}], "outputs": []}},
        {"anchors": {"rows": [{}], "outputs": [3]}},
    ],
)
def test_a_malformed_bundle_is_refused(changes: dict[str, Any]) -> None:
    bundle = trained("linear", "classification")[0].bundle()
    with pytest.raises(IntegrityError):
        Predictor.from_bundle(damaged(bundle, **changes))


def test_a_version_that_answers_otherwise_fails_its_self_test() -> None:
    predictor, rows = trained("linear", "classification")
    loaded = Predictor.from_bundle(predictor.bundle(rows))
    row, output = loaded.anchors[3]
    probabilities = dict(output.probabilities or {})
    names = list(probabilities)
    probabilities[names[0]] += 2e-9
    loaded.anchors = (*loaded.anchors[:3], (row, Output(output.value, probabilities)))
    with pytest.raises(IntegrityError, match=r"anchors\[3\] is answered"):
        loaded.self_test()
    probabilities[names[0]] -= 1.9e-9
    loaded.anchors = (*loaded.anchors[:3], (row, Output(output.value, probabilities)))
    loaded.self_test()


@pytest.mark.parametrize("stored", [Output(2.0), Output(None), Output("a", {"a": 1.0}), Output(1.0 + 1e-8)])
def test_the_self_test_of_a_regression(stored: Output) -> None:
    predictor = Predictor.new(make_spec("persistence", task="regression"))
    predictor.learn([{"x": 1}], [1.0])
    predictor.anchors = (({"x": 1}, Output(1.0 + 1e-10)),)
    predictor.self_test()
    predictor.anchors = (({"x": 1}, stored),)
    with pytest.raises(IntegrityError):
        predictor.self_test()


def test_the_baseline_answers_the_same_for_every_row() -> None:
    assert Baseline().predict([{"x": 1}, {}]) == [Output(None, None)] * 2
    output = Output("a", {"a": 1.0})
    assert Baseline(output).predict([{"x": 1}]) == [output]


def test_states_are_packed_whole() -> None:
    state = {
        "$array": {"$$x": 1, "$": "$", "plain": None},
        "numbers": [1, 2.5, -0.0, 10**30, float("inf"), True, "text é \ud800"],
        "arrays": {"a/b": np.arange(3), "a_b": np.zeros((0, 2)), "A_B": np.array(True)},
        "model.skops": b"\x00\x01",
        "empty": [{}, [], ()],
    }
    packed = _Packed()
    manifest = {"state": packed.pack(state, "learner")}
    back = unpack(
        decode_bundle(encode_bundle(Bundle(manifest, packed.arrays, packed.files))).manifest["state"],
        Bundle({}, packed.arrays, packed.files),
    )
    arrays, expected = back.pop("arrays"), state.pop("arrays")
    assert back == {**state, "empty": [{}, [], []]}
    assert str(back["numbers"]) == str(state["numbers"])
    assert arrays.keys() == expected.keys()  # type: ignore[attr-defined]
    assert all(np.array_equal(arrays[key], expected[key]) for key in arrays)  # type: ignore[index]
    assert list(packed.files) == ["learner.model.skops"]
    assert np.isnan(unpack(packed.pack(float("nan"), "x"), Bundle({})))


@pytest.mark.parametrize("value", [{1: 2}, {"a": object()}, [{1, 2}], {"f": print}])
def test_what_has_no_stored_form_is_named(value: Any) -> None:
    with pytest.raises(InvalidError, match=r"learner"):
        _Packed().pack(value, "learner")


REBUILD = """
import sys
from pathlib import Path
from everlearn.adapters.artifacts import FolderArtifacts
from everlearn.predictor import Predictor
artifacts = FolderArtifacts(Path(sys.argv[1]))
predictor = Predictor.from_bundle(artifacts.get(sys.argv[2]))
predictor.self_test()
print(artifacts.put(predictor.bundle([row for row, _ in predictor.anchors])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["linear", "window"])
def test_a_clean_process_answers_the_same_and_stores_the_same_bytes(learner: str, tmp_path: Path) -> None:
    predictor, rows = trained(learner, "classification")
    digest = FolderArtifacts(tmp_path).put(predictor.bundle(rows))
    command = [sys.executable, "-W", "error", "-c", REBUILD, str(tmp_path), digest]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (digest, "")


def test_two_trainings_on_the_same_rows_give_the_same_digest() -> None:
    digests = {digest_of(encode_bundle(trained("window", "classification")[0].bundle())) for _ in range(2)}
    assert len(digests) == 1


def test_more_categories_than_a_learner_can_tell_apart() -> None:
    features = {"c": "categorical", "x": "numeric"}
    rows = [{"c": f"c{i}", "x": i} for i in range(1200)]
    for learner in ("linear", LEARNERS["window"] | {"size": 1200}):
        predictor = Predictor.new(make_spec(learner, features=features))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            predictor.learn(rows, ["a", "b"] * 600)
            answers = predictor.predict(rows[-5:])
        assert [sum((answer.probabilities or {}).values()) for answer in answers] == pytest.approx([1.0] * 5)


def test_errors_are_everlearns() -> None:
    with pytest.raises(EverlearnError):
        Predictor.new(make_spec()).predict([{"colour": ["not checked"]}])


def sure(n: int, seed: int) -> tuple[list[dict[str, Any]], list[Any]]:
    """Rows nine of ten of which are up."""
    random = np.random.default_rng(seed)
    rows = make_rows(n, seed)
    return rows, [("up" if random.random() < 0.9 else "down") for _ in rows]


def test_a_recalibrated_version_answers_as_often_right_as_it_says(tmp_path: Path) -> None:
    predictor = Predictor.new(make_spec())
    rows = make_rows(200)
    predictor.learn(rows, ["down", "up"] * 100)
    predictor = Predictor.from_bundle(predictor.bundle(rows))
    before = predictor.predict(rows[:1])
    better = predictor.recalibrated(*sure(300, 1))
    (output,) = better.predict(rows[:1])
    assert output.value == "up"
    assert (output.probabilities or {})["up"] == pytest.approx(0.9, abs=0.05)
    assert sum((output.probabilities or {}).values()) == pytest.approx(1)
    assert predictor.predict(rows[:1]) == before, "the one it comes from stays"

    artifacts = FolderArtifacts(tmp_path)
    loaded = Predictor.from_bundle(artifacts.get(artifacts.put(better.bundle(rows))))
    loaded.self_test()
    assert loaded.predict(rows) == better.predict(rows)
    assert loaded.copy().predict(rows) == better.predict(rows)


def test_a_calibrator_stays_while_the_learner_learns_and_is_fitted_on_its_own_answers() -> None:
    predictor = Predictor.new(make_spec())
    predictor.learn(make_rows(200), ["down", "up"] * 100)
    once = predictor.recalibrated(*sure(300, 1))
    twice = once.recalibrated(*sure(300, 1))
    assert twice.predict(make_rows(1)) == once.predict(make_rows(1))
    layer = once.calibrator
    once.learn(make_rows(50), ["up"] * 50)
    assert once.calibrator is layer
    assert once.recalibrated([], []).calibrator is None


def test_recalibration_of_estimates() -> None:
    predictor = Predictor.new(make_spec("linear", task="regression"))
    rows = make_rows(300)
    predictor.learn(rows, make_targets(rows, "regression"))
    fresh = make_rows(200, seed=5)
    moved = [2.0 * target + 1.0 for target in make_targets(fresh, "regression")]
    better = predictor.recalibrated(fresh, moved)
    errors = [
        float(np.mean([abs(float(o.value) - t) for o, t in zip(p.predict(fresh), moved, strict=True)]))  # type: ignore[arg-type]
        for p in (predictor, better)
    ]
    assert errors[1] < 0.3 * errors[0]


def test_a_version_without_calibrator_is_stored_as_ever() -> None:
    predictor, rows = trained("linear", "classification")
    assert "calibrator" not in predictor.bundle(rows).manifest
    few = predictor.recalibrated(make_rows(20, seed=4), make_targets(make_rows(20, seed=4), "classification"))
    assert few.calibrator is None
    assert digest_of(encode_bundle(few.bundle(rows))) == digest_of(encode_bundle(predictor.bundle(rows)))


def test_a_spoiled_calibrator_is_refused() -> None:
    predictor = Predictor.new(make_spec())
    predictor.learn(make_rows(200), ["down", "up"] * 100)
    bundle = predictor.recalibrated(*sure(300, 1)).bundle()
    spoiled = {**bundle.manifest, "calibrator": {"kind": "magic"}}
    with pytest.raises(IntegrityError, match="calibrator"):
        Predictor.from_bundle(replace(bundle, manifest=spoiled))
    with pytest.raises(InvalidError, match="targets"):
        predictor.recalibrated(make_rows(2), ["up"])
