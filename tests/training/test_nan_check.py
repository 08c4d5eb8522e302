"""A training stops at NaN or infinity, and says which layer made it and on which way."""

from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend
from tests.selection import params_of
from xpdl.backends.namespaces import array_namespace
from xpdl.layers import Affine, BatchNormalization, Dropout, Layer, Relu, Residual, SoftmaxWithLoss
from xpdl.models import Sequential
from xpdl.training import Trainer
from xpdl.training.nan_check import all_finite, first_non_finite, read_losses

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
        model.params["Affine2.b"] = backend.xp.full_like(model.params["Affine2.b"], bad)
        assert found(backend, model) == f"the parameter b of layer Affine2 {is_first}"
    model = built(backend, BadGradient(units=4))
    assert found(backend, model) == f"going back, the gradient of the parameter b of layer BadGradient1 {is_first}"


@each
def test_an_activation_that_explodes(backend: Backend) -> None:
    model = built(backend, Relu(), Affine(units=4), Relu())
    largest = float(array_namespace(model.params["Affine1.W"]).finfo(model.params["Affine1.W"].dtype).max)
    model.params["Affine2.W"] = backend.xp.full_like(model.params["Affine2.W"], largest)
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
    before = {name: owner[key] for name, owner, key in model.named_state()}
    assert before["Dropout1.step"] == 3
    first_non_finite(model, x, t)
    assert all(owner[key] is before[name] for name, owner, key in model.named_state())
    np.testing.assert_array_equal(backend.to_numpy(dropout.mask), mask)
    model.gradient(x, t)
    assert not np.array_equal(backend.to_numpy(dropout.mask), mask)


@each
def test_all_finite(backend: Backend) -> None:
    good, bad = backend.asarray([1.0, 2.0]), backend.asarray([[np.inf], [0.0]])
    assert all_finite({}) and all_finite({"a": good, "n": backend.asarray([1]), "f": 3.0})
    assert not all_finite({"a": good, "b": bad}) and not all_finite({"a": backend.asarray([np.nan])})


def read(losses: list[Any], history: list[float], grads: Any = None) -> None:
    model = net()
    model.build((4,))
    model.gradient(X.astype(np.float32), T)
    read_losses(losses, history, model, X.astype(np.float32), T, grads or {})


def test_losses_are_appended_up_to_the_first_that_is_not_finite() -> None:
    history = [9.0]
    read([np.float32(1.0), 2.0], history)
    read([], history)
    assert history == [9.0, 1.0, 2.0] and {type(loss) for loss in history} == {float}
    with pytest.raises(FloatingPointError) as said:
        read([3.0, np.inf, np.nan, 4.0], history)
    assert history == [9.0, 1.0, 2.0, 3.0]
    assert str(said.value) == (
        "Trainer: the loss became inf at step 5: every layer by itself is finite, forward and backward: what the network "
        "adds to them is not (2 steps later); lower the learning rate, clip gradients (clip_norm), or look at the data"
    )


def test_of_the_last_step_no_steps_are_counted() -> None:
    with pytest.raises(FloatingPointError, match=r"at step 2: .* is not; lower the learning rate"):
        read([1.0, np.nan], [])


def test_a_bad_gradient_is_that_of_the_last_loss() -> None:
    history: list[float] = []
    read([1.0], history, {"W": np.ones(2)})
    with pytest.raises(FloatingPointError, match=r"though the loss is 2\.5 at step 2: "):
        read([2.5], history, {"W": np.asarray([1.0, np.inf])})
    assert history == [1.0]


def test_losses_on_a_device_are_moved_in_one_piece(monkeypatch: Any) -> None:
    import array_api_strict as strict

    losses, history = [strict.asarray(1.0), strict.asarray(2.0)], []

    def one_by_one(self: Any) -> float:
        raise AssertionError("a loss was read by itself")

    monkeypatch.setattr(type(losses[0]), "__float__", one_by_one)
    read(losses, history)
    read(losses[:1], history)
    assert history == [1.0, 2.0, 1.0]


class SteepLoss(SoftmaxWithLoss):
    def backward(self, dout: Any = 1.0) -> Any:
        return super().backward(dout) * np.inf


class HighLoss(SoftmaxWithLoss):
    def forward(self, x: Any, t: Any) -> Any:
        return super().forward(x, t) * np.inf


def test_a_loss_may_be_the_first_forward_and_back() -> None:
    x = X.astype(np.float32)
    for loss, way in (
        (HighLoss, "forward, the loss of HighLoss"),
        (SteepLoss, "back, the gradient that SteepLoss gives"),
    ):
        model = Sequential(Affine(units=3), loss=loss, seed=0)
        model.build((4,))
        assert first_non_finite(model, x, T) == f"going {way} is the first to hold NaN or infinity"


def test_targets_may_hold_it() -> None:
    bad = np.full((8, 3), np.nan)
    assert first_non_finite(net(), X, bad) == "the targets hold NaN or infinity"


def test_of_a_network_without_layers_parameters_are_named() -> None:
    class Plain:
        def __init__(self, **params: float) -> None:
            self.params = {name: np.full(2, value) for name, value in params.items()}

    words = first_non_finite(Plain(W=np.nan, b=0.0, c=np.inf), X, T)
    assert words == "of the parameters, W, c holds NaN or infinity"
    assert first_non_finite(Plain(W=1.0), X, T).startswith("every layer by itself is finite, forward and backward")


def test_a_layer_that_was_in_no_step_yet_keeps_its_counter() -> None:
    model = net(Dropout(0.5))
    model.build((4,))
    steps = []

    class Looks(Layer):
        def forward(self, x: Any) -> Any:
            steps.append(model.layers["Dropout1"].state["step"])
            return x

        def backward(self, dout: Any) -> Any:
            return dout

    model.layers["Looks"] = Looks()
    first_non_finite(model, X.astype(np.float32), T)
    # the pass is its first
    assert steps == [1] and model.layers["Dropout1"].state["step"] == 0


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


@pytest.mark.parametrize("library", params_of("array_api_strict", "torch"))
def test_on_a_device_losses_are_read_together_and_so_are_gradients(library: str, monkeypatch: Any) -> None:
    model = net(Relu(), Spoils("backward", np.inf, at=4))
    with xpdl.use(library):
        model.build((4,))
    # the fourth and last step: its loss is fine, and the next to be read would be that of another epoch
    monkeypatch.setattr("xpdl.training.step.STEPS_BETWEEN_READS", 2)
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


def test_layers_of_a_model_with_a_loss_of_its_own_are_not_run() -> None:
    class Own(Sequential):
        def loss(self, x: Any, t: Any, train_flg: bool = False, sample_weight: Any = None) -> Any:
            return super().loss(x, t, train_flg, sample_weight)

    seen = []

    class Looks(Layer):
        def forward(self, x: Any) -> Any:
            seen.append(x)
            return x

    for model, x in ((Own(Looks(), loss=SoftmaxWithLoss), X), (Sequential(Looks(), loss=SoftmaxWithLoss), None)):
        assert first_non_finite(model, x, T).startswith("every layer by itself is finite")
    assert seen == []
