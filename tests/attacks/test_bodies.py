"""Bodies that are too large, too deep or no JSON, on every route that reads one.

Guards: ``BodyLimit`` (sizes, compression), the JSON parsers of pydantic and msgspec, which end deep nesting
and refuse what is no JSON, and what each route makes of their errors. Tables are in
``tests/api/test_bulk_safety.py``.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from everlearn.api.formats import TABLES
from everlearn.loop.defaults import with_defaults
from everlearn.loop.drive import advance_model
from everlearn.spec import parse_spec

ROW = '{"a": 1, "b": 2}'
ROUTES = {
    "/v1/models/toy/predict": '{"rows": [{"a": %s, "b": 2}]}',
    "/v1/models/toy/labels": '{"labels": [{"id": "x", "value": %s}]}',
    "/v1/models/toy/examples": '{"rows": [{"a": 1, "b": 2}], "targets": [%s]}',
    "/v2/models/toy/infer": '{"inputs": [{"name": "a", "datatype": "FP64", "shape": [1], "data": [%s]}]}',
    "/invocations": '{"instances": [[%s, 2]]}',
    "/predict": '{"features": [[%s, 2]]}',
    "/generate": '{"rows": %s}',
    "/retrain?wait=0": '{"why": %s}',
    "/v1/models": '{"name": "m", "target": "y", "features": {"a": "numeric"}, "threshold": %s}',
    "/v1/models/toy/freeze?wait=0": '{"why": %s}',
    "/v1/keys": '{"name": "k", "scopes": ["read"], "expires_at": %s}',
    "/v1/users": '{"name": "ann", "grants": %s}',
    "/v1/auth/login": '{"username": "ann", "password": %s}',
    "/v1/auth/refresh": '{"refresh_token": %s}',
    "/v1/auth/accept": '{"name": "ann", "invite": "x", "password": %s}',
}
"""Every kind of route that reads JSON, and a body with a place for something odd."""
JSON = {"Content-Type": "application/json"}
DEFAULT = ("/invocations", "/predict", "/retrain?wait=0")
"""What asks first whether the model ``default`` is there."""
WRONG = (400, 401, 404, 409, 413, 422)


@pytest.fixture
async def client(
    make_app: Callable[..., FastAPI], connect: Any, store: Any, clock: Any
) -> AsyncIterator[Any]:
    """A client where there is the model ``default`` too, and both know something."""
    app = make_app()
    toy = store.models.get("toy").to_dict()
    store.models.create(with_defaults(parse_spec({**toy, "name": "default"})), clock.now())
    async with connect(app) as client:
        for name in ("toy", "default"):
            body = {"rows": [{"a": 1, "b": 2}] * 3, "targets": ["yes"] * 3}
            await client.post(f"/v1/models/{name}/examples", json=body)
            advance_model(name, store.log, store.ledger)
            for _ in range(500):
                if (await client.get(f"/v2/models/{name}/ready")).is_success:
                    break
                await asyncio.sleep(0.01)
        yield client


async def refused(client: Any, path: str, content: bytes) -> None:
    """A body is answered with some fault of the caller, said in the route's form of errors."""
    answer = await client.post(path, content=content, headers=JSON)
    about = (path, content[:80], answer.status_code, answer.text[:300])
    assert answer.status_code in WRONG, about
    told = answer.json()
    assert told["error"] if "error" in told else told["status"] == answer.status_code, about
    assert len(answer.content) < 20_000, about


async def test_deep_nesting_is_refused(client: Any) -> None:
    """A parser that recurses without end brings the process down. Guard: the parsers' limits of depth."""
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        deep = opening * 100_000 + "1" + closing * 100_000
        for path, body in ROUTES.items():
            await refused(client, path, deep.encode()[:16_000] if "/auth/" in path else deep.encode())
            await refused(client, path, (body % deep).encode())


