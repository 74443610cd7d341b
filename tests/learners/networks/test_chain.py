"""The gradient without a graph is PyTorch's own, bit for bit; and images that are moved."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch", exc_type=ImportError)

from torch.nn import functional  # noqa: E402

from everlearn.errors import InvalidError  # noqa: E402
from everlearn.learners import build  # noqa: E402
from everlearn.learners.networks.chain import Chain  # noqa: E402
from everlearn.learners.networks.gdumb import moved  # noqa: E402
from everlearn.learners.networks.modules import headed  # noqa: E402


def network(name="mlp", shape=None):
    return headed(name, {}, inputs=12, shape=shape, outputs=4, seed=0)


def rows(seed):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn((7, 12), generator=draw), torch.randint(0, 4, (7,), generator=draw)


def same(found, wanted):
    return all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("name", ["fine_tuning", "er"])
def test_a_copy_goes_on_learning_as_the_learner_does(name):
    draw = np.random.default_rng(0)
    X, y = draw.normal(size=(120, 6)), draw.integers(0, 3, 120)
    learner = build(name, outputs=4)
    learner.learn(X[:65], y[:65])
    copied = copy.deepcopy(learner)
    before = learner.predict(X)
    copied.learn(X[65:], y[65:])
    assert np.array_equal(learner.predict(X), before)
    learner.learn(X[65:], y[65:])
    assert np.array_equal(copied.predict(X), learner.predict(X))


def test_the_gradient_of_the_cross_entropy_is_that_of_the_graph():
    net, (x, y) = network(), rows(0)
    wanted = torch.autograd.grad(functional.cross_entropy(net(x), y), list(net.parameters()))
    assert same(Chain.of(net).gradient_for(x, y), wanted)


def test_the_gradient_of_a_loss_of_several_passes_is_that_of_the_graph():
    net, (x, y), (z, w) = network(), rows(0), rows(1)

    def loss(scored):
        scores = scored(x)
        return (
            functional.cross_entropy(scores, y)
            + 0.3 * (scored(z) ** 2).mean()
            + functional.cross_entropy(scored(z), w)
        )

    chain = Chain.of(net)
    wanted = torch.autograd.grad(loss(net), list(net.parameters()))
    assert same(chain.gradient(loss(chain.scores)), wanted)
    assert not chain.used


def test_it_is_that_of_the_weights_as_they_are_now():
    net, (x, y) = network(), rows(0)
    chain = Chain.of(net)
    with torch.no_grad():
        for part in net.parameters():
            part.add_(0.1)
    assert same(chain.gradient_for(x, y), Chain.of(net).gradient_for(x, y))
    assert torch.equal(chain.scores(x), net(x))


def test_other_networks_and_frozen_ones_are_left_to_the_graph():
    assert Chain.of(network("resnet", (3, 2, 2))) is None
    assert Chain.of(network().requires_grad_(False)) is None


def test_images_are_moved_within_their_frame():
    images = torch.zeros((200, 1, 5, 5))
    images[:, 0, 2, 2] = 1.0
    seen = moved(images, 1, np.random.default_rng(0))
    assert torch.equal(seen.sum((1, 2, 3)), torch.ones(200))
    places = {(int(i), int(j)) for _, _, i, j in seen.nonzero()}
    assert places == {(i, j) for i in (1, 2, 3) for j in (1, 2, 3)}


def test_what_is_moved_out_is_lost():
    images = torch.ones((50, 2, 3, 3))
    seen = moved(images, 3, np.random.default_rng(0))
    assert set(seen.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(seen[:, 0], seen[:, 1])


@pytest.mark.parametrize(
    ("name", "given", "field"), [("gdumb", {"shift": 2}, "shift"), ("er", {"head": "large"}, "head")]
)
def test_what_does_not_fit_is_refused(name, given, field):
    with pytest.raises(InvalidError, match=field):
        build(name, **given)
