"""What networks are made of, and that each method does what its paper says."""

from functools import partial

import numpy as np
import pytest

from everlearn.errors import IntegrityError, InvalidError
from everlearn.learners import build
from everlearn.learners.states import same, stored

torch = pytest.importorskip("torch", reason="needs the extra torch", exc_type=ImportError)

from everlearn.learners.networks.buffers import Balanced, Reservoir  # noqa: E402
from everlearn.learners.networks.modules import Headed, Mlp, ResNet  # noqa: E402

SMALL = {"network_parameters": {"hidden": [16]}, "boundary": "told"}


def tasks(count=3, rows=150, seed=0):
    """Two classes a task, each a cloud of its own in ten columns."""
    rng = np.random.default_rng(seed)
    centres = 4.0 * rng.normal(size=(2 * count, 10))
    for task in range(count):
        y = rng.integers(2 * task, 2 * task + 2, rows)
        yield centres[y] + rng.normal(size=(rows, 10)), y


def taught(name, **more):
    learner = build(name, **SMALL, **more)
    for X, y in tasks():
        learner.learn(X, y)
        learner.end_task()
    return learner


def accuracy(learner, X, y):
    return float((np.array(learner.classes)[learner.predict(X).argmax(axis=1)] == y).mean())


# -- buffers -----------------------------------------------------------------------------------------


def test_a_reservoir_keeps_every_row_as_likely():
    kept = np.zeros(300)
    for seed in range(300):
        buffer = Reservoir(30, 1)
        rows = np.arange(300.0)[:, None]
        for at in range(0, 300, 7):
            buffer.add(np.random.default_rng([seed, at]), rows[at : at + 7], rows[at : at + 7, 0])
        kept[buffer.targets.astype(int)] += 1
    thirds = kept.reshape(3, 100).sum(axis=1) / (300 * 30)
    np.testing.assert_allclose(thirds, 1 / 3, atol=0.02)


def test_a_balanced_buffer_has_as_many_of_a_rare_class():
    buffer = Balanced(60, 1, classes=10)
    labels = np.r_[np.zeros(500), np.ones(40), np.zeros(500), np.full(25, 2.0)]
    for at in range(0, len(labels), 5):
        part = labels[at : at + 5]
        buffer.add(np.random.default_rng(at), part[:, None], part)
    assert np.bincount(buffer.targets.astype(int)).tolist() == [20, 20, 20]
    assert np.array_equal(buffer.rows[:, 0], buffer.targets)


# -- modules -----------------------------------------------------------------------------------------


def test_a_head_that_grows_answers_as_before():
    net = Headed(Mlp(inputs=4, hidden=[8]), 8, 2)
    x = torch.randn(5, 4)
    before = net(x)
    net.grow(4, seed=0)
    assert net(x).shape == (5, 4)
    torch.testing.assert_close(net(x)[:, :2], before)


def test_the_small_residual_network_gives_eight_times_its_width():
    assert ResNet(channels=3, width=4)(torch.zeros(2, 3, 32, 32)).shape == (2, 32)


class Own(torch.nn.Sequential):
    """With all that makes a step depend on more than its weights."""

    def __init__(self):
        super().__init__(
            torch.nn.Flatten(), torch.nn.Linear(10, 12), torch.nn.BatchNorm1d(12), torch.nn.Dropout(0.3)
        )


@pytest.mark.parametrize(
    "more",
    [
        {"network": Own},
        {"network": "resnet", "shape": (1, 2, 5), "network_parameters": {"width": 2, "blocks": 1}},
    ],
)
def test_any_module_learns_and_comes_back_exactly(more):
    make = partial(build, "der_pp", seed=3, size=40, **more)
    learner, again, restored = make(), make(), make()
    (X, y), (more_X, more_y) = list(tasks(2, rows=95))
    before = torch.get_rng_state()
    learner.learn(X, y)
    again.learn(X[:33], y[:33])
    again.learn(X[33:], y[33:])
    restored.restore(stored(learner.state()))
    for one in (learner, again, restored):
        one.learn(more_X, more_y)
    assert torch.equal(before, torch.get_rng_state())
    assert same(learner.state(), again.state())
    assert same(learner.state(), restored.state())


