"""Every store of bundles keeps the same promises: in memory, in a folder, and on S3 (moto's server)."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from everlearn.adapters import object_store
from everlearn.adapters.artifact_cache import ArtifactCache
from everlearn.adapters.artifacts import FolderArtifacts
from everlearn.adapters.bundles import ARRAYS, MANIFEST
from everlearn.adapters.memory import MemoryArtifacts
from everlearn.adapters.object_store import SWEEPING, ObjectArtifacts
from everlearn.errors import IntegrityError, InvalidError, MissingExtraError, NotFoundError, UnavailableError
from everlearn.types import Bundle
from everlearn.vision.frames import bundle_of

BUCKET = "everlearn-tests"
FAR = 1e12


def make_bundle(scale: float = 1.0, size: int = 6) -> Bundle:
    arrays = {"weights": np.arange(float(size)) * scale, "seen": np.array([True, False])}
    return Bundle({"format": 1, "classes": ["é", 2]}, arrays, {"model.skops": b"bytes", "empty": b""})


def same(a: Bundle, b: Bundle) -> bool:
    return (
        a.manifest == b.manifest
        and a.files == b.files
        and {name: array.tolist() for name, array in a.arrays.items()}
        == {name: array.tolist() for name, array in b.arrays.items()}
    )


class Moto:
    """A server that speaks S3, on a free port of this machine, with one bucket."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.environment = {
            "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "AKIATESTING",
            "AWS_SECRET_ACCESS_KEY": "a-secret-that-must-not-be-told",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.fill()

    def fill(self) -> None:
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL_S3"],
            aws_access_key_id="AKIATESTING",
            aws_secret_access_key="a",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket=BUCKET)
        client.close()

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    pytest.importorskip("s3fs")
    server = Moto()
    yield server
    server.stop()


@pytest.fixture
def s3(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty prefix."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid4().hex}"


S3_CACHED = pytest.param("s3-cached", marks=pytest.mark.slow)


@pytest.fixture(params=["memory", "folder", "fsspec-memory", "fsspec-cached", "s3", S3_CACHED])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    kind, _, cached = request.param.partition("-")
    if request.param == "memory":
        return MemoryArtifacts()
    if request.param == "folder":
        return FolderArtifacts(tmp_path / "artifacts")
    url = request.getfixturevalue("s3") if kind == "s3" else f"memory://{uuid4().hex}"
    cache = ArtifactCache(tmp_path / "cache", 1 << 20) if cached == "cached" else None
    return ObjectArtifacts(url, cache)


# What all of them promise


def test_what_is_put_comes_back(artifacts: Any) -> None:
    digest = artifacts.put(make_bundle())
    assert same(artifacts.get(digest), make_bundle())
    assert artifacts.sound(digest)
    assert artifacts.put(make_bundle()) == digest
    (held,) = artifacts.stored()
    assert (held.digest, held.bytes > 100) == (digest, True)
    assert abs(held.at - time.time()) < 60


def test_the_digest_is_the_same_everywhere(artifacts: Any) -> None:
    assert artifacts.put(make_bundle()) == MemoryArtifacts().put(make_bundle())


def test_what_is_not_there_is_not_found(artifacts: Any) -> None:
    for digest in ("a" * 64, "", "..", "../../etc", "A" * 64, "a" * 64 + "\n"):
        with pytest.raises(NotFoundError):
            artifacts.get(digest)
        assert artifacts.path(digest) is None
        assert not artifacts.sound(digest)
        assert not artifacts.delete(digest)
    assert list(artifacts.stored()) == []


def test_what_is_deleted_is_gone(artifacts: Any) -> None:
    digest, kept = artifacts.put(make_bundle()), artifacts.put(make_bundle(2.0))
    assert artifacts.delete(digest)
    assert not artifacts.delete(digest)
    assert [held.digest for held in artifacts.stored()] == [kept]
    with pytest.raises(NotFoundError):
        artifacts.get(digest)
    assert artifacts.put(make_bundle()) == digest
    assert same(artifacts.get(digest), make_bundle())


def test_what_was_put_since_is_not_deleted(artifacts: Any) -> None:
    digest = artifacts.put(make_bundle())
    assert not artifacts.delete(digest, before=time.time() - 60)
    assert same(artifacts.get(digest), make_bundle())
    assert artifacts.delete(digest, before=FAR)
    assert list(artifacts.stored()) == []


@pytest.mark.slow
def test_putting_again_makes_it_young(artifacts: Any) -> None:
    artifacts.put(make_bundle())
    (before,) = artifacts.stored()
    time.sleep(1.1)  # S3 tells whole seconds
    digest = artifacts.put(make_bundle())
    (after,) = artifacts.stored()
    assert after.at > before.at
    assert not artifacts.delete(digest, before=after.at)


def test_many_writers_of_one_bundle(artifacts: Any) -> None:
    start, digests = threading.Barrier(4), []

    def put() -> None:
        start.wait()
        digests.append(artifacts.put(make_bundle()))

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(digests)) == 1
    assert len(digests) == 4
    assert same(artifacts.get(digests[0]), make_bundle())


