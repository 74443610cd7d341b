from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from everlearn.adapters.artifacts import STALE_SECONDS, TEMPORARY, FolderArtifacts
from everlearn.adapters.bundles import ARRAYS, DTYPES, MANIFEST, decode_bundle, digest_of, encode_bundle
from everlearn.errors import IntegrityError, InvalidError, NotFoundError, UnavailableError
from everlearn.types import Bundle

NAN = np.uint64(0x7FF8_0000_DEAD_BEEF)


def make_bundle(scale: float = 1.0) -> Bundle:
    arrays = {"weights": np.arange(6.0).reshape(2, 3) * scale, "seen": np.array([True, False])}
    return Bundle({"format": 1, "classes": ["é", 2]}, arrays, {"model.skops": b"bytes"})


def same(a: Bundle, b: Bundle) -> bool:
    """Equal to the bit."""
    return (
        a.manifest == b.manifest
        and a.files == b.files
        and a.arrays.keys() == b.arrays.keys()
        and all(
            a.arrays[name].dtype == b.arrays[name].dtype
            and a.arrays[name].shape == b.arrays[name].shape
            and a.arrays[name].tobytes() == b.arrays[name].tobytes()
            for name in a.arrays
        )
    )


def leftovers(root: Path) -> list[str]:
    return [str(path) for path in root.rglob("*") if path.name != TEMPORARY and TEMPORARY in path.parts]


@pytest.fixture
def artifacts(tmp_path: Path) -> FolderArtifacts:
    return FolderArtifacts(tmp_path / "artifacts")


