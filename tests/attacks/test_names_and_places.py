"""Names never become paths, and no text that a caller sends makes the server open or call anything.

Guards: ``is_digest`` in ``adapters/artifacts.py`` (see also ``tests/adapters/test_artifacts.py``), the
patterns of names in ``spec.py`` and ``access/names.py``; and that the API takes no path and no address
anywhere. Python's audit events tell of every file that is opened and of every connection.
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi import FastAPI

from everlearn.adapters.artifacts import FolderArtifacts
from everlearn.errors import NotFoundError
from everlearn.types import Bundle

CANARY = "the-canary-of-these-tests"
TRAVERSALS = [
    f"../{CANARY}", f"../../../../../../tmp/{CANARY}", f"..%2f{CANARY}", f"%2e%2e%2f{CANARY}",
    f"..%252f{CANARY}", f"..\\{CANARY}", f"..%5c{CANARY}", f"....//{CANARY}", f"/tmp/{CANARY}",
    f"//tmp/{CANARY}", f"~/{CANARY}", f"C:\\{CANARY}", f"\\\\server\\share\\{CANARY}",
    f"file:///tmp/{CANARY}", f"{CANARY}\x00.json", f"{CANARY}%00", f"\uff0e\uff0e\uff0f{CANARY}",
    f"..%c0%af{CANARY}", f"./{CANARY}", f"$HOME/{CANARY}", f"{CANARY}\n", "." * 300 + CANARY,
    f"{'a/' * 2000}{CANARY}", f"{{{{config}}}}/{CANARY}", f"$(touch /tmp/{CANARY})",
    f"`touch /tmp/{CANARY}`",
]  # fmt: skip
ADDRESSES = [
    "http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:1/", "http://[::1]:1/",
    "http://0.0.0.0:1/", "http://2130706433:1/", "http://0x7f000001:1/", "http://[::ffff:127.0.0.1]:1/",
    "http://localhost:1/", "ftp://127.0.0.1:1/x", "gopher://127.0.0.1:1/_x", "s3://bucket/key",
    "sqlite:////tmp/x.db", "mlflow-artifacts:/1", "models:/toy@champion", "runs:/1/model", "dbfs:/x",
    "jdbc:h2:mem:x", "${jndi:ldap://127.0.0.1:1/a}",
]  # fmt: skip
CALLS = ("socket.", "urllib.", "http.", "subprocess.")
WATCHED = ("open", "os.", "shutil.", "socket.connect", "socket.getaddrinfo", *CALLS[1:])


class Watch:
    """Notes audit events while it is on; hooks cannot be taken away again."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[tuple[str, str]] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: Any) -> None:
        if self.on and event.startswith(WATCHED):
            self.seen.append((event, repr(arguments)[:5000]))


@pytest.fixture(scope="module")
def watch_all() -> Watch:
    return Watch()


@pytest.fixture
def watch(watch_all: Watch) -> Iterator[Watch]:
    watch_all.seen.clear()
    watch_all.on = True
    yield watch_all
    watch_all.on = False


def test_the_watch_sees_what_it_should(watch: Watch, tmp_path: Path) -> None:
    import socket

    (tmp_path / CANARY).write_text("x")
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", 1), timeout=1):
        pass
    assert any(event == "open" and CANARY in told for event, told in watch.seen)
    assert any(event == "socket.connect" for event, told in watch.seen)


@pytest.mark.slow
async def test_no_name_in_a_path_of_the_api_becomes_a_path(api: Any, watch: Watch) -> None:
    """Every parameter of every route, raw and encoded once and twice. No file of that name is touched."""
    page = (await api.get("/openapi.json")).json()["paths"]
    templates = [(path, method) for path, methods in page.items() for method in methods if "{" in path]
    assert len(templates) > 20
    for path, method in templates:
        for name in TRAVERSALS:
            for form in (quote(name, safe=""), quote(quote(name, safe=""), safe="")):
                url = re.sub(r"\{[^}]*\}", form.replace("\\", r"\\"), path)
                answer = await api.request(
                    method, url, json={}, params={"wait": 0} if method == "post" else None
                )
                assert answer.status_code < 500, (url, answer.text)
                assert answer.status_code != 200 or method == "get", (method, url)
    assert [told for _, told in watch.seen if CANARY in told] == []


