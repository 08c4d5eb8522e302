"""Scripts in the style of the book's companion code run unchanged but for their imports."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import (
    SGD,
    AdaGrad,
    Adam,
    Affine,
    BatchNormalization,
    Convolution,
    DeepConvNet,
    Dropout,
    Momentum,
    MultiLayerNet,
    MultiLayerNetExtend,
    Nesterov,
    Relu,
    RMSprop,
    SimpleConvNet,
    SoftmaxWithLoss,
    Trainer,
    TwoLayerNet,
    cross_entropy_error,
    numerical_gradient,
    shuffle_dataset,
    sigmoid,
    sigmoid_grad,
    smooth_curve,
    softmax,
)


@pytest.fixture
def digits() -> tuple[Any, Any]:
    """Rows that look like digits, and one-hot labels that follow from them."""
    rng = np.random.RandomState(0)
    t = rng.randint(0, 10, 300)
    x = rng.rand(300, 784).astype("float32") * 0.1
    x[np.arange(300), t * 70] = 3
    return x, np.eye(10)[t]


class HandWrittenNet:
    """The net of ch. 4, out of functions: parameters are a dict of arrays, gradients by hand and by differences."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int, weight_init_std: float = 0.01) -> None:
        self.params = {
            "W1": weight_init_std * np.random.randn(input_size, hidden_size),
            "b1": np.zeros(hidden_size),
            "W2": weight_init_std * np.random.randn(hidden_size, output_size),
            "b2": np.zeros(output_size),
        }

    def predict(self, x: Any) -> Any:
        W1, W2, b1, b2 = (self.params[name] for name in ("W1", "W2", "b1", "b2"))
        return softmax(np.dot(sigmoid(np.dot(x, W1) + b1), W2) + b2)

    def loss(self, x: Any, t: Any) -> Any:
        return cross_entropy_error(self.predict(x), t)

    def accuracy(self, x: Any, t: Any) -> Any:
        return np.sum(np.argmax(self.predict(x), axis=1) == np.argmax(t, axis=1)) / float(x.shape[0])

    def numerical_gradient(self, x: Any, t: Any) -> Any:
        loss_W = lambda W: self.loss(x, t)  # noqa: E731  as the book writes it
        return {name: numerical_gradient(loss_W, self.params[name]) for name in self.params}

    def gradient(self, x: Any, t: Any) -> Any:
        a1 = np.dot(x, self.params["W1"]) + self.params["b1"]
        z1 = sigmoid(a1)
        y = softmax(np.dot(z1, self.params["W2"]) + self.params["b2"])
        dy = (y - t) / x.shape[0]
        da1 = sigmoid_grad(a1) * np.dot(dy, self.params["W2"].T)
        return {"W2": np.dot(z1.T, dy), "b2": np.sum(dy, axis=0), "W1": np.dot(x.T, da1), "b1": np.sum(da1, axis=0)}


class LayeredNet(HandWrittenNet):
    """The net of ch. 5: layers that share the arrays of the dict."""

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        self.layers = OrderedDict()
        self.layers["Affine1"] = Affine(self.params["W1"], self.params["b1"])
        self.layers["Relu1"] = Relu()
        self.layers["Affine2"] = Affine(self.params["W2"], self.params["b2"])
        self.lastLayer = SoftmaxWithLoss()

    def predict(self, x: Any) -> Any:
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def loss(self, x: Any, t: Any) -> Any:
        return self.lastLayer.forward(self.predict(x), t)

    def gradient(self, x: Any, t: Any) -> Any:
        self.loss(x, t)
        dout = self.lastLayer.backward(1)
        for layer in reversed(list(self.layers.values())):
            dout = layer.backward(dout)
        first, second = self.layers["Affine1"], self.layers["Affine2"]
        return {"W1": first.dW, "b1": first.db, "W2": second.dW, "b2": second.db}


