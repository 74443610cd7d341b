"""An installation whose versions lie on S3 (moto's server): it learns, is swept, and outlives the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from everlearn.adapters.artifacts import FolderArtifacts
from everlearn.sweeping import sweep
from everlearn.wiring import Installation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BUCKET = "everlearn-e2e"
SECRET = "a-secret-of-the-store-that-no-log-holds"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server that speaks S3 with an empty bucket, and the variables that lead to it."""
    pytest.importorskip("s3fs")
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "AKIATESTING",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "EVERLEARN_ARTIFACTS": f"s3://{BUCKET}/versions",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    client.close()
    yield server
    server.stop()


def learn(client: Any, spec: dict[str, Any], market: Any) -> None:
    """Make the model, and let it publish its first version."""
    client.create_model(spec)
    rows, truths = market.rows(300)
    client.load(spec["name"], rows, truths)
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if client.predict(spec["name"], market.rows(1)[0])[0].version >= 1:
            return
        time.sleep(0.2)
    pytest.fail("no version was published")


def test_an_installation_on_s3(
    live_server: ModuleType, store: Any, spec: dict[str, Any], market: Any, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    server = live_server.LiveServer(data, mlflow=False)
    with server, server.client() as client:
        learn(client, spec, market)
        first = client.predict(spec["name"], market.rows(3)[0])

    installation = Installation.load(data=data)
    held = {one.digest for one in installation.artifacts.stored()}
    wanted = {version.digest for version in installation.versions.list(spec["name"]).items if version.digest}
    assert wanted <= held
    assert not (data / "artifacts").exists(), "everything lies on the store"
    copies = {one.digest for one in FolderArtifacts(data / "artifacts-cache").stored()}
    assert wanted & copies
    swept = sweep(installation)
    assert not swept.removed
    installation.close()

    store.stop()  # the next start finds no store: copies on this machine answer
    with server, server.client() as client:
        again = client.predict(spec["name"], market.rows(3)[0])
        assert [one.version for one in again.items] == [one.version for one in first.items]
    assert SECRET not in server.log.read_text()
