"""A training stops at NaN or infinity, and says which layer made it and on which way."""

from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend
from xpdl.backends.namespaces import array_namespace
from xpdl.layers import Affine, BatchNormalization, Dropout, Layer, Relu, Residual, SoftmaxWithLoss
from xpdl.models import Sequential
from xpdl.training import Trainer
from xpdl.training.non_finite import all_finite, first_non_finite

X = np.random.default_rng(0).standard_normal((8, 4))
T = np.asarray([0, 1, 2, 0, 1, 2, 0, 1])

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
each = pytest.mark.backends("values")


class Spoils(Layer):
    """Identity, but that one way, in some pass, a value is multiplied."""

    def __init__(self, way: str, factor: float, at: int = 1) -> None:
        super().__init__()
        self.way, self.factor, self.left = way, factor, at

    def _pass(self, way: str, x: Any) -> Any:
        if way != self.way:
            return x
        self.left -= 1
        return x * self.factor if self.left <= 0 else x

    def forward(self, x: Any) -> Any:
        return self._pass("forward", x)

    def backward(self, dout: Any) -> Any:
        return self._pass("backward", dout)


class BadGradient(Affine):
    """Its ``dx`` is right, its ``db`` is not."""

    def backward(self, dout: Any) -> Any:
        dx = super().backward(dout)
        self.grads["b"] = self.grads["b"] * np.inf
        return dx


def net(*inside: Any) -> Sequential:
    return Sequential(Affine(units=5), *inside, Affine(units=3), loss=SoftmaxWithLoss, seed=0)


def built(backend: Backend, *inside: Any) -> Sequential:
    with backend.use():
        model = net(*inside)
        model.build((4,))
    return model


def found(backend: Backend, model: Any, x: Any = X) -> str:
    return first_non_finite(model, backend.asarray(x), backend.asarray(T))


@each
def test_finds_what_is_planted(backend: Backend) -> None:
    def in_block(layer: Layer) -> Residual:
        return Residual(layer)

    is_first = "is the first to hold NaN or infinity"
    assert found(backend, built(backend, Relu())).startswith("every layer by itself is finite")
    for bad in (np.nan, np.inf):
        x = X.copy()
        x[3, 1] = bad
        assert found(backend, built(backend), x) == "the input itself holds NaN or infinity"
        for way, words in (
            ("forward", "going forward, the output of layer {} " + is_first),
            ("backward", "going back, the gradient that layer {} gives " + is_first),
        ):
            assert found(backend, built(backend, Relu(), Spoils(way, bad))) == words.format("Spoils1")
            model = built(backend, ("block", in_block(Spoils(way, bad))))
            assert found(backend, model) == words.format("block.body.Spoils1")
        model = built(backend, Relu())
        model.params["Affine2.b"] = model.params["Affine2.b"] * 0.0 + bad
        assert found(backend, model) == f"the parameter b of layer Affine2 {is_first}"
    model = built(backend, BadGradient(units=4))
    assert found(backend, model) == f"going back, the gradient of the parameter b of layer BadGradient1 {is_first}"


@each
def test_an_activation_that_explodes(backend: Backend) -> None:
    model = built(backend, Relu(), Affine(units=4), Relu())
    largest = float(array_namespace(model.params["Affine1.W"]).finfo(model.params["Affine1.W"].dtype).max)
    model.params["Affine2.W"] = model.params["Affine2.W"] * 0.0 + largest
    words = found(backend, model, np.abs(X) + 1.0)
    assert words == "going forward, the output of layer Affine2 is the first to hold NaN or infinity"


@each
def test_the_state_is_left_as_it_was_and_the_masks_are_those_of_the_step(backend: Backend) -> None:
    dropout = Dropout(0.5)
    model = built(backend, BatchNormalization(), dropout)
    x, t = backend.asarray(X), backend.asarray(T)
    for _ in range(3):
        model.gradient(x, t)
    mask = backend.to_numpy(dropout.mask)
    before = {name: owner[key] for name, owner, key in model.slots("state")}
    assert before["Dropout1.step"] == 3
    first_non_finite(model, x, t)
    assert all(owner[key] is before[name] for name, owner, key in model.slots("state"))
    np.testing.assert_array_equal(backend.to_numpy(dropout.mask), mask)
    model.gradient(x, t)
    assert not np.array_equal(backend.to_numpy(dropout.mask), mask)