@pytest.mark.slow
def test_a_writer_and_a_sweeper_race_and_what_was_put_is_there(artifacts: Any) -> None:
    """A put that has returned is never undone by a delete of what was old: the sweeper wants all that is
    older than the put that is about to come."""
    over = threading.Event()
    lost: list[str] = []
    digest = artifacts.put(make_bundle())

    def sweep() -> None:
        while not over.is_set():
            artifacts.delete(digest, before=time.time() - 2.0)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for _ in range(4):
            time.sleep(2.1)  # old enough to be swept at any moment
            artifacts.put(make_bundle())
            lost += [digest for _ in range(5) if not artifacts.sound(digest)]
    finally:
        over.set()
        sweeper.join()
    assert lost == []


# Object stores


def of(artifacts: Any) -> tuple[Any, str]:
    """The files of an object store, and its root."""
    return artifacts._files, artifacts._root


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> ObjectArtifacts:
    """An object store without copies on this machine."""
    url = request.getfixturevalue("s3") if request.param == "s3" else f"memory://{uuid4().hex}"
    return ObjectArtifacts(url)


def test_objects_lie_as_files_do(store: ObjectArtifacts) -> None:
    digest = store.put(make_bundle())
    files, root = of(store)
    names = sorted(path.removeprefix(f"{root}/") for path in files.find(root))
    folder = f"{digest[:2]}/{digest}"
    assert names == sorted(f"{folder}/{name}" for name in (ARRAYS, MANIFEST, "empty", "model.skops"))
    assert sha256(files.cat_file(f"{root}/{folder}/{MANIFEST}")).hexdigest() == digest