@pytest.mark.parametrize("network", ["os:system", "torch.nn:Linear", "nothing", 5])
def test_a_spec_cannot_name_any_module(network):
    learner = build("er", network=network)
    with pytest.raises(InvalidError, match="network"):
        learner.learn(np.zeros((2, 3)), [0, 1])
    assert learner.classes == []


def test_a_package_offers_its_modules_by_entry_point(monkeypatch):
    from importlib.metadata import EntryPoint

    from everlearn.learners.networks import modules

    offered = EntryPoint("small", "everlearn.learners.networks.modules:Mlp", modules.GROUP)
    monkeypatch.setattr(modules, "entry_points", lambda group: [offered] if group == modules.GROUP else [])
    for network in ("small", "everlearn.learners.networks.modules:Mlp"):
        learner = build("er", network=network, network_parameters={"inputs": 3, "hidden": [4]})
        learner.learn(np.zeros((2, 3)), [0, 1])
        assert learner.classes == [0, 1]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"boundary": "sometimes"}, "boundary"),
        ({"rate": 0.0}, "rate"),
        ({"momentum": 1.0}, "momentum"),
        ({"device": "cuda"}, "device"),
        ({"shape": (0, 3)}, "shape"),
        ({"size": 0}, "size"),
        ({"buffer": "full"}, "buffer"),
        ({"offer": "later"}, "offer"),
    ],
)
def test_a_wrong_value_is_refused_by_field(given, field):
    if field == "device" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InvalidError) as caught:
        build("er", **given)
    assert [fault.field for fault in caught.value.faults] == [field]


def test_rows_that_do_not_fit_the_shape_are_refused():
    with pytest.raises(InvalidError, match="does not fit rows of 3"):
        build("er", shape=(1, 2, 2)).learn(np.zeros((1, 3)), [0])


def test_a_state_of_another_size_is_refused():
    state = taught("er", size=20).state()
    with pytest.raises(IntegrityError):
        build("er", size=21, **SMALL).restore(state)
    with pytest.raises(IntegrityError):
        build("er", size=20, boundary="told").restore(state)


# -- methods -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["er", "er_ace", "der", "der_pp", "cls_er", "icarl", "gdumb", "joint"])
def test_what_keeps_rows_remembers_what_fine_tuning_forgets(name):
    X, y = (np.concatenate(parts) for parts in zip(*tasks(), strict=True))
    forgot = accuracy(taught("fine_tuning"), X, y)
    assert forgot < 0.5
    fast = {"plastic_fade": 0.9, "stable_fade": 0.9} if name == "cls_er" else {}  # for a stream this short
    assert accuracy(taught(name, **fast), X, y) > forgot + 0.15


@pytest.mark.parametrize("name", ["oewc", "mas", "si", "lwf"])
def test_what_keeps_no_rows_forgets_less_of_a_task_whose_classes_come_again(name):
    rng = np.random.default_rng(0)
    centres, turn = 3.0 * rng.normal(size=(2, 10)), np.linalg.qr(rng.normal(size=(10, 10)))[0]
    y = rng.integers(0, 2, 600)
    first = centres[y] + rng.normal(size=(600, 10))
    found = {}
    for method, more in (
        ("fine_tuning", {}),
        (name, {"oewc": {"hold": 30.0}, "mas": {"hold": 3.0}}.get(name, {})),
    ):
        learner = build(method, **SMALL, momentum=0.0, rate=0.05, **more)
        learner.learn(first, y)
        learner.end_task()
        learner.learn(first @ turn, y)
        found[method] = -np.log(learner.predict(first)[np.arange(600), y]).mean()
    assert found[name] < found["fine_tuning"]


