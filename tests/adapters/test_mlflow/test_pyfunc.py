"""A version that MLflow loads answers as everlearn serves it, where there is only MLflow and pandas."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from everlearn.adapters.mlflow_pyfunc import _load_pyfunc
from everlearn.errors import IntegrityError, SchemaError
from everlearn.features.schema import Schema

mlflow = pytest.importorskip("mlflow")

CLEAN_PROCESS = """
import json, sys
import mlflow
import pandas as pd

uri, name, file = sys.argv[1:]
mlflow.set_tracking_uri(uri)
model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
answers = model.predict(pd.DataFrame(json.load(open(file))))
print(json.dumps({"columns": list(answers.columns), "rows": answers.values.tolist()}))
"""


@pytest.fixture
def quiet() -> Iterator[None]:
    """MLflow's own deprecations are not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def served(world: Any, number: int, rows: list[dict[str, Any]], model: str = "spam") -> list[Any]:
    """The outputs that serving gives, by the version's own predictor."""
    schema = Schema.from_spec(world.store.models.get(model))
    return list(world.predictors[model, number].predict(schema.check(rows).rows))


def mirrored(world: Any, uri: str) -> str:
    """Mirror all there is; returns the champion's artifact folder."""
    world.dispatcher(world.registry(uri)).run_once()
    assert world.store.outbox.waiting("registry") == 0
    return str(mlflow.MlflowClient(uri, uri).get_model_version_by_alias("spam", "champion").source)


def check_same(answers: pd.DataFrame, outputs: list[Any]) -> None:
    assert answers["value"].tolist() == [output.value for output in outputs]
    for name in outputs[0].probabilities:
        expected = [output.probabilities[name] for output in outputs]
        np.testing.assert_allclose(answers[f"probability_{name}"], expected, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_a_clean_process_gives_the_served_probabilities(world: Any, uri: str, tmp_path: Path) -> None:
    world.train(1)
    world.train(2)
    world.promote(2)
    mirrored(world, uri)
    rows = [
        {"length": n, "colour": colour, "shouts": shouts, "sent": "2026-01-31T12:00:00Z", "extra": 1}
        for n in (0, 3, 6)
        for colour, shouts in (("red", True), (None, None), ("unseen", False))
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    done = subprocess.run(
        [sys.executable, "-c", CLEAN_PROCESS, uri, "spam", str(tmp_path / "rows.json")],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout.splitlines()[-1])
    assert printed["columns"] == ["value", "probability_spam", "probability_ham"]
    check_same(pd.DataFrame(printed["rows"], columns=printed["columns"]), served(world, 2, rows))


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"length": [1, 2], "colour": ["red", None], "shouts": [True, None]}),
        pd.DataFrame({"length": [1.5, np.nan], "colour": [7, 7], "shouts": [0, 1]}, index=[10, 3]),
        pd.DataFrame(
            {"length": np.array([1, 6], dtype="int8"), "sent": pd.to_datetime(["2026-01-01", None])}
        ),
        pd.DataFrame({"colour": pd.Categorical(["red", "blue"]), "sent": [1e9, np.nan]}),
        pd.DataFrame(
            {"shouts": pd.array([True, None], dtype="boolean"), "length": pd.array([1, None], "Int64")}
        ),
    ],
    ids=["ints, text and None", "floats and 0/1", "small ints and dates", "categories", "pandas' own types"],
)
def test_what_serving_takes_and_what_it_takes_as_missing(
    world: Any, uri: str, frame: pd.DataFrame, quiet: None
) -> None:
    world.train(1)
    world.promote(1)
    model = mlflow.pyfunc.load_model(mirrored(world, uri))
    answers = model.predict(frame)
    assert answers.index.tolist() == frame.index.tolist()
    check_same(answers, served(world, 1, frame.to_dict(orient="records")))


def test_a_row_that_serving_refuses_is_refused(world: Any, uri: str, quiet: None) -> None:
    world.train(1)
    world.promote(1)
    model = mlflow.pyfunc.load_model(mirrored(world, uri))
    with pytest.raises(SchemaError, match=r"rows\[0\]\.length"):
        model.predict(pd.DataFrame({"length": ["long"]}))


def test_regression_and_numbered_classes_keep_their_types(world: Any, uri: str, quiet: None) -> None:
    rows = [{"x": float(i % 5), "k": i % 2} for i in range(60)]
    features = {"x": "numeric", "k": "numeric"}
    world.create(name="price", task="regression", features=features)
    world.train(1, "price", rows, [2.0 * row["x"] for row in rows])
    world.create(name="digit", features=features)
    world.train(1, "digit", rows, [int(row["x"]) % 3 for row in rows])
    world.dispatcher(world.registry(uri)).run_once()
    client = mlflow.MlflowClient(uri, uri)
    price, digit = (
        mlflow.pyfunc.load_model(client.get_model_version(name, 1).source) for name in ("price", "digit")
    )
    frame = pd.DataFrame(rows[:7])
    assert price.predict(frame).columns.tolist() == ["value"]
    expected = [output.value for output in served(world, 1, rows[:7], "price")]
    np.testing.assert_allclose(price.predict(frame)["value"], expected, rtol=0, atol=1e-9)
    answers = digit.predict(frame)
    assert sorted(answers.columns) == ["probability_0", "probability_1", "probability_2", "value"]
    assert answers["value"].dtype == np.int64


def test_the_model_describes_itself_and_needs_only_everlearn(world: Any, uri: str, quiet: None) -> None:
    from everlearn import __version__

    world.train(1)
    world.promote(1)
    source = mirrored(world, uri)
    info = mlflow.models.get_model_info(source)
    assert info.signature.inputs.input_names() == ["colour", "length", "sent", "shouts"]
    assert info.signature.outputs.input_names() == ["value", "probability_spam", "probability_ham"]
    assert info.metadata["everlearn"]["features"]["sent"] == "timestamp"
    folder = Path(source.removeprefix("file://"))
    assert f"everlearn=={__version__}" in (folder / "requirements.txt").read_text().split()
    assert not [item for item in folder.rglob("*") if item.suffix in (".pkl", ".pickle", ".joblib")]


def test_a_changed_artifact_does_not_load(world: Any, tmp_path: Path) -> None:
    world.train(1)
    digest = str(world.store.versions.get("spam", 1).digest)
    good = Path(str(world.artifacts.path(digest)))
    assert _load_pyfunc(str(good)).predictor.spec.name == "spam"

    changed = tmp_path / "changed" / digest
    shutil.copytree(good, changed)
    data = bytearray((changed / "arrays.safetensors").read_bytes())
    data[-1] ^= 1
    (changed / "arrays.safetensors").chmod(0o600)
    (changed / "arrays.safetensors").write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match=r"arrays\.safetensors"):
        _load_pyfunc(str(changed))

    renamed = tmp_path / "renamed" / "data"
    shutil.copytree(good, renamed)
    with pytest.raises(IntegrityError, match="digest"):
        _load_pyfunc(str(renamed))