@pytest.mark.parametrize("name", [MANIFEST, ARRAYS, "model.skops"])
@pytest.mark.parametrize("damage", ["cut", "changed", "removed", "extra"])
def test_damage_is_found_and_mended(store: ObjectArtifacts, name: str, damage: str) -> None:
    digest = store.put(make_bundle())
    files, root = of(store)
    path = f"{root}/{digest[:2]}/{digest}/{name}"
    data = files.cat_file(path)
    if damage == "removed":
        files.rm_file(path)
    elif damage == "extra":
        files.pipe_file(f"{path}.bak", b"x")
    else:
        files.pipe_file(path, data[:-1] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    gone = damage == "removed" and name == MANIFEST
    with pytest.raises(NotFoundError if gone else IntegrityError, match=f"{digest[:12]}"):
        store.get(digest)
    assert not store.sound(digest)
    if damage != "extra":
        assert store.put(make_bundle()) == digest
        assert same(store.get(digest), make_bundle())


def test_an_upload_that_dies_is_no_bundle(store: ObjectArtifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    files, _ = of(store)
    pipe = files.pipe_file

    def dies(path: str, *arguments: Any, **named: Any) -> None:
        if path.endswith(MANIFEST):
            raise PermissionError("no more")
        pipe(path, *arguments, **named)

    monkeypatch.setattr(files, "pipe_file", dies)
    with pytest.raises(UnavailableError, match="refuses: no more: let its user"):
        store.put(make_bundle())
    monkeypatch.undo()
    (left,) = store.stored()
    with pytest.raises(NotFoundError):
        store.get(left.digest)
    assert left.bytes > 0
    assert store.delete(left.digest, before=FAR)
    assert list(store.stored()) == []


KILLED = """
import os, sys
import numpy as np
from everlearn.adapters.object_store import ObjectArtifacts
from everlearn.types import Bundle
store = ObjectArtifacts(sys.argv[1])
store._files.pipe_file = lambda *a, **k: os.kill(os.getpid(), 9)  # after the arrays, before the manifest
store.put(Bundle({}, {"a": np.zeros(1000)}))
"""


def test_a_kill_between_the_arrays_and_the_manifest(s3: str, moto: Moto) -> None:
    command = [sys.executable, "-c", KILLED, s3]
    environment = {**os.environ, **moto.environment}
    assert subprocess.run(command, env=environment, check=False, timeout=90).returncode == -9
    store = ObjectArtifacts(s3)
    (left,) = store.stored()
    assert not store.sound(left.digest)
    assert store.put(Bundle({}, {"a": np.zeros(1000)})) == left.digest
    assert store.get(left.digest).arrays["a"].shape == (1000,)


@pytest.mark.slow
def test_large_files_go_in_parts(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("s3fs")
    import s3fs

    calls: list[str] = []
    ask = s3fs.S3FileSystem._call_s3

    async def counted(self: Any, method: str, *arguments: Any, **named: Any) -> Any:
        calls.append(method)
        return await ask(self, method, *arguments, **named)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    store = ObjectArtifacts(s3)
    big = Bundle({}, {"a": np.zeros(14 << 20)})  # 112 MiB
    digest = store.put(big)
    assert calls.count("upload_part") == 3
    assert calls.count("complete_multipart_upload") == 1
    assert store.get(digest).arrays["a"].shape == (14 << 20,)


def test_what_was_verified_is_not_fetched_again(
    store: ObjectArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.put(make_bundle())
    assert store.sound(digest)
    monkeypatch.setattr(store, "_verified", lambda *_: pytest.fail("fetched"))
    assert store.sound(digest)


def test_a_delete_lets_go_of_what_is_put_meanwhile(
    store: ObjectArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The put comes after the first look of the delete, and before its second."""
    digest = store.put(make_bundle())
    files, _ = of(store)
    pipe, soon = files.pipe_file, time.time() + 1.5

    def raise_flag(path: str, *arguments: Any, **named: Any) -> None:
        if SWEEPING in path:
            time.sleep(max(0.0, soon - time.time()) + 1.0)
            pipe(f"{store._folder(digest)}/{MANIFEST}", files.cat_file(f"{store._folder(digest)}/{MANIFEST}"))
        pipe(path, *arguments, **named)

    monkeypatch.setattr(files, "pipe_file", raise_flag)
    assert not store.delete(digest, before=soon)
    assert store.sound(digest)


def test_a_put_waits_for_a_delete_and_writes_again(store: ObjectArtifacts) -> None:
    digest = store.put(make_bundle())
    files, root = of(store)
    flag = f"{root}/{SWEEPING}/{digest}/somebody"
    files.pipe_file(flag, b"delete")

    def finish() -> None:
        time.sleep(0.5)
        store._remove(digest, store._listed(digest))
        files.rm_file(flag)

    deleting = threading.Thread(target=finish)
    deleting.start()
    store.put(make_bundle())
    deleting.join()
    assert store.sound(digest)


@pytest.mark.parametrize("between", ["the look and the manifest", "the files and the manifest"])
def test_a_delete_in_the_middle_of_a_put_is_noticed(
    store: ObjectArtifacts, monkeypatch: pytest.MonkeyPatch, between: str
) -> None:
    """The whole delete, flag up and flag down, happens while the put is under way."""
    digest = store.put(make_bundle())
    if between == "the files and the manifest":
        files, root = of(store)
        files.rm_file(f"{root}/{digest[:2]}/{digest}/{MANIFEST}")
    write, times = store._write, []

    def write_late(name: str, unsent: Any) -> None:
        times.append(len(unsent))
        if len(times) == 1:
            if between == "the files and the manifest":
                write(name, {**unsent})
                store._ask(lambda: of(store)[0].rm_file(f"{store._folder(digest)}/{ARRAYS}"))
                return
            assert store.delete(digest, before=FAR)
        write(name, unsent)

    monkeypatch.setattr(store, "_write", write_late)
    assert store.put(make_bundle()) == digest
    assert times == [1 if between == "the look and the manifest" else 4, 4]
    assert same(store.get(digest), make_bundle())


def test_a_flag_that_nobody_takes_down_holds_nobody_up(
    store: ObjectArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "FLAG_SECONDS", 0.2)
    digest = store.put(make_bundle())
    files, root = of(store)
    files.pipe_file(f"{root}/{SWEEPING}/{digest}/somebody", b"delete")
    assert store.put(make_bundle()) == digest
    assert [held.digest for held in store.stored()] == [digest]
    assert files.find(f"{root}/{SWEEPING}") == []


# Copies on this machine


@pytest.fixture
def cached(s3: str, tmp_path: Path) -> ObjectArtifacts:
    return ObjectArtifacts(s3, ArtifactCache(tmp_path / "cache", 1 << 20))


def test_another_process_finds_the_copy(cached: ObjectArtifacts, tmp_path: Path) -> None:
    digest = cached.put(make_bundle())
    other = ObjectArtifacts("memory://nothing-there", ArtifactCache(tmp_path / "cache", 1 << 20))
    assert same(other.get(digest), make_bundle())
    folder = Path(str(cached.path(digest)))
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [ARRAYS, MANIFEST, "empty", "model.skops"]
    )


def test_a_path_is_fetched_if_need_be(cached: ObjectArtifacts, tmp_path: Path) -> None:
    digest = ObjectArtifacts(cached.url).put(make_bundle())
    assert cached.path(digest) == str(tmp_path / "cache" / digest[:2] / digest)
    assert cached.path("b" * 64) is None


def test_a_damaged_copy_is_fetched_again(cached: ObjectArtifacts) -> None:
    digest = cached.put(make_bundle())
    (Path(str(cached.path(digest))) / ARRAYS).write_bytes(b"")
    assert same(cached.get(digest), make_bundle())
    assert cached.sound(digest)
    assert (Path(str(cached.path(digest))) / ARRAYS).stat().st_size > 0


def test_copies_stay_within_their_limit(tmp_path: Path) -> None:
    bundles = [make_bundle(float(i), 1000) for i in range(12)]
    limit = 5 * 9_000
    store = ObjectArtifacts(f"memory://{uuid4().hex}", ArtifactCache(tmp_path / "cache", limit))
    folder = FolderArtifacts(tmp_path / "cache")
    digests = []
    for bundle in bundles:
        digests.append(store.put(bundle))
        for held in folder.stored():  # an hour passes
            os.utime(tmp_path / "cache" / held.digest[:2] / held.digest, (held.at - 3600, held.at - 3600))
    kept = {held.digest for held in folder.stored()}
    assert sum(held.bytes for held in folder.stored()) <= limit
    assert 3 <= len(kept) < 6
    assert kept == set(digests[-len(kept) :])
    assert all(same(store.get(digest), bundle) for digest, bundle in zip(digests, bundles, strict=True))


def test_what_someone_may_read_stays(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache", 10_000)
    store = ObjectArtifacts(f"memory://{uuid4().hex}", cache)
    digests = [store.put(make_bundle(float(i), 1000)) for i in range(3)]
    assert all(cache.get(digest) is not None for digest in digests)


def test_of_an_image_no_copy_is_kept(tmp_path: Path) -> None:
    """So that one which is removed by another machine is gone from this one as well."""
    url, here = f"memory://{uuid4().hex}", ArtifactCache(tmp_path / "cache", 1 << 20)
    store = ObjectArtifacts(url, here)
    digest = store.put(bundle_of(b"an image"))
    assert same(store.get(digest), bundle_of(b"an image"))
    assert here.get(digest) is None
    ObjectArtifacts(url).delete(digest)
    with pytest.raises(NotFoundError):
        store.get(digest)


def test_a_full_disk_only_costs_the_copy(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    store = ObjectArtifacts(f"memory://{uuid4().hex}", ArtifactCache(tmp_path / "cache", 1 << 20))
    digest = store.put(make_bundle())
    assert same(store.get(digest), make_bundle())


# When the store does not answer


@pytest.fixture
def down(monkeypatch: pytest.MonkeyPatch, s3: str) -> str:
    """The URL of a store that nobody serves."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setattr(object_store, "FIRST_WAIT", 0.01)
    return s3


def test_a_store_that_is_down_is_unavailable_and_copies_are_read(down: str, tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache", 1 << 20)
    digest = ObjectArtifacts(f"memory://{uuid4().hex}", cache).put(make_bundle())
    store = ObjectArtifacts(down, cache)
    assert same(store.get(digest), make_bundle())
    for ask in (
        lambda: store.get("b" * 64),
        lambda: store.put(make_bundle()),
        lambda: list(store.stored()),
        store.check,
    ):
        with pytest.raises(UnavailableError, match=f"The store {down} does not answer") as caught:
            ask()
        assert "that-must-not-be-told" not in str(caught.value)


def test_a_bucket_that_is_not_there_says_what_to_do(s3: str) -> None:
    store = ObjectArtifacts("s3://no-such-bucket-here/x")
    for ask in (lambda: store.get("b" * 64), lambda: store.put(make_bundle()), store.check):
        with pytest.raises(UnavailableError, match="make the bucket, or mend EVERLEARN_ARTIFACTS"):
            ask()


def test_no_credentials_say_what_to_do(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(UnavailableError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        ObjectArtifacts(s3).put(make_bundle())


def test_a_store_that_fails_twice_is_asked_again(
    store: ObjectArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "FIRST_WAIT", 0.01)
    digest = store.put(make_bundle())
    files, _ = of(store)
    cat, failures = files.cat_file, iter([OSError("reset by peer"), TimeoutError("slow")])

    def flaky(*arguments: Any, **named: Any) -> bytes:
        for error in failures:
            raise error
        return bytes(cat(*arguments, **named))

    monkeypatch.setattr(files, "cat_file", flaky)
    assert same(store.get(digest), make_bundle())


def test_an_unknown_kind_of_store_is_refused() -> None:
    with pytest.raises(InvalidError, match="EVERLEARN_ARTIFACTS: is of no kind that fsspec knows"):
        ObjectArtifacts("nosuch://bucket/prefix")


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'everlearn\[s3\]'"):
        ObjectArtifacts("s3://bucket/prefix")