@each
def test_all_finite(backend: Backend) -> None:
    good, bad = backend.asarray([1.0, 2.0]), backend.asarray([[np.inf], [0.0]])
    assert all_finite({}) and all_finite({"a": good, "n": backend.asarray([1]), "f": 3.0})
    assert not all_finite({"a": good, "b": bad}) and not all_finite({"a": backend.asarray([np.nan])})


def train(model: Any, x: Any = X, **options: Any) -> Trainer:
    trainer = Trainer(model, x, T, x, T, epochs=2, mini_batch_size=4, verbose=False, seed=0, **options)
    trainer.train()
    return trainer


def test_a_loss_that_is_fine_and_a_gradient_that_is_not() -> None:
    model = net(Relu(), Spoils("backward", np.nan, at=3))
    model.build((4,))
    before = None

    class Keep:
        def on_batch_begin(self, trainer: Any, step: int) -> None:
            nonlocal before
            before = {name: np.array(p) for name, p in trainer.network.params.items()}

    pattern = (
        r"Trainer: a gradient became NaN or infinite, though the loss is \d+\.\d+ at step 3: going back, the gradient that "
        "layer Spoils1 gives is the first to hold NaN or infinity; lower"
    )
    with pytest.raises(FloatingPointError, match=pattern):
        train(model, callbacks=[Keep()])
    # it stopped before the update
    assert before is not None
    for name, value in model.params.items():
        np.testing.assert_array_equal(value, before[name])


def test_a_loss_that_is_not_fine() -> None:
    with pytest.raises(
        FloatingPointError, match="the loss became nan at step 2: going forward, the output of layer Spoils1"
    ):
        train(net(Relu(), Spoils("forward", np.nan, at=2)))


@pytest.mark.parametrize("library", ["array_api_strict", "torch"])
def test_on_a_device_losses_are_read_together_and_so_are_gradients(library: str, monkeypatch: Any) -> None:
    pytest.importorskip(library)
    model = net(Relu(), Spoils("backward", np.inf, at=4))
    with xpdl.use(library):
        model.build((4,))
    # the fourth and last step: its loss is fine, and the next to be read would be that of another epoch
    monkeypatch.setattr("xpdl.training.trainer._STEPS_BETWEEN_READS", 2)
    with pytest.raises(FloatingPointError, match=r"a gradient became .* at step 4: going back, .* layer Spoils1"):
        train(model, X.astype(np.float32))


class ByHand:
    """A network as the book writes them."""

    def __init__(self, bad: Layer) -> None:
        self.layers = {"first": Affine(xpdl.asarray(np.ones((4, 3)) / 8)), "bad": bad}
        self.lastLayer = SoftmaxWithLoss()
        self.params = self.layers["first"].params

    def predict(self, x: Any) -> Any:
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def loss(self, x: Any, t: Any) -> Any:
        return self.lastLayer.forward(self.predict(x), t)

    def accuracy(self, x: Any, t: Any) -> float:
        return 0.0

    def gradient(self, x: Any, t: Any) -> Any:
        self.loss(x, t)
        dout = self.lastLayer.backward()
        for layer in reversed(self.layers.values()):
            dout = layer.backward(dout)
        return self.layers["first"].grads


def test_networks_written_by_hand() -> None:
    with pytest.raises(FloatingPointError, match=r"a gradient became .* going back, the gradient that layer bad gives"):
        train(ByHand(Spoils("backward", np.nan)), X.astype(np.float32))
    with pytest.raises(
        FloatingPointError, match="the loss became nan at step 1: going forward, the output of layer bad"
    ):
        train(ByHand(Spoils("forward", np.nan)), X.astype(np.float32))