async def test_no_text_in_a_body_becomes_a_path_or_a_call(api: Any, watch: Watch) -> None:
    """Path traversal and SSRF by value: in specs, rows, ids, users, keys, commands, headers, file names."""
    for text in (*TRAVERSALS, *ADDRESSES):
        learner = {"name": text}
        spec = {"name": "m", "target": "y", "features": {"a": "numeric"}}
        bodies: list[tuple[str, Any]] = [
            ("/v1/models", {**spec, "name": text}),
            ("/v1/models", {**spec, "learner": learner}),
            ("/v1/models", {**spec, "learner": {"name": "sklearn", "estimator": text}}),
            ("/v1/models", {**spec, "learner": {"name": "river", "model": text}}),
            ("/v1/models", {**spec, "learner": {"name": "window", "estimator": text}}),
            ("/v1/models", {**spec, "drift": {"detectors": [text]}}),
            ("/v1/models", {**spec, "metric": text, "description": text, "artifact_root": text}),
            ("/v1/models/toy/predict", {"row": {"a": 1, text: text}, "id": text}),
            ("/v1/models/toy/labels", {"labels": [{"id": text, "value": text}]}),
            ("/v1/models/toy/retrain?wait=0", {"why": text}),
            (
                "/v2/models/toy/infer",
                {"inputs": [{"name": text, "datatype": text, "shape": [1], "data": [text]}]},
            ),
            ("/v1/users", {"name": text, "grants": {text: "viewer"}}),
            ("/v1/keys", {"name": text, "scopes": ["read"], "models": [text]}),
            ("/v1/auth/login", {"username": text, "password": text}),
        ]
        headers = {"X-Request-ID": quote(text), "Idempotency-Key": quote(text)[:200], "Referer": quote(text)}
        for path, body in bodies:
            answer = await api.post(
                path, content=json.dumps(body), headers={"Content-Type": "application/json"}
            )
            assert answer.status_code < 500 or "learned nothing" in answer.text, (path, text, answer.text)
        files = {"file": (text[:200] + ".csv", b"a,b,y\n1,2,yes\n")}
        assert (await api.post("/v1/models/toy/examples", files=files)).status_code < 500
        assert (await api.get("/v1/models", headers=headers)).status_code == 200
    assert [told for _, told in watch.seen if CANARY in told] == []
    assert [event for event, _ in watch.seen if event.startswith(CALLS)] == []


def test_the_api_takes_no_address_and_no_path(make_app: Callable[..., FastAPI]) -> None:
    """No field of any request is a URL or a file: one that comes needs an allow-list, and a test here."""
    found = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            found.update(node.get("properties", {}))
            if node.get("format") in ("uri", "path", "file-path", "uri-reference"):
                found.add("a URI")
            if "in" in node and "name" in node:
                found.add(str(node["name"]))
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(child)

    walk(make_app().openapi())
    odd = re.compile(
        r"(^|_)(ur[il]s?|hosts?|webhooks?|callbacks?|endpoints?|paths?|folders?|files?|dirs?)($|_)|a URI"
    )
    # The form's upload; and the address of a frame's image, whose hosts are listed: test_image_fetching.py.
    assert {name for name in found if odd.search(name)} == {"file", "url"}


CALLERS = {"httpx", "requests", "urllib.request", "http.client", "aiohttp", "urllib3", "smtplib", "ftplib"}
MAY_CALL = (
    *("client/", "cli/", "demo/", "running.py", "supervisor.py", "doctor.py"),
    *("adapters/alerts/senders.py", "adapters/heartbeats.py", "api/image_fetching.py"),
)
"""What speaks HTTP: clients, on the machine of who runs them; alerts, whose targets have a guard of their own
(``test_webhooks.py``); the API for a frame's image, under the same guard (``test_image_fetching.py``); a
worker's heart-beat, whose one address stands in a setting, and of whose answer nothing is kept. The mirror
goes by MLflow's own library."""


def test_nothing_in_the_server_makes_requests(root: Path) -> None:
    """SSRF needs someone who calls. Guard: there is none but those that have one."""
    folder, found = root / "src" / "everlearn", set()
    for path in sorted(folder.rglob("*.py")):
        name = str(path.relative_to(folder))
        for node in ast.walk(ast.parse(path.read_text())):
            names = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            names |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
            if names & CALLERS and not name.startswith(MAY_CALL):
                found.add((name, *sorted(names & CALLERS)))
    assert found == set()


async def test_a_link_in_the_store_is_not_followed(tmp_path: Path) -> None:
    """Someone who may write the folder plants a link to a secret. Guard: ``_read_file``, ``_read``."""
    secret = tmp_path / "secret"
    secret.write_bytes(b'{"format":1}')
    artifacts = FolderArtifacts(tmp_path / "artifacts")
    digest = artifacts.put(Bundle({"format": 1}, {}, {"a.txt": b"x"}))
    folder = Path(str(artifacts.path(digest)))
    for name in [item.name for item in folder.iterdir()]:
        kept = (folder / name).read_bytes()
        secret.write_bytes(kept)
        (folder / name).unlink()
        (folder / name).symlink_to(secret)
        with pytest.raises(Exception, match=f"{name} is not a plain file"):
            await asyncio.to_thread(artifacts.get, digest)
        (folder / name).unlink()
        (folder / name).write_bytes(kept)
    assert artifacts.get(digest).files == {"a.txt": b"x"}
    assert secret.exists()


def test_only_digests_reach_the_folder(tmp_path: Path, watch: Watch) -> None:
    """Also where a digest comes from a database that was tampered with. Guard: ``is_digest``."""
    canary = tmp_path / CANARY
    canary.mkdir()
    artifacts = FolderArtifacts(tmp_path / "data" / "artifacts")
    artifacts.put(Bundle({"format": 1}))
    watch.seen.clear()
    for name in (str(canary), *(name for name in TRAVERSALS if "\x00" not in name)):
        assert artifacts.path(name) is None, name
        artifacts.delete(name)
        with pytest.raises(NotFoundError):
            artifacts.get(name)
    assert [told for _, told in watch.seen if CANARY in told] == []
    assert canary.is_dir()