@pytest.mark.parametrize("kind", [HandWrittenNet, LayeredNet])
def test_gradients_by_hand_agree_with_differences(kind: Any) -> None:
    np.random.seed(0)
    net = kind(6, 4, 3)
    x, t = np.random.rand(5, 6), np.eye(3)[[0, 2, 1, 1, 0]]
    kept = {name: p.copy() for name, p in net.params.items()}
    numerical, gradient = net.numerical_gradient(x, t), net.gradient(x, t)
    for name in nonempty(net.params):
        # 1e-7 inside the logarithm of ch. 4 is in the loss and not in y - t
        assert np.average(np.abs(numerical[name] - gradient[name])) < 1e-6
        assert np.abs(gradient[name]).max() > 1e-6
        np.testing.assert_array_equal(net.params[name], kept[name])


@pytest.mark.parametrize(("kind", "rate"), [(HandWrittenNet, 1.0), (LayeredNet, 0.2), (TwoLayerNet, 0.2)])
@pytest.mark.quick(lambda kind: kind is not LayeredNet)
def test_a_loop_over_random_batches_learns(digits: Any, kind: Any, rate: float) -> None:
    np.random.seed(0)
    x_train, t_train = digits
    network = kind(784, 50, 10)
    losses = []
    for _ in range(200):
        batch_mask = np.random.choice(x_train.shape[0], 100)
        grad = network.gradient(x_train[batch_mask], t_train[batch_mask])
        for key in ("W1", "b1", "W2", "b2"):
            network.params[key] -= rate * grad[key]
        losses.append(network.loss(x_train[batch_mask], t_train[batch_mask]))
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:10])
    assert smooth_curve(losses).shape == (200,)


@pytest.mark.parametrize("optimizer", [SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam])
def test_optimizers_move_numbers_over_a_plane(optimizer: Any) -> None:
    """Ch. 6 draws paths of plain numbers, and keeps each point while the optimizer goes on."""
    params, grads = {"x": -7.0, "y": 2}, {"x": 0, "y": 0}
    arrays = {"x": np.array(-7.0), "y": np.array(2.0)}
    opt, same = optimizer(lr=0.1), optimizer(lr=0.1)
    history = []
    for _ in range(30):
        history.append((params["x"], params["y"]))
        grads["x"], grads["y"] = params["x"] / 10.0, 2.0 * params["y"]
        opt.update(params, grads)
        same.update(arrays, {"x": np.asarray(arrays["x"] / 10.0), "y": np.asarray(2.0 * arrays["y"])})
    assert history[0] == (-7.0, 2.0) and len(set(history)) == 30
    assert {name: type(p) for name, p in params.items()} == {"x": float, "y": float}
    assert params["x"] == pytest.approx(float(arrays["x"]), rel=1e-14)
    with pytest.raises(KeyError, match="'y' has no gradient"):
        opt.update(params, {"x": 1.0})


@pytest.mark.parametrize(
    "options",
    [
        {"weight_init_std": 0.01},
        {"weight_init_std": "relu"},
        {"activation": "sigmoid", "weight_init_std": "sigmoid"},
        {"weight_decay_lambda": 0.1},
        {"use_dropout": True, "dropout_ration": 0.2, "use_batchnorm": True},
    ],
    ids=str,
)
def test_nets_of_chapter_six_train(digits: Any, options: Any) -> None:
    x, t = shuffle_dataset(*digits)
    kind = MultiLayerNetExtend if "use_dropout" in options else MultiLayerNet
    network = kind(input_size=784, hidden_size_list=[20, 20, 20], output_size=10, **options)
    trainer = Trainer(
        network, x[:200], t[:200], x[200:], t[200:], epochs=2, mini_batch_size=100,
        optimizer="sgd", optimizer_param={"lr": 0.01}, verbose=False,
    )  # fmt: skip
    trainer.train()
    assert len(trainer.train_acc_list) == len(trainer.test_acc_list) == 2 and len(trainer.train_loss_list) == 4
    before = float(network.loss(x, t))
    optimizer = SGD(lr=0.001)
    optimizer.update(network.params, network.gradient(x, t))
    assert float(network.loss(x, t)) != before


