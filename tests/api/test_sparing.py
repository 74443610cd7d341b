"""A scikit-learn model answers without pandas, and whoever needs pandas gets it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CODE = """
import json, sys
from everlearn.api.sparing import PandasSpared, spare_pandas
from everlearn.predictor import Predictor
from everlearn.spec import parse_spec
from everlearn.types import Bundle

if {spared}:
    spare_pandas()
    spare_pandas()
spec = {{"name": "m", "target": "y", "features": {{"a": "numeric", "b": "categorical"}}}}
spec["learner"] = {{"name": "window", "estimator": "logistic", "size": 100}}
made = Predictor.new(parse_spec(spec))
rows = [{{"a": i / 10, "b": "xyz"[i % 3]}} for i in range(60)] + [{{"b": "x"}}]
made.learn(rows, ["yes" if row.get("a", 0) > 3 else "no" for row in rows])
again = Predictor.from_bundle(made.bundle(rows[:9]))
again.self_test()
answers = [output.probabilities for output in again.predict(rows)]
held = "pandas" in sys.modules
import pandas
from sklearn.utils._missing import is_pandas_na
told = [is_pandas_na(value) for value in (pandas.NA, float("nan"), None)]
finders = sum(isinstance(finder, PandasSpared) for finder in sys.meta_path)
print(json.dumps([answers, held, told, len(pandas.DataFrame(rows)), finders]))
"""


def told(spared: bool) -> list[object]:
    command = [sys.executable, "-c", CODE.format(spared=spared)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_the_same_answers_without_pandas_until_it_is_needed() -> None:
    answers, held, is_na, rows, finders = told(spared=True)
    assert (held, is_na, rows, finders) == (False, [True, False, False], 61, 1)
    with_pandas, held, *_ = told(spared=False)
    assert held  # else there is nothing to spare any more, and this can go
    assert answers == with_pandas
