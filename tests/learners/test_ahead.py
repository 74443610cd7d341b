"""Compiled ahead, warmed at start: no request waits for a compiler."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from everlearn import learners
from everlearn.errors import InvalidError
from everlearn.learners import ahead

# What each of everlearn's loops has compiled or loaded, and what the compiler was called for.
COUNT = """
import sys
import numpy as np
from numba.core import event
from numba.core.dispatcher import Dispatcher
from everlearn import learners
from everlearn.learners import ahead

class Compiled(event.Listener):
    def __init__(self):
        self.names = []
    def on_start(self, happened):
        self.names.append(happened.data["dispatcher"].__name__)
    def on_end(self, happened):
        pass

def loaded():
    found = {}
    for module in [m for name, m in sorted(sys.modules.items()) if name.startswith("everlearn.learners")]:
        for name, loop in vars(module).items():
            if isinstance(loop, Dispatcher):
                found[f"{loop.__module__}.{loop.__name__}"] = len(loop.signatures)
    return found
"""
LIVE = """
name, task, parameters, categorical = {name!r}, {task!r}, {parameters!r}, {categorical!r}
ahead.ready(name, task, categorical=bool(categorical), parameters=parameters)
before, heard = loaded(), Compiled()
assert sum(before.values()) > 2, before
event.register("numba:compile", heard)

rng = np.random.default_rng(1)
X = rng.normal(size=(400, 6))
y = X[:, 0] + X[:, 3] if task == "regression" else np.array(list("abcd"))[np.arange(400) % 4]
X[:, 2] = rng.integers(0, 5, 400)
X[::7, 1] = np.nan
X[11, 0] = np.inf
def new():
    return learners.build(name, task=task, categorical=categorical, **parameters)
learner = new()
learner.predict(X[:1])
learner.learn(X[:30], y[:30] if task == "regression" else y[:30:4].repeat(4)[:30])
for i in range(30, 40):
    learner.predict(X[i : i + 1])
    learner.learn(X[i : i + 1], y[i : i + 1])
learner.predict([X[0].tolist()])
learner.predict(X[40:47])
learner.learn(X[40:140], y[40:140], weights=rng.random(100))
learner.predict(np.asfortranarray(X))
learner.predict(X[::3, :])
frozen = X[140:150].copy()
frozen.flags.writeable = False
learner.predict(frozen)
learner.learn(frozen, y[140:150])
learner.predict(np.broadcast_to(X[0], (5, 6)))
learner.predict(X[:0])
learner.test_then_train(X[150:280], y[150:280], delay=0)
learner.test_then_train(X[280:330], y[280:330], delay=9)
asked = X[330:360]
learner.predict(asked)
learner.learn(asked, y[330:360])
other = new()
other.restore(learner.state())
assert np.array_equal(other.predict(X[360:]), learner.predict(X[360:]))
other.learn(X[360:], y[360:])
other.predict(X[:1])

after = loaded()
print("LOADED", {{key: after[key] for key in after if after[key] != before.get(key, 0)}})
print("COMPILED", heard.names)
"""


def fresh(code: str, **environment: str) -> str:
    """What a new process says to standard output."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task", "parameters", "categorical"),
    [
        ("blend", "classification", {}, (2,)),
        ("blend", "classification", {"budget": "fast"}, ()),
        ("blend", "regression", {}, (2,)),
        ("linear", "classification", {}, ()),
        ("ridge", "regression", {}, (2,)),
    ],
)
def test_a_warmed_learner_compiles_and_loads_nothing_more(name, task, parameters, categorical):
    code = COUNT + LIVE.format(name=name, task=task, parameters=parameters, categorical=categorical)
    assert fresh(code).split("\n")[:2] == ["LOADED {}", "COMPILED []"]


def test_the_count_would_see_a_loop_that_is_compiled():
    code = COUNT + (
        "import numpy as np\nfrom everlearn.learners.kernels import tidy\nheard = Compiled()\n"
        "event.register('numba:compile', heard)\nbefore = loaded()\n"
        "tidy.py_func.__defaults__ = None\n"
        "from numba import njit\nloop = njit(tidy.py_func)\nloop(np.zeros((1, 1)), 1e100)\n"
        "tidy(np.zeros((1, 1)), 1e100)\n"
        "print(heard.names[:1], loaded()['everlearn.learners.kernels.tidy'] - "
        "before['everlearn.learners.kernels.tidy'])"
    )
    assert fresh(code).strip() == "['tidy'] 1"


def test_ready_goes_through_a_life_once_a_process_and_passes_what_is_not_compiled(monkeypatch):
    lives = []
    monkeypatch.setattr(ahead, "warm", lambda *given, **parameters: lives.append((given, parameters)))
    ahead._warm_once.cache_clear()
    for _ in range(3):
        ahead.ready("linear", "regression", categorical=True, parameters={"seed": 3, "steps": [0.1]})
    ahead.ready("linear", "regression", categorical=False, parameters={})
    ahead.ready("window", "regression", categorical=False, parameters={})
    ahead._warm_once.cache_clear()
    assert lives == [
        (("linear", "regression", (1,)), {"seed": 3, "steps": [0.1]}),
        (("linear", "regression", ()), {}),
    ]