def test_a_gradient_check_of_a_convolutional_net() -> None:
    """Ch. 7 gives its one label as a column."""
    with xpdl.use("numpy", dtype="float64"):
        network = SimpleConvNet(
            input_dim=(1, 8, 8),
            conv_param={"filter_num": 3, "filter_size": 3, "pad": 0, "stride": 1},
            hidden_size=5,
            output_size=10,
            weight_init_std=0.1,
            seed=0,
        )
    X, T = np.random.RandomState(0).rand(64).reshape((1, 1, 8, 8)), np.array([1]).reshape((1, 1))
    grad_num, grad = network.numerical_gradient(X, T), network.gradient(X, T)
    assert list(grad_num) == ["W1", "b1", "W2", "b2", "W3", "b3"]
    for key, value in grad_num.items():
        assert np.average(np.abs(value - grad[key])) < 1e-8
    assert network.accuracy(X, T) in (0.0, 1.0)


@pytest.mark.parametrize("kind", [SimpleConvNet, DeepConvNet])
def test_layers_may_be_gone_through_by_hand(kind: Any) -> None:
    """Back through the layers of a net whose loss was just computed, as the book's own ``gradient`` does."""
    network = kind((1, 12, 12), seed=0)
    x, t = np.random.RandomState(0).rand(3, 1, 12, 12).astype("float32"), np.array([3, 1, 9])
    network.loss(x, t, train_flg=False)
    dout = network.last_layer.backward(1)
    layers = list(network.layers.values())
    layers.reverse()
    for layer in layers:
        dout = layer.backward(dout)
    by_hand = dict(network.grads)
    network.loss(x, t, train_flg=False)
    network.backward(network.last_layer.backward())
    for name, grad in nonempty(network.grads.items()):
        np.testing.assert_array_equal(grad, by_hand[name])


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickled_weights_of_the_book_are_loaded(tmp_path: Any, protocol: int) -> None:
    """A dict of arrays ``W1 ... b3`` as in ch. 3, and of a deep net as in ch. 8."""
    rng = np.random.RandomState(0)
    sizes = {"W1": (784, 50), "b1": (50,), "W2": (50, 100), "b2": (100,), "W3": (100, 10), "b3": (10,)}
    weights = {name: rng.randn(*size).astype("float32") for name, size in sizes.items()}
    (tmp_path / "sample_weight.pkl").write_bytes(pickle.dumps(weights, protocol))
    network = MultiLayerNet(784, [50, 100], 10, activation="sigmoid")
    network.load_params(tmp_path / "sample_weight.pkl")
    x = rng.rand(4, 784).astype("float32")
    z = sigmoid(np.dot(sigmoid(np.dot(x, weights["W1"]) + weights["b1"]), weights["W2"]) + weights["b2"])
    np.testing.assert_allclose(network.predict(x), np.dot(z, weights["W3"]) + weights["b3"], rtol=1e-4, atol=1e-4)

    deep = DeepConvNet(seed=1)
    file = tmp_path / "deep_convnet_params.pkl"
    file.write_bytes(pickle.dumps({name: np.asarray(p, float) for name, p in deep.params.items()}, protocol))
    other = DeepConvNet(seed=2)
    other.load_params(file)
    images = rng.rand(2, 1, 28, 28).astype("float32")
    np.testing.assert_array_equal(other.predict(images), deep.predict(images))
    assert other.params["W1"].dtype == np.float32


def test_parameters_are_rounded_in_place() -> None:
    """Ch. 8 stores half precision into the arrays of a trained net."""
    network = TwoLayerNet(4, 3, 2)
    for param in network.params.values():
        param[...] = param.astype(np.float16)
    assert all(np.array_equal(p, p.astype(np.float16)) for p in network.params.values())
    assert network.layers["Affine1"].W is network.params["W1"]


def test_layers_take_what_the_book_gives_them() -> None:
    network = SimpleConvNet()
    layer = Convolution(network.params["W1"][:16], network.params["b1"][:16])
    assert layer.forward(np.random.rand(1, 1, 50, 40)).shape == (1, 16, 46, 36)
    dropout, norm = Dropout(0.5), BatchNormalization(np.ones(3), np.zeros(3))
    x = np.random.rand(4, 3)
    assert set(np.unique(dropout.forward(x, True) == 0)) <= {False, True}
    np.testing.assert_array_equal(dropout.forward(x, train_flg=False), 0.5 * x)
    norm.forward(x, True)
    norm.backward(np.ones((4, 3)))
    np.testing.assert_allclose(norm.dbeta, [4, 4, 4])