# The files of a bundle

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
arrays = npst.arrays(
    st.sampled_from(sorted(DTYPES)).map(np.dtype),
    npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
bundles = st.builds(
    Bundle,
    st.dictionaries(st.text().filter(lambda key: key != "files"), json_values, max_size=4),
    st.dictionaries(st.text(max_size=8), arrays, max_size=3),
    st.dictionaries(st.from_regex(r"\A[a-z][a-z0-9._-]{0,9}\Z"), st.binary(max_size=40), max_size=3),
)


@settings(max_examples=60)
@given(bundle=bundles)
def test_a_bundle_comes_back_bit_for_bit(bundle: Bundle) -> None:
    files = encode_bundle(bundle)
    back = decode_bundle(files, digest=digest_of(files))
    assert same(bundle, back)
    assert encode_bundle(back) == files
    assert all(array.flags.writeable for array in back.arrays.values())


def test_order_and_layout_do_not_change_the_bytes() -> None:
    a = Bundle(
        {"x": 1, "y": {"b": 2, "a": 3}}, {"u": np.eye(3, 2), "v": np.arange(4)}, {"f": b"1", "g": b"2"}
    )
    b = Bundle(
        {"y": {"a": 3, "b": 2}, "x": 1},
        {"v": np.arange(8)[::2] // 2, "u": np.asfortranarray(np.eye(3, 2)).astype(">f8")},
        {"g": b"2", "f": bytearray(b"1")},
    )
    assert encode_bundle(a) == encode_bundle(b)


def test_bits_of_floats_are_kept() -> None:
    array = np.array([0x8000_0000_0000_0000, NAN, 0x7FF0_0000_0000_0000, 1], dtype=np.uint64).view(np.float64)
    back = decode_bundle(encode_bundle(Bundle({}, {"a": array})))
    assert back.arrays["a"].view(np.uint64).tolist() == array.view(np.uint64).tolist()


def test_the_digest_covers_everything() -> None:
    digests = {
        digest_of(encode_bundle(bundle))
        for bundle in (
            make_bundle(),
            make_bundle(2.0),
            Bundle({**make_bundle().manifest, "format": 2}, make_bundle().arrays, make_bundle().files),
            Bundle(make_bundle().manifest, make_bundle().arrays, {"model.skops": b"other"}),
            Bundle(make_bundle().manifest, make_bundle().arrays, {"renamed.skops": b"bytes"}),
        )
    }
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("bundle", "field", "fix"),
    [
        (Bundle({}, {"a": np.array(["x"])}), "arrays['a']", "keep text and labels as lists"),
        (Bundle({}, {"a": np.array([None])}), "arrays['a']", "keep text and labels as lists"),
        (Bundle({}, {"a": np.array([1j])}), "arrays['a']", "use numbers"),
        (Bundle({}, {"a": np.array(["2024"], dtype="M8[s]")}), "arrays['a']", "use numbers"),
        (Bundle({}, {"__metadata__": np.zeros(1)}), "arrays['__metadata__']", "rename it"),
        (Bundle({"a": float("nan")}), "manifest", "is not JSON"),
        (Bundle({"a": b"x"}), "manifest", "keep arrays and bytes out"),
        (Bundle({"files": {}}), "manifest.files", "use another key"),
        *(
            (Bundle({}, {}, {name: b""}), f"files[{name!r}]", "use letters")
            for name in ("../x", "a/b", "a\\b", "", ".", ".hidden", "a\n", "C:x", "\x00")
        ),
        (Bundle({}, {}, {"Manifest.json": b""}), "files['Manifest.json']", "rename it"),
        (Bundle({}, {}, {ARRAYS: b""}), f"files['{ARRAYS}']", "rename it"),
        (Bundle({}, {}, {"a": b"", "A": b""}), "files['a']", "rename it"),
    ],
)
def test_what_cannot_be_stored_says_the_fix(bundle: Bundle, field: str, fix: str) -> None:
    with pytest.raises(InvalidError, match=fix) as caught:
        encode_bundle(bundle)
    assert [fault.field for fault in caught.value.faults] == [field]


# The folder

SAME_DIGEST = """
import sys
import numpy as np
from pathlib import Path
from everlearn.adapters.artifacts import FolderArtifacts
from everlearn.types import Bundle
bundle = Bundle(
    {"classes": ["é", 2], "format": 1},
    {"seen": np.array([True, False]), "weights": np.arange(6.0).reshape(2, 3)},
    {"model.skops": b"bytes"},
)
print(FolderArtifacts(Path(sys.argv[1])).put(bundle))
"""


def test_put_and_get(artifacts: FolderArtifacts) -> None:
    digest = artifacts.put(make_bundle())
    assert same(artifacts.get(digest), make_bundle())
    folder = artifacts.root / digest[:2] / digest
    assert artifacts.path(digest) == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == [ARRAYS, MANIFEST, "model.skops"]
    assert sha256((folder / MANIFEST).read_bytes()).hexdigest() == digest
    assert leftovers(artifacts.root) == []


def test_another_process_gives_the_same_digest(artifacts: FolderArtifacts, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SAME_DIGEST, str(tmp_path / "other")]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert made == artifacts.put(make_bundle())


def test_putting_again_writes_nothing(artifacts: FolderArtifacts) -> None:
    digest = artifacts.put(make_bundle())
    manifest = Path(str(artifacts.path(digest))) / MANIFEST
    before = manifest.stat()
    assert artifacts.put(make_bundle()) == digest
    assert (manifest.stat().st_ino, manifest.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_putting_again_replaces_what_is_damaged(artifacts: FolderArtifacts) -> None:
    digest = artifacts.put(make_bundle())
    (Path(str(artifacts.path(digest))) / ARRAYS).write_bytes(b"")
    assert artifacts.put(make_bundle()) == digest
    assert same(artifacts.get(digest), make_bundle())
    assert leftovers(artifacts.root) == []


def test_delete(artifacts: FolderArtifacts) -> None:
    digest, kept = artifacts.put(make_bundle()), artifacts.put(make_bundle(2.0))
    artifacts.delete(digest)
    artifacts.delete(digest)
    assert artifacts.path(digest) is None
    with pytest.raises(NotFoundError, match=digest):
        artifacts.get(digest)
    assert same(artifacts.get(kept), make_bundle(2.0))
    assert leftovers(artifacts.root) == []


@pytest.mark.parametrize(
    "digest", ["", "..", "../../etc", "a" * 63, "A" * 64, "a" * 64 + "\n", "/" + "a" * 63, "é" * 64]
)
def test_only_digests_name_artifacts(artifacts: FolderArtifacts, digest: str) -> None:
    outside = artifacts.root.parent / "outside"
    outside.mkdir()
    artifacts.put(make_bundle())
    with pytest.raises(NotFoundError):
        artifacts.get(digest)
    assert artifacts.path(digest) is None
    artifacts.delete(digest)
    assert outside.exists()


def damage_truncate(folder: Path, name: str) -> str:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1])
    return name


def damage_flip(folder: Path, name: str) -> str:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    return name


def damage_remove(folder: Path, name: str) -> str:
    (folder / name).unlink()
    return name


def damage_link(folder: Path, name: str) -> str:
    elsewhere = folder.parent.parent.parent / "elsewhere"
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    return name


def damage_folder(folder: Path, name: str) -> str:
    (folder / name).unlink()
    (folder / name).mkdir()
    return name


def damage_extra(folder: Path, name: str) -> str:
    (folder / f"{name}.bak").write_bytes(b"")
    return f"{name}.bak"


@pytest.mark.parametrize("name", [MANIFEST, ARRAYS, "model.skops"])
@pytest.mark.parametrize(
    "damage", [damage_truncate, damage_flip, damage_remove, damage_link, damage_folder, damage_extra]
)
def test_damage_is_found_and_named(artifacts: FolderArtifacts, damage: Any, name: str) -> None:
    digest = artifacts.put(make_bundle())
    at_fault = damage(Path(str(artifacts.path(digest))), name)
    with pytest.raises(IntegrityError, match=rf"{digest[:12]}….*\b{at_fault}"):
        artifacts.get(digest)