NO_JSON = (
    "Infinity", "-Infinity", "nan", "undefined", "'text'", "1e", "01", "+1", ".5", "1,", "[1,]", "\\x41",
    '"\\ud800"', '"\\udc00\\ud800"', "/* */ 1", "0x10", '"a\x00b"', '"a\nb"',
)  # fmt: skip


async def test_what_is_no_json_is_refused(client: Any) -> None:
    """As other parsers read it otherwise. Guard: strict parsers, the same for all routes."""
    for path, body in ROUTES.items():
        for odd in NO_JSON:
            await refused(client, path, (body % odd).encode())


NUMBERS = (
    "NaN",
    "1e400",
    "-1e400",
    "1" * 5000,
    "-" + "9" * 5000,
    "1e-400",
    "1." + "0" * 5000 + "1",
    "1" * 400,
)


async def test_numbers_beyond_any_are_no_fault_of_the_server(client: Any) -> None:
    """Infinity must enter neither log nor spec, and 5000 digits cost no quadratic time."""
    for path, body in ROUTES.items():
        for number in NUMBERS:
            answer = await client.post(path, content=(body % number).encode(), headers=JSON)
            about = (path, number[:10], answer.status_code, answer.text[:300])
            assert answer.status_code < 500, about
            if answer.is_success:  # NaN is a missing cell
                json.loads(answer.text, parse_constant=pytest.fail)
            if "e400" in number and "predict" in path:
                assert answer.status_code == 422, about


WRAPPED: dict[str, Callable[[bytes], bytes]] = {
    "a byte": lambda text: b"\xff" + text,
    "overlong": lambda text: text.replace(b'"', b"\xc0\xa2"),
    "NUL": lambda text: text + b"\x00",
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    "UTF-32": lambda text: text.decode().encode("utf-32-le"),
    "two marks": lambda text: b"\xef\xbb\xbf\xef\xbb\xbf" + text,
    "twice": lambda text: text + text,
    "cut": lambda text: text[:-1],
    "a list": lambda _: b"[]",
    "a text": lambda _: b'"text"',
    "a number": lambda _: b"1",
}


async def test_what_is_no_utf_8_is_refused(client: Any) -> None:
    """And a byte order mark is none of JSON (RFC 8259)."""
    for path, body in ROUTES.items():
        for wrap in WRAPPED.values():
            await refused(client, path, wrap((body % "0.5").encode()))


async def test_of_a_name_that_is_there_twice_the_last_counts_everywhere(client: Any, store: Any) -> None:
    """Two parsers that choose differently make two requests of one: the hot way and the route must agree."""
    body = b'{"rows": [{"a": 1, "a": 2, "b": 3}], "ids": ["first"], "ids": ["%s"]}'
    for key, headers in (("hot", {}), ("cold", {"Idempotency-Key": "k"})):
        answer = await client.post(
            "/v1/models/toy/predict", content=body % key.encode(), headers={**JSON, **headers}
        )
        assert [one["id"] for one in answer.json()["predictions"]] == [key]
        (prediction, _) = store.log.find("toy", [key])[key]
        assert dict(prediction.features) == {"a": 2, "b": 3}


async def test_a_compressed_body_is_not_read(client: Any) -> None:
    """A bomb of 10 MB in less than a kB. Guard: ``BodyLimit._refusal`` (415, and what would be taken)."""
    body = gzip.compress(gzip.compress(bytes(10 * 2**20)))
    for path in ROUTES:
        for coding in ("gzip", "deflate", "br", "zstd", "gzip, gzip", "GZIP", "x-unknown"):
            answer = await client.post(path, content=body, headers={**JSON, "Content-Encoding": coding})
            assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
            assert answer.json()["type"] == "/errors/unsupported-media-type"


@pytest.fixture
def wire(make_app: Callable[..., FastAPI], host: Callable[..., Any]) -> Iterator[Any]:
    with host(make_app(max_body=50_000), 2.0) as wire:
        yield wire


