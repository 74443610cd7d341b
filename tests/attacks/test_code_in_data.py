"""What is stored or sent is data: it is never run, unpickled, or unpacked into files.

Guards: there is no such call in the source (walked here), the import contract "Nothing is pickled", digests
before parsing in ``adapters/bundles.py``, and the list of types and the check of sizes in
``learners/skops_files.py``. Damaged files are in ``tests/adapters/test_artifacts.py``, forged estimators
also in ``tests/learners/test_window.py``.
"""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from everlearn.adapters.artifacts import FolderArtifacts
from everlearn.adapters.bundles import ARRAYS, MANIFEST, decode_bundle, encode_bundle
from everlearn.errors import IntegrityError
from everlearn.learners import skops_files
from everlearn.types import Bundle

MODULES = {
    "pickle", "_pickle", "joblib", "dill", "cloudpickle", "marshal", "shelve", "tarfile", "xml", "runpy",
}  # fmt: skip
CALLS = {
    "eval", "exec", "compile", "__import__", "literal_eval", "unpack_archive", "extractall", "read_pickle",
    "to_pickle", "unsafe_load", "full_load", "load_all", "os.system", "os.popen",
}  # fmt: skip
LOADS = {"np.load", "numpy.load", "yaml.load", "torch.load"}
KEYWORDS = {"allow_pickle=True", "shell=True"}
ZIPS = {"learners/skops_files.py"}
"""The one place that opens an archive, in memory."""


class Bomb:
    """Writes a file if anyone ever unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def bomb(tmp_path: Path) -> Any:
    """A pickle that leaves a mark, and the check at the end that it did not."""
    mark = tmp_path / "it-ran"
    yield pickle.dumps(Bomb(mark))
    assert not mark.exists()


def sources(root: Path) -> list[tuple[str, ast.AST]]:
    folder = root / "src" / "everlearn"
    return [
        (str(path.relative_to(folder)), ast.parse(path.read_text())) for path in sorted(folder.rglob("*.py"))
    ]


def called(node: ast.Call) -> set[str]:
    """The names under which a call may be known: ``pd.read_pickle`` and ``read_pickle``.

    Not ``network.eval()``, by which PyTorch ends training, nor ``torch.load`` of tensors alone.
    """
    text = ast.unparse(node.func)
    if isinstance(node.func, ast.Attribute) and node.func.attr == "eval" and not node.args:
        return set()
    if text == "torch.load" and "weights_only=True" in map(ast.unparse, node.keywords):
        return set()
    return {text} if text == "re.compile" else {text, text.rpartition(".")[2]}


def found_in(trees: list[tuple[str, ast.AST]]) -> set[tuple[str, str]]:
    """Every forbidden import and call, with its file."""
    found = set()
    for name, tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Call):
                found |= {(name, one) for one in called(node) & (CALLS | LOADS) - {"re.compile"}}
                found |= {(name, one) for one in map(ast.unparse, node.keywords) if one in KEYWORDS}
                continue
            else:
                continue
            found |= {(name, one) for one in names if one in MODULES or one.partition(".")[0] in MODULES}
            if any(one.partition(".")[0] == "zipfile" for one in names) and name not in ZIPS:
                found.add((name, "zipfile"))
    return found


@pytest.mark.slow
def test_the_source_runs_unpickles_and_unpacks_nothing(root: Path) -> None:
    assert found_in(sources(root)) == set()


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from joblib import load", "import tarfile", "import zipfile", "eval(x)", "exec(x)",
        "yaml.load(x)", "np.load(x)", "np.load(x, allow_pickle=True)", "shutil.unpack_archive(x)",
        "pd.read_pickle(x)", "torch.load(x)",
        "torch.load(x, weights_only=False)", "pd.eval(x)",
        "subprocess.run(x, shell=True)", "archive.extractall(x)", "os.system(x)",
        "__import__(x)", "compile(x, y, z)",
    ],
)  # fmt: skip
def test_the_walk_would_see_it(line: str) -> None:
    assert found_in([("planted.py", ast.parse(line))])


def test_a_pickle_in_the_place_of_arrays_is_not_unpickled(bomb: bytes, tmp_path: Path) -> None:
    """With digests that are right: whoever can write the folder can write those too. Guard: safetensors."""
    for data in (bomb, npy(bomb), npz(bomb)):
        files = encode_bundle(Bundle({"format": 1}))
        files[ARRAYS] = data
        manifest = json.loads(files[MANIFEST])
        manifest["files"][ARRAYS] = {"bytes": len(data), "sha256": sha256(data).hexdigest()}
        files[MANIFEST] = json.dumps(manifest).encode()
        digest = sha256(files[MANIFEST]).hexdigest()
        folder = tmp_path / "artifacts" / digest[:2] / digest
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        with pytest.raises(IntegrityError, match=ARRAYS):
            FolderArtifacts(tmp_path / "artifacts").get(digest)


def npy(payload: bytes) -> bytes:
    """The header of an array of objects, and a pickle in the place of its values."""
    out = io.BytesIO()
    np.save(out, np.array([None], dtype=object), allow_pickle=True)
    return out.getvalue()[:128] + payload


def npz(payload: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.npy", npy(payload))
    return out.getvalue()


def estimator_file(**parts: Any) -> bytes:
    """A skops file made by hand."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "."), content)
    return out.getvalue()