@pytest.mark.parametrize("buffer", ["reservoir", "balanced"])
@pytest.mark.parametrize("name", ["er", "er_ace", "cls_er"])
def test_rows_offered_by_task_are_learned_again_once_it_has_ended(name, buffer, monkeypatch):
    make = partial(build, name, size=20, buffer=buffer, offer="task", **SMALL)
    learner, restored, asked, drawn = make(), make(), [], type(make()).drawn

    def watched(*given):
        asked.append(drawn(*given))
        return asked[-1]

    monkeypatch.setattr(type(learner), "drawn", watched)
    for number, (X, y) in enumerate(tasks(3)):
        asked.clear()
        learner.learn(X, y)
        learner.end_task()
        assert all(int(old_y.max()) < 2 * number for _, _, old_y in asked)
        assert bool(asked) is (number > 0)
        if number == 1:
            restored.restore(stored(learner.state()))
    assert learner.buffer_bytes == 2 * learner.memory.bytes
    restored.learn(X, y)
    restored.end_task()
    assert same(restored.state(), learner.state())


def test_dark_replay_keeps_the_scores_of_the_moment_and_leaves_out_outputs_that_were_not_there():
    learner = build("der", size=50, outputs=2, **SMALL)
    (X, y), (later, labels) = list(tasks(2))
    learner.learn(X[:50], y[:50])
    learner.learn(later, labels)
    there = ~np.isnan(learner.memory.scores)
    assert learner.memory.scores.shape[1] == 4
    assert there[:, :2].all()
    assert 0 < there[:, 2].sum() < 50


def test_a_gem_never_steps_against_its_memory():
    learner = taught("a_gem", size=60, momentum=0.0)
    (X, y), *_ = list(tasks(seed=5))
    x, labels = learner.tensors(learner.memory.rows[:60], learner.memory.targets[:60])
    old = learner.gradient(learner.loss(learner.net(x), labels))
    before = [parameter.detach().clone() for parameter in learner.parameters]
    learner.replay = 60  # the whole memory: its gradient is the one that counts
    learner.learn(X[:10], 1 - y[:10])
    moved = [a.detach() - b for a, b in zip(learner.parameters, before, strict=True)]
    assert sum(float((g * m).sum()) for g, m in zip(old, moved, strict=True)) <= 1e-6
    assert np.bincount(learner.memory.targets[:60].astype(int)).tolist() == pytest.approx([10] * 6, abs=6)


def test_online_ewc_measures_the_fisher_information():
    learner = build("oewc", sample=4000, hold=1.0, rate=1e-9, momentum=0.0, **SMALL)
    (X, y), *_ = list(tasks(1, rows=4000))
    learner.learn(X, y)
    learner.end_task()
    x, _ = learner.tensors(X, y.astype(float))
    with torch.no_grad():
        features = learner.net.backbone(x)
        chances = learner.net(x).softmax(1)
    spread = (chances * (1.0 - chances))[:, :, None] * features[:, None].square()
    torch.testing.assert_close(learner.importance.head.weight, spread.mean(0), rtol=0.2, atol=1e-3)


def test_progressive_columns_leave_earlier_ones_as_they_are():
    learner = build("progressive", hidden=[8, 8], columns=3, boundary="told")
    first, second, third = tasks()
    learner.learn(*first)
    learner.end_task()
    tower = [value.clone() for value in learner.net.backbone.towers[0].parameters()]
    before = learner.scores(learner.tensors(first[0], np.zeros(150))[0])[:, :2]
    for X, y in (second, third):
        learner.learn(X, y)
        learner.end_task()
    assert all(
        torch.equal(a, b) for a, b in zip(tower, learner.net.backbone.towers[0].parameters(), strict=True)
    )
    # Columns are scaled by what came since, too; on the same inputs nothing has moved.
    x = learner.tensors(first[0], np.zeros(150))[0]
    again = learner.scores(x)[:, :2]
    assert (again.argmax(1) == before.argmax(1)).float().mean() > 0.95


def test_a_new_class_ends_a_task_and_rows_do_where_it_is_asked():
    X = np.random.default_rng(0).normal(size=(90, 3))
    by_class, by_rows = build("oewc", task_rows=30), build("oewc", task_rows=30, boundary="rows")
    by_class.learn(X, np.r_[np.zeros(20), np.ones(40), np.full(30, 2.0)])
    by_rows.learn(X, np.zeros(90))
    assert (by_class.past, by_rows.past) == (1, 3)


def test_gdumb_keeps_as_many_of_each_class():
    learner = taught("gdumb", size=60, epochs=1)
    assert np.bincount(learner.memory.targets.astype(int)).tolist() == [10] * 6
