"""MLflow is down: everything else works. MLflow comes back: the mirror catches up with the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from everlearn.wiring import Installation

mlflow = pytest.importorskip("mlflow")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_mirror_catches_up_with_what_happened_meanwhile(
    serve: Callable[..., Any],
    play: Callable[..., list[Any]],
    until: Callable[..., None],
    market: Any,
    spec: dict[str, Any],
    mlflow_server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    server = serve()
    with server.client() as client:
        client.create_model(spec)
        assert client.load("market", *market.rows(200)) == 200
        until(lambda: client.champion("market").version > 0, what="the first promotion")
        first = client.champion("market").version
        market.turn()

        def promoted_again() -> bool:
            play(client, 40)
            return bool(client.champion("market").version > first)

        until(promoted_again, what="the promotion after the drift")
        assert client.retrain("market", force=True).decision["kind"] == "update"
        until(lambda: client.model("market")["state"] != "updating", what="the retrain")
        newest = next(iter(client.versions("market")))["number"]
        if client.champion("market").version == newest:
            newest = first
        assert client.promote("market", newest, why="by hand").decision["kind"] == "promote"
        assert all(answer.version == newest for answer in play(client, 20))

        store = Installation.load(data=server.data).store
        waiting = store.outbox.waiting
        assert waiting("registry") >= 6  # the model, and at least three versions and three promotions
        mlflow_server.start()
        until(lambda: waiting("registry") == 0, 120.0, "the catching up")
        ledger = {v["number"]: v for v in client.versions("market") if v["digest"] is not None}
        champion = client.champion("market")
        store.close()

    registry = mlflow.MlflowClient(mlflow_server.uri, mlflow_server.uri)
    assert [model.name for model in registry.search_registered_models()] == ["market"]
    mirrored = registry.search_model_versions("name = 'market'")
    by_number = {int(version.tags["everlearn.version"]): version for version in mirrored}
    assert len(mirrored) == len(by_number)
    assert sorted(by_number) == sorted(ledger)
    for number, version in by_number.items():
        assert version.tags["everlearn.digest"] == ledger[number]["digest"]
        assert registry.get_run(version.run_id).info.status == "FINISHED"
    alias = registry.get_model_version_by_alias("market", "champion")
    assert alias.tags["everlearn.version"] == str(champion.version)
    assert alias.tags["everlearn.term"] == str(champion.term)
    assert alias.tags["everlearn.digest"] == champion.digest