def test_bodies_over_the_limit_are_refused_however_they_come(wire: Any) -> None:
    """Guard: ``BodyLimit``, by the stated length before a byte is read, and by counting where none is."""
    spaces = [b"1000\r\n" + b" " * 4096 + b"\r\n"] * 15
    forms = (
        [b"Content-Length: 99999999999999999\r\n\r\n"],
        [b"Content-Length: 60000\r\n\r\n", b" " * 60_000],
        [b"Transfer-Encoding: chunked\r\n\r\n", *spaces, b"0\r\n\r\n"],
    )
    for path in ROUTES:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        head += "Authorization: Bearer a-key-for-the-tests\r\n"
        for first, *more in forms:
            answer = wire.ask(head.encode() + first, *more)
            statuses = (b"413", b"404") if path in DEFAULT else (b"413",)
            assert answer == b"" or answer.split()[1] in statuses, (path, first, answer[:100])


def test_a_body_shorter_than_it_says_is_no_request(wire: Any, store: Any) -> None:
    """It is not answered as if it were whole, and nothing is recorded of it. Guard: ``Patient``."""
    body = b'{"rows": [%s]}' % ROW.encode()
    head = b"POST /v1/models/toy/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += b"Authorization: Bearer a-key-for-the-tests\r\nContent-Length: %d\r\n\r\n" % (len(body) + 1)
    assert wire.ask(head + body).startswith(b"HTTP/1.1 408")
    with wire.connect() as connection:
        connection.sendall(head + body)
    assert store.log.head("toy").rows == 0


async def test_a_form_of_many_parts_is_refused(client: Any) -> None:
    """CVE-2024-47874 and CVE-2024-24762. Guard: ``max_files`` and ``max_fields`` in ``api/examples.py``."""
    line = b'--x\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n1\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    many = b"".join(line % i for i in range(2000)) + b"--x--\r\n"
    endless = b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n' + b"a" * 3_000_000 + b"\r\n--x--\r\n"
    file = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\na\r\n'
    for body in (many, endless, file * 3 + b"--x--\r\n", b"--x", b"", b"\r\n" * 100_000):
        answer = await client.post("/v1/models/toy/examples", content=body, headers=kind)
        assert answer.status_code in (413, 422), answer.text[:200]
    redos = "multipart/form-data; " + 'a="' + '\\"' * 20_000
    answer = await client.post("/v1/models/toy/examples", content=b"x", headers={"Content-Type": redos})
    assert answer.status_code in (415, 422)


async def test_a_bomb_of_an_npz_or_a_zip_is_no_table(client: Any) -> None:
    """Archives are opened nowhere in the API (see ``test_code_in_data.py``), whatever they are called."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(20 * 2**20))
    for kind in ("application/zip", "application/octet-stream", "application/x-npz", *TABLES):
        answer = await client.post(
            "/v1/models/toy/examples", content=out.getvalue(), headers={"Content-Type": kind}
        )
        assert answer.status_code in (413, 415, 422), (kind, answer.text[:200])


async def test_long_texts_come_back_short(client: Any) -> None:
    """An error must not be a mirror: what is said of a long value is cut. Guard: ``problems._cut``."""
    long = "x" * 200_000
    bodies = {
        "/v1/models/toy/predict": {"rows": [{"a": long}]},
        "/v1/models/toy/labels": {"labels": [{"id": long, "value": 1}]},
        "/v1/models": {"name": long, "target": long, "features": {long: long}},
        "/v2/models/toy/infer": {"inputs": [{"name": long, "datatype": long, "shape": [1], "data": [1]}]},
        "/invocations": {"inputs": {long: 1}},
        "/v1/users": {"name": long},
    }
    for path, body in bodies.items():
        await refused(client, path, json.dumps(body).encode())
    assert len((await client.get(f"/v1/models/{long[:8000]}")).content) < 20_000
    assert len((await client.get(f"/v2/models/{long[:8000]}")).content) < 20_000
