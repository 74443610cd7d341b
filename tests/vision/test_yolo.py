"""YOLO11 itself: trained a little, grown, exported, and never unpickled."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everlearn.adapters.bundles import digest_of, encode_bundle
from everlearn.errors import IntegrityError, InvalidError
from everlearn.predictor import Predictor
from everlearn.spec import parse_spec
from everlearn.types import Bundle
from everlearn.vision import detectors, making, shapes
from everlearn.vision.boxes import same, to_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

for module in ("onnxruntime", "cv2", "ultralytics"):
    pytest.importorskip(module, reason="everlearn[vision] is not installed")

from everlearn.vision import network as nets  # noqa: E402
from everlearn.vision.yolo import Yolo  # noqa: E402

SMALL: dict[str, Any] = {"size": 64, "epochs": 1, "tune_epochs": 1, "batch": 4, "threads": 1}


def frames(first: int, count: int, **how: Any) -> tuple[list[Any], list[str]]:
    drawn = [shapes.draw(first + i, **how) for i in range(count)]
    return [frame.image for frame in drawn], [to_text(frame.boxes) for frame in drawn]


@pytest.fixture(scope="module")
def learned() -> Yolo:
    yolo = Yolo(**SMALL)
    yolo.learn(*frames(0, 12))
    return yolo


def test_what_onnx_runtime_answers_is_what_the_network_says(learned: Yolo) -> None:
    import onnxruntime
    import torch

    network = nets.build("yolo11n.yaml", len(learned.classes), 0)
    nets.put(network, learned.state()["weights"], range(len(learned.classes)))
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        theirs = network.eval()(images)[0].numpy()
    session = onnxruntime.InferenceSession(learned.state()["onnx"], providers=["CPUExecutionProvider"])
    (ours,) = session.run(None, {"images": images.numpy()})
    assert np.allclose(ours, theirs, atol=2e-3)


def test_the_same_frames_give_the_same_version(learned: Yolo) -> None:
    again = Yolo(**SMALL)
    again.learn(*frames(0, 12))
    assert again.state()["onnx"] == learned.state()["onnx"]
    for name, value in learned.state()["weights"].items():
        assert np.array_equal(value, again.state()["weights"][name]), name


def bundle_of(threads: int) -> Bundle:
    """A version that was trained on as many threads as PyTorch took."""
    spec = {"name": "m", "task": "detection", "target": "boxes", "features": {"frame": "image"}}
    predictor = Predictor.new(parse_spec({**spec, "learner": {"name": "yolo", **SMALL, "threads": 0}}))
    with making.threads(threads):
        predictor.learner.learn(*frames(0, 12))
    return predictor.bundle()


def test_a_version_is_made_again_with_as_many_threads_as_it_was_made(learned: Yolo) -> None:
    first, other = bundle_of(3), bundle_of(1)
    assert digest_of(encode_bundle(first)) != digest_of(encode_bundle(other)), "they add up in other parts"
    assert detectors.elsewhere(first) == ""
    with making.threads(1), detectors.as_made(first):
        again = bundle_of(0)
    assert digest_of(encode_bundle(again)) == digest_of(encode_bundle(first))
    state = first.manifest["learner"]["state"]
    assert (state["made_by"]["threads"], state["made_by"]["device"]) == ("3", "cpu")
    assert learned.state()["made_by"]["threads"] == "1"


ELSEWHERE = """
import sys
from everlearn.adapters.bundles import digest_of, encode_bundle
sys.path.insert(0, sys.argv[1])
from test_yolo import bundle_of
print(digest_of(encode_bundle(bundle_of(3))))
"""


def test_another_process_makes_the_same_version() -> None:
    """Whatever the order of its sets, and whatever it has done before."""
    mine = digest_of(encode_bundle(bundle_of(3)))
    command = [sys.executable, "-c", ELSEWHERE, str(Path(__file__).parent)]
    for seed in ("1", "2"):
        found = subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, check=True, timeout=300, capture_output=True
        )
        assert found.stdout.decode().strip() == mine


def test_a_version_says_what_file_it_began_from(learned: Yolo, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / "w.safetensors"
    save_file(learned.state()["weights"], path)
    begun = Yolo(**SMALL, weights=str(path))
    begun.learn(*frames(0, 4))
    made_by = begun.state()["made_by"]
    assert making.elsewhere(made_by, making.made_here(str(path))) == ""
    path.unlink()
    assert "and here is none" in making.elsewhere(made_by, making.made_here(str(path)))


def test_a_state_is_taken_over_and_another_size_is_refused(learned: Yolo) -> None:
    twin = Yolo(**SMALL)
    twin.restore(learned.state())
    images, _ = frames(50, 3)
    ours, theirs = learned.predict(images, 0.001), twin.predict(images, 0.001)
    assert ours == theirs
    assert same(to_text(ours[0]), to_text(copy.deepcopy(learned).predict(images, 0.001)[0]))
    with pytest.raises(IntegrityError, match="size 64, not for 96"):
        Yolo(**{**SMALL, "size": 96}).restore(learned.state())
    with pytest.raises(IntegrityError, match="not whole"):
        twin.restore({"size": 64, "classes": []})


def test_a_new_class_gets_a_row_and_the_old_ones_keep_theirs(learned: Yolo) -> None:
    """With a rate of next to nothing, so that what was learned is seen to be there still."""
    grown = Yolo(**{**SMALL, "tune_rate": 1e-12, "freeze": 11})
    grown.begin_from(learned)
    grown.learn(*frames(100, 8, names=(shapes.STAR,)))
    assert grown.classes == [*learned.classes, shapes.STAR]
    before, after = learned.state()["weights"], grown.state()["weights"]
    heads = [name for name in before if before[name].shape != after[name].shape]
    assert len(heads) == 6, "weights and biases of three scales"
    for name in heads:
        assert len(after[name]) == len(before[name]) + 1
        assert np.allclose(after[name][: len(before[name])], before[name], atol=1e-5)
    frozen = [name for name in before if int(name.split(".")[1]) < 11]
    assert all(np.array_equal(before[name], after[name]) for name in frozen), "norms, too"


def test_what_begins_anew_learns_so_many_frames_at_most(learned: Yolo) -> None:
    images, truths = frames(0, 12)
    bounded, other = Yolo(**SMALL, first=5), Yolo(**SMALL)
    bounded.learn(images, truths)
    places = [0, 8, 9, 10, 11]
    other.learn([images[i] for i in places], [truths[i] for i in places])
    assert bounded.state()["onnx"] == other.state()["onnx"] != learned.state()["onnx"]


def test_frames_without_boxes_alone_teach_nothing() -> None:
    with pytest.raises(InvalidError, match="No frame has a box"):
        Yolo(**SMALL).learn(frames(0, 2)[0], ["[]", "[]"])


def test_weights_are_tensors_from_a_file_and_nothing_is_unpickled(learned: Yolo, tmp_path: Path) -> None:
    import torch
    from safetensors.numpy import save_file

    weights = learned.state()["weights"]
    save_file(weights, tmp_path / "w.safetensors")
    torch.save({name: torch.from_numpy(value) for name, value in weights.items()}, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        read = nets.read_weights(str(tmp_path / name))
        assert {key: value.shape for key, value in read.items()} == {k: v.shape for k, v in weights.items()}
    mark = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (mark,))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"model": Evil()}, tmp_path / "model.pt")
    for name in ("evil.pt", "model.pt", "none.pt"):
        with pytest.raises(InvalidError, match=r"learner\.weights"):
            nets.read_weights(str(tmp_path / name))
    assert not mark.exists()
    begun = Yolo(**SMALL, weights=str(tmp_path / "w.safetensors"))
    begun.learn(*frames(0, 4))
    with pytest.raises(InvalidError, match=r"learner\.plan"):
        Yolo(**SMALL, plan="/etc/passwd").learn(*frames(0, 4))


ALONE = """
import sys
from pathlib import Path
import numpy as np
from everlearn.vision.session import Session

session = Session(Path(sys.argv[1]).read_bytes(), 64, ["a", "b", "c"])
found = session.detect([np.zeros((48, 64, 3), np.uint8)], 0.0001)
assert len(found) == 1
assert not {"torch", "ultralytics", "onnx"} & set(sys.modules), sorted(sys.modules)
assert "libtorch" not in Path("/proc/self/maps").read_text()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_answering_needs_no_pytorch(learned: Yolo, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(learned.state()["onnx"])
    subprocess.run([sys.executable, "-c", ALONE, str(tmp_path / "model.onnx")], check=True, timeout=120)
