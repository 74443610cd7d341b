"""The mirror on a real MLflow store: what it writes, and that it converges in whatever order it is told."""

from __future__ import annotations

import random
import socket
import warnings
from pathlib import Path
from typing import Any

import pytest

from everlearn.adapters.mlflow_connection import connect
from everlearn.errors import InvalidError, NotFoundError, UnavailableError
from everlearn.spec import parse_spec
from everlearn.types import DecisionKind

pytest.importorskip("mlflow")


def seen(uri: str, model: str = "spam") -> dict[str, Any]:
    """What MLflow holds of a model: runs and model versions by everlearn's number, and the champion's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = connect(uri)
        experiment = client.get_experiment_by_name(f"everlearn/{model}")
        runs = [] if experiment is None else client.search_runs([experiment.experiment_id])
        versions = client.search_model_versions(f"name = '{model}'")
        aliases = client.get_registered_model(model).aliases
    numbers = {str(version.version): int(version.tags["everlearn.version"]) for version in versions}
    return {
        "runs": sorted(int(run.data.tags["everlearn.version"]) for run in runs),
        "versions": sorted(numbers.values()),
        "champion": numbers[str(aliases["champion"])] if "champion" in aliases else None,
        "aliases": len(aliases),
        "run": {int(run.data.tags["everlearn.version"]): run for run in runs},
        "version": {int(version.tags["everlearn.version"]): version for version in versions},
    }


def test_a_version_becomes_a_run_and_a_model_version_that_point_back(world: Any, uri: str) -> None:
    world.train(1)
    world.promote(1)
    assert world.dispatcher(world.registry(uri)).run_once() == 3
    found = seen(uri)
    assert (found["runs"], found["versions"], found["champion"]) == ([1], [1], 1)
    run, version = found["run"][1], found["version"][1]
    made = world.store.versions.get("spam", 1)
    assert run.info.status == "FINISHED"
    assert run.info.start_time == int(made.created_at * 1000)
    assert run.data.params["learner"] == "linear"
    assert run.data.params["rows"] == str(made.rows)
    assert run.data.params["learned_through"] == str(made.learned_through)
    assert run.data.metrics == {"holdout.accuracy": 0.9, "holdout.log loss": 0.3, "seconds": 1.0, "ok": 1.0}
    for tags in (run.data.tags, version.tags):
        assert tags["everlearn.model"] == "spam"
        assert tags["everlearn.digest"] == made.digest
        assert tags["everlearn.parent"] == "0"
    assert version.run_id == run.info.run_id
    assert version.tags["everlearn.decided"] == "promote"
    assert version.tags["everlearn.reason"] == "version 1 is better"
    assert version.tags["everlearn.term"] == "1"


def test_the_alias_follows_promotion_and_rollback_and_goes_with_version_0(world: Any, uri: str) -> None:
    send = world.dispatcher(world.registry(uri)).run_once
    champions = []
    world.train(1)
    world.train(2)
    for number in (1, 2, 1, 0, 2):
        world.promote(number, kind=DecisionKind.PROMOTE if number == 2 else DecisionKind.ROLLBACK)
        send()
        champions.append(seen(uri)["champion"])
    assert champions == [1, 2, 1, None, 2]
    assert seen(uri)["version"][1].tags["everlearn.term"] == "3"
    assert seen(uri)["version"][1].tags["everlearn.decided"] == "rollback"


def test_repeated_and_shuffled_messages_converge(world: Any, uri: str) -> None:
    for number in (1, 2, 3):
        world.train(number)
        world.promote(number)
    world.promote(2)
    registry = world.registry(uri)
    messages = world.store.outbox.take("registry", 100, world.clock.now())
    bodies = [message.body for message in messages] * 2
    random.Random(7).shuffle(bodies)
    for body in bodies:
        registry.mirror(body)
    found = seen(uri)
    assert (found["runs"], found["versions"], found["champion"]) == ([1, 2, 3], [1, 2, 3], 2)
    assert found["aliases"] == 1
    assert found["version"][2].tags["everlearn.term"] == "4"


@pytest.mark.parametrize("cut", ["log_batch", "log_artifacts", "set_terminated", "create_model_version"])
def test_a_crash_half_way_leaves_no_duplicate(
    world: Any, uri: str, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.train(1)
    message = {"kind": "version", "model": "spam", "number": 1}
    registry = world.registry(uri)
    registry.check()

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(registry._client), cut, die)
        with pytest.raises(KeyboardInterrupt):
            registry.mirror(message)
    world.registry(uri).mirror(message)
    found = seen(uri)
    assert (found["runs"], found["versions"]) == ([1], [1])
    assert found["run"][1].info.status == "FINISHED"
    assert found["run"][1].data.metrics["holdout.accuracy"] == 0.9


def test_a_changed_spec_changes_the_registered_model(world: Any, uri: str) -> None:
    registry = world.registry(uri)
    registry.mirror({"kind": "model", "model": "spam"})
    spec = world.store.models.get("spam").to_dict()
    changed = parse_spec({**spec, "description": "Is it junk?", "threshold": 0.9})
    world.store.models.update(changed, world.clock.now())
    registry.mirror({"kind": "model", "model": "spam"})
    registered = connect(uri).get_registered_model("spam")
    assert registered.description == "Is it junk?"
    assert registered.tags["everlearn.threshold"] == "0.9"


def test_a_new_model_of_an_old_name_is_not_taken_for_the_old_one(world: Any, uri: str) -> None:
    world.train(1)
    send = world.dispatcher(world.registry(uri)).run_once
    send()
    world.store.models.delete("spam")
    world.clock.advance(60.0)
    world.create()
    world.train(1)
    world.promote(1)
    send()
    found = seen(uri)
    assert (found["runs"], found["versions"], found["champion"]) == ([1, 1], [1, 1], 1)
    digest = connect(uri).get_model_version_by_alias("spam", "champion").tags["everlearn.key"]
    assert digest.endswith(f"{world.store.versions.get('spam', 1).created_at:.6f}")


def test_what_another_tool_registered_is_left_alone(world: Any, uri: str) -> None:
    connect(uri).create_registered_model("spam")
    with pytest.raises(InvalidError, match="did not make"):
        world.registry(uri).mirror({"kind": "model", "model": "spam"})


def test_a_deleted_experiment_comes_back(world: Any, uri: str) -> None:
    registry = world.registry(uri)
    registry.mirror({"kind": "model", "model": "spam"})
    client = connect(uri)
    client.delete_experiment(client.get_experiment_by_name("everlearn/spam").experiment_id)
    world.train(1)
    registry.mirror({"kind": "version", "model": "spam", "number": 1})
    assert seen(uri)["runs"] == [1]


def test_messages_that_tell_of_nothing_say_so(world: Any, uri: str) -> None:
    registry = world.registry(uri)
    with pytest.raises(InvalidError, match="kind"):
        registry.mirror({"kind": "party", "model": "spam"})
    with pytest.raises(NotFoundError, match="gone"):
        registry.mirror({"kind": "model", "model": "gone"})
    with pytest.raises(NotFoundError):
        registry.mirror({"kind": "version", "model": "spam", "number": 9})


def test_making_a_mirror_touches_nothing(world: Any, tmp_path: Path) -> None:
    world.registry(f"sqlite:///{tmp_path / 'never' / 'mlflow.db'}")
    assert not (tmp_path / "never").exists()


def test_a_dead_port_is_unavailable_within_seconds(world: Any, free_port: int, no_longer_than: Any) -> None:
    registry = world.registry(f"http://user:secret@127.0.0.1:{free_port}")
    with pytest.raises(UnavailableError, match="does not answer"), no_longer_than(15.0):
        registry.mirror({"kind": "model", "model": "spam"})
    with pytest.raises(UnavailableError) as caught:
        registry.check()
    assert "secret" not in caught.value.detail


def test_a_port_that_never_answers_is_unavailable_too(
    world: Any, no_longer_than: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        registry = world.registry(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(UnavailableError), no_longer_than(15.0):
            registry.mirror({"kind": "model", "model": "spam"})


def test_a_file_that_is_no_database_is_unavailable(world: Any, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database, and will not become one either" * 50)
    with pytest.raises(UnavailableError):
        world.registry(f"sqlite:///{tmp_path / 'text.db'}").check()