def schema(node: dict[str, Any]) -> str:
    return json.dumps({"__id__": 1, "protocol": 3, "_skops_version": "0.13.0", **node})


@pytest.mark.parametrize(
    "kind", ["a pickle", "a pickle in a zip", "an array of objects", "a type", "a function"]
)
def test_no_stored_estimator_runs_anything(bomb: bytes, kind: str, tmp_path: Path) -> None:
    """CVE-2025-54412 and its like. Guard: ``skops_files.load`` trusts the types of one fixed list."""
    mark = str(tmp_path / "it-ran")
    array = {"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode", "type": "numpy"}
    popen = {
        "__class__": "Popen",
        "__module__": "subprocess",
        "__loader__": "ObjectNode",
        "args": [f"touch {mark}"],
    }
    system = {"__class__": "function", "__module__": "os", "__loader__": "FunctionNode"}
    system["content"] = {"function": "system", "module_path": "os"}
    data = {
        "a pickle": bomb,
        "a pickle in a zip": estimator_file(schema__json=bomb, model__pkl=bomb),
        "an array of objects": estimator_file(
            schema__json=schema({**array, "file": "a.npy"}), a__npy=npy(bomb)
        ),
        "a type": estimator_file(schema__json=schema(popen)),
        "a function": estimator_file(schema__json=schema(system)),
    }[kind]
    with pytest.raises(IntegrityError):
        skops_files.load(data)


def test_nothing_of_an_estimator_file_is_written_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zip traversal: members are read by name in memory, so where they would go does not matter."""
    monkeypatch.chdir(tmp_path)
    good = skops_files.dump(LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good)) as source, zipfile.ZipFile(out, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, source.read(name))
        for name in ("../outside", "/tmp/outside-of-everlearn", "..\\outside"):
            archive.writestr(name, b"planted")
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert skops_files.load(out.getvalue()).classes_.tolist() == [0, 1]
    assert list(tmp_path.iterdir()) == []
    assert not (tmp_path.parent / "outside").exists()
    assert not Path("/tmp/outside-of-everlearn").exists()


def test_a_bomb_of_an_estimator_is_not_unpacked() -> None:
    """A few kB that become gigabytes. Guard: ``skops_files`` adds the stated sizes up first."""
    data = estimator_file(schema__json="{}", a__npy=bytes(300 * 2**20))
    assert len(data) < 2**20
    with pytest.raises(IntegrityError, match="when it is unpacked"):
        skops_files.load(data)


def test_a_damaged_file_is_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guard: ``decode_bundle`` verifies every file before any is read: a parser is itself open to attack."""
    parsed: list[bytes] = []
    monkeypatch.setattr("everlearn.adapters.bundles._decode_arrays", parsed.append)
    files = encode_bundle(Bundle({"format": 1}, {"w": np.zeros(3)}, {"model.skops": b"x"}))
    digest = sha256(files[MANIFEST]).hexdigest()
    for name in files:
        harmed = bytes([files[name][0] ^ 1]) + files[name][1:]
        with pytest.raises(IntegrityError, match=name):
            decode_bundle({**files, name: harmed}, digest=digest)
    assert parsed == []