def test_a_parameter_that_is_refused_is_refused_when_warming_too():
    with pytest.raises(InvalidError, match="not a parameter"):
        ahead.ready("rates", "classification", categorical=False, parameters={"nothing": 1})


def test_every_learner_with_loops_is_compiled_ahead_for_both_tasks():
    lives = {(name, task) for name, task, _ in ahead._lives()}
    for name in set(learners.names()) & set(ahead.COMPILED):
        assert {(name, "classification"), (name, "regression")} <= lives


# -- what is kept on disk ------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A place for numba's cache, with one small learner to compile and nothing but its state on disk."""
    monkeypatch.setattr(ahead, "_folder", lambda: tmp_path)
    monkeypatch.setattr(ahead, "_lives", lambda: [("rates", "classification", {})])
    return tmp_path


def test_it_takes_no_time_when_nothing_has_changed(folder, monkeypatch, capsys):
    told = []
    assert ahead.needed()
    assert ahead.compile_all(told.append) == {}
    assert told == ["rates, classification (1 of 1)"]
    assert not ahead.needed()
    assert ahead.compile_all(told.append) == {}
    ahead.main()
    assert len(told) == 1
    assert capsys.readouterr().err == ""

    monkeypatch.setattr(ahead, "_digest", lambda: "other sources")
    assert ahead.needed()
    ahead.main()
    assert capsys.readouterr().err.count("\n") == 1
    assert not ahead.needed()


def test_what_was_compiled_from_other_sources_is_removed_but_not_what_was_just_begun(folder):
    old = folder / "kernels.tidy-1.py311.nbi"
    old.write_bytes(b"")
    mine = folder / "mine.txt"
    mine.write_text("mine")
    ahead.compile_all(lambda _: None)
    assert not old.exists()
    assert mine.exists()

    (folder / ahead._MARK).write_text(f"begun {ahead._digest()}")
    old.write_bytes(b"")
    assert ahead.needed()
    ahead.compile_all(lambda _: None)
    assert old.exists()
    assert not ahead.needed()


def test_a_learner_that_fails_keeps_no_other_from_being_compiled(folder, monkeypatch, capsys):
    warmed = []

    def warm(name, task, **parameters):
        warmed.append(name)
        if name == "linear":
            raise ValueError("broken")

    monkeypatch.setattr(ahead, "warm", warm)
    monkeypatch.setattr(ahead, "_lives", lambda: [(n, "regression", {}) for n in ("linear", "rates")])
    ahead.main()
    assert warmed == ["linear", "rates"]
    assert "linear could not be warmed: ValueError: broken" in capsys.readouterr().err
    assert ahead.needed()


def test_the_sources_are_what_it_is_keyed_by(tmp_path, monkeypatch):
    for file in ("a.py", "b.py"):
        (tmp_path / file).write_text("x = 1\n")
    monkeypatch.setattr(ahead, "_HERE", tmp_path)
    first = ahead._digest()
    (tmp_path / "b.py").touch()
    assert ahead._digest() == first
    (tmp_path / "b.py").write_text("x = 2\n")
    assert ahead._digest() != first


READ_ONLY = """
import os
from pathlib import Path
access = os.access
os.access = lambda path, mode, **rest: not (mode & os.W_OK and "site" in str(path)) and access(path, mode)
from numba.core import caching
caching.InTreeCacheLocator.ensure_cache_path = lambda self: (_ for _ in ()).throw(OSError("read-only"))
from everlearn.learners import ahead
ahead._lives = lambda: [("rates", "classification", {})]
print(ahead.__file__)
print(ahead.needed())
ahead.main()
print(ahead.needed(), ahead._folder())
"""


def test_a_read_only_installation_keeps_what_it_compiles_in_the_users_cache(tmp_path):
    package = Path(ahead.__file__).parents[1]
    site = tmp_path / "site"
    shutil.copytree(package, site / "everlearn", ignore=shutil.ignore_patterns("__pycache__", "*.nb[ic]"))
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "PYTHONPATH": str(site),
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "NUMBA_CACHE_DIR": "",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    where, before, after = fresh(READ_ONLY, **environment).splitlines()
    assert where.startswith(str(site))
    assert before == "True"
    assert after.startswith(f"False {home / 'cache'}")
    assert list((home / "cache").rglob("rates*.nbc"))
    assert not list(site.rglob("*.nbc"))


def test_one_process_compiles_at_a_time(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom everlearn.learners import ahead\n"
        f"with ahead._alone(Path({str(tmp_path)!r})):\n"
        "    began = time.time()\n    time.sleep(0.3)\n    print(began, time.time())\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    spans = sorted(tuple(float(t) for t in process.communicate()[0].split()) for process in both)
    assert spans[0][1] <= spans[1][0]


def test_a_learner_answers_rows_of_any_layout_alike():
    X = np.random.default_rng(0).normal(size=(60, 4))
    learner = learners.build("linear")
    learner.learn(X, np.arange(60) % 3)
    wanted = learner.predict(X)
    frozen = X.copy()
    frozen.flags.writeable = False
    odd = np.frombuffer(b"x" + X.tobytes(), dtype=np.float64, offset=1).reshape(X.shape)
    for same in (np.asfortranarray(X), frozen, odd, X.astype(">f8"), X.tolist()):
        assert np.array_equal(learner.predict(same), wanted)