def test_a_link_in_place_of_the_folder_is_refused(artifacts: FolderArtifacts) -> None:
    digest = artifacts.put(make_bundle())
    folder = Path(str(artifacts.path(digest)))
    folder.rename(artifacts.root.parent / "moved")
    folder.symlink_to(artifacts.root.parent / "moved")
    with pytest.raises(IntegrityError, match="is not a folder"):
        artifacts.get(digest)
    artifacts.delete(digest)
    assert (artifacts.root.parent / "moved" / MANIFEST).exists()
    assert artifacts.path(digest) is None


@pytest.mark.parametrize(
    "listing",
    [
        b"[]",
        b"{",
        b'{"files": 3}',
        b'{"files": {}}',
        b'{"files": {"arrays.safetensors": {}}}',
        b'{"files": {"../up": {"bytes": 1, "sha256": ""}}}',
        b'{"files": {"manifest.json": {"bytes": 1, "sha256": ""}}}',
    ],
)
def test_a_manifest_with_a_true_digest_but_no_proper_list_is_refused(
    artifacts: FolderArtifacts, listing: bytes
) -> None:
    digest = sha256(listing).hexdigest()
    folder = artifacts.root / digest[:2] / digest
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(listing)
    with pytest.raises(IntegrityError, match=r"manifest\.json"):
        artifacts.get(digest)


def test_arrays_of_another_format_are_refused_and_never_unpickled() -> None:
    files = encode_bundle(make_bundle())
    files[ARRAYS] = b"\x80\x04cos\nsystem\n"
    entry = f'"bytes":{len(files[ARRAYS])},"sha256":"{sha256(files[ARRAYS]).hexdigest()}"'
    files = {MANIFEST: f'{{"files":{{"{ARRAYS}":{{{entry}}}}}}}'.encode(), ARRAYS: files[ARRAYS]}
    with pytest.raises(IntegrityError, match=ARRAYS):
        decode_bundle(files)


def test_old_temporary_folders_are_removed_and_young_ones_are_not(artifacts: FolderArtifacts) -> None:
    for name, age in (("old", STALE_SECONDS + 60), ("young", 0.0)):
        folder = artifacts.root / TEMPORARY / name
        folder.mkdir(parents=True)
        (folder / MANIFEST).write_bytes(b"half")
        os.utime(folder, (time.time() - age, time.time() - age))
    artifacts.put(make_bundle())
    assert [path.name for path in (artifacts.root / TEMPORARY).iterdir()] == ["young"]


def test_many_writers_of_one_bundle(artifacts: FolderArtifacts) -> None:
    start = threading.Barrier(8)
    digests: list[str] = []

    def put() -> None:
        start.wait()
        digests.append(FolderArtifacts(artifacts.root).put(make_bundle()))

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 8
    assert len(set(digests)) == 1
    assert same(artifacts.get(digests[0]), make_bundle())
    assert leftovers(artifacts.root) == []


FULL_DISK = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from everlearn.adapters.artifacts import FolderArtifacts
from everlearn.errors import UnavailableError
from everlearn.types import Bundle
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
artifacts = FolderArtifacts(Path(sys.argv[1]))
bundle = Bundle({}, {"a": np.zeros(100_000)})
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))
try:
    artifacts.put(bundle)
except UnavailableError as error:
    print("refused", "File too large" in str(error))
print([str(p) for p in artifacts.root.rglob("*") if p.name != ".tmp"])
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
print(artifacts.get(artifacts.put(bundle)).arrays["a"].shape)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_leaves_nothing_half_done(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "artifacts")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["refused True", "[]", "(100000,)"]


KILLED = """
import os, sys
import numpy as np
from pathlib import Path
from everlearn.adapters import artifacts
from everlearn.types import Bundle
artifacts._sync_folder = lambda folder: os.kill(os.getpid(), 9)
artifacts.FolderArtifacts(Path(sys.argv[1])).put(Bundle({}, {"a": np.zeros(10)}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_kill_in_the_middle_leaves_only_a_temporary_folder(tmp_path: Path) -> None:
    artifacts = FolderArtifacts(tmp_path / "artifacts")
    assert subprocess.run([sys.executable, "-c", KILLED, str(artifacts.root)], check=False).returncode == -9
    assert [path.name for path in artifacts.root.iterdir()] == [TEMPORARY]
    assert len(leftovers(artifacts.root)) > 0
    digest = artifacts.put(Bundle({}, {"a": np.zeros(10)}))
    assert artifacts.get(digest).arrays["a"].shape == (10,)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_that_cannot_be_written_is_unavailable(artifacts: FolderArtifacts) -> None:
    artifacts.root.mkdir(mode=0o500)
    with pytest.raises(UnavailableError, match="make it writable"):
        artifacts.put(make_bundle())


def test_a_file_in_place_of_the_root_is_unavailable(artifacts: FolderArtifacts) -> None:
    artifacts.root.write_text("in the way")
    with pytest.raises(UnavailableError, match="could not be stored"):
        artifacts.put(make_bundle())
