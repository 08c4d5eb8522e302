"""First mistakes of newcomers: each is one error that names the owner, what is wrong, and the cure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl
from xpdl.errors import GradientCheckError, LabelError, ShapeError

T = np.arange(20) % 3
X = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
IMAGES = np.random.default_rng(1).normal(size=(5, 1, 8, 8)).astype("float32")


class NoSuper(xpdl.Layer):
    def __init__(self) -> None:
        self.factor = 2.0

    def forward(self, x: Any) -> Any:
        return self.factor * x


class LateSuper(xpdl.Layer):
    def __init__(self) -> None:
        self.params["scale"] = np.ones(6, "float32")
        super().__init__()


class HoldsNoSuper(xpdl.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.inner = NoSuper()


class Scale(xpdl.Layer):
    """Forgets the gradient of its parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.params["scale"] = np.ones(6, "float32")

    def forward(self, x: Any) -> Any:
        return x * self.params["scale"]

    def backward(self, dout: Any) -> Any:
        return dout * self.params["scale"]


class Twice:
    """Derives from nothing."""

    def forward(self, x: Any) -> Any:
        return 2 * x


def net(*layers: Any, **options: Any) -> Any:
    return xpdl.Sequential(*layers, xpdl.Affine(units=3), loss=xpdl.SoftmaxWithLoss, seed=0, **options)


class Rates(xpdl.Optimizer):
    """Has no learning rate of the name that schedules set."""

    def step(self, p: Any, g: Any) -> Any:
        return (p - 0.1 * g,)


class NoEpoch:
    def on_epoch_end(self, trainer: Any) -> None:
        raise AssertionError("not called")


class Rows:
    """A data set of PyTorch's kind."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, row: int) -> Any:
        return X[row], T[row]


def column_error(y: Any, t: Any) -> Any:
    return float(((y - t) ** 2).mean()), y - t


def training(network: Any = None, x: Any = X, t: Any = T, **options: Any) -> Any:
    return xpdl.Trainer(net() if network is None else network, x, t, epochs=1, verbose=False, seed=0, **options)


def conv_net() -> Any:
    layers = net(xpdl.Convolution(filters=2, size=3))
    layers.build((1, 8, 8))
    return layers


def nodes() -> list[Any]:
    return [xpdl.Input((6,)), xpdl.Input((2,))]


#: what somebody does -> the error
MISTAKES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a layer without super": (
        lambda: net(NoSuper()),
        TypeError,
        "NoSuper: __init__ has not called super().__init__(), which makes params, grads and state; call it first",
    ),
    "params before super": (LateSuper, TypeError, "LateSuper: __init__ has not called super().__init__()"),
    "a layer without super inside of another": (
        lambda: net(HoldsNoSuper()),
        TypeError,
        "NoSuper: __init__ has not called super().__init__()",
    ),
    "a list of layers": (
        lambda: xpdl.Sequential([xpdl.Affine(units=3), xpdl.Relu()]),
        TypeError,
        "got [Affine(units=3), Relu()]; pass them one by one, with a star in front: *layers",
    ),
    "a class of layers": (lambda: net(xpdl.Relu), TypeError, "; write Relu() rather than Relu"),
    "a class of one's own": (lambda: net(Twice()), TypeError, "; derive a class of your own from xpdl.Layer"),
    "a list of nodes": (
        lambda: xpdl.Concatenate()(nodes()),
        TypeError,
        "Concatenate: expected nodes as arguments, got a list of them; pass them one by one, with a star in front: *nodes",
    ),
    "a training without loss": (
        lambda: training(xpdl.Sequential(xpdl.Affine(units=3))),
        TypeError,
        "Trainer: the network has no loss, got Sequential(..., loss=None); make it with loss=SoftmaxWithLoss for classes or "
        "IdentityWithLoss for numbers, or set its last_layer to such a layer",
    ),
    "a class of callbacks": (
        lambda: training(callbacks=[xpdl.EarlyStopping]),
        TypeError,
        "; write EarlyStopping() rather than EarlyStopping",
    ),
    "a callback that takes no epoch": (
        lambda: training(callbacks=[NoEpoch()]),
        TypeError,
        "Trainer: NoEpoch.on_epoch_end gets trainer, epoch, and takes (trainer: 'Any') -> 'None'; write def "
        "on_epoch_end(self, trainer, epoch)",
    ),
    "a data set of single rows": (
        lambda: training(x=Rows(), t=None),
        TypeError,
        "Trainer: x_train: a Rows gives single rows; pass something that gives batches of them, such as "
        "a DataLoader of PyTorch makes",
    ),
    "labels from 1": (
        lambda: training(t=T + 1),
        LabelError,
        "label 3 of row 2 is not one of the 3 classes 0 to 2; labels count from 0, and there is an output for each class",
    ),
    "a misspelt optimizer": (
        lambda: training(optimizer="adamm"),
        ValueError,
        "optimizer: there is none called 'adamm'; the nearest is Adam, and there are SGD, Momentum,",
    ),
    "a schedule without a rate": (
        lambda: training(optimizer=Rates(), callbacks=[xpdl.StepLR(1)]).train(),
        TypeError,
        "StepLR: Rates has no lr for it to change",
    ),
    "a rate that was never set": (
        lambda: Rates().lr,
        AttributeError,
        "Rates: has no lr; set self.lr in __init__, after super().__init__(**options)",
    ),
    "targets of one axis for a loss of one's own": (
        lambda: xpdl.Sequential(xpdl.Affine(units=1), loss=column_error, seed=0).loss(X, X[:, 0]),
        ShapeError,
        "loss column_error: dy must have the shape of y, (20, 1), got (20, 20); t has the shape (20,), which NumPy repeats "
        "along other axes: use t.reshape(y.shape)",
    ),
    "two inputs as arguments": (
        lambda: net().predict(X, X),
        TypeError,
        "Sequential.predict: train_flg must be True or False, got an array; several inputs are one tuple",
    ),
    "one image": (
        lambda: conv_net().predict(IMAGES[0]),
        ShapeError,
        "Convolution1: expected images (N, C, H, W), got rows of shape (8, 8); x[None] adds the axis of rows to a single "
        "one, x[:, None] the axis of channels",
    ),
    "flat images": (
        lambda: conv_net().predict(IMAGES.reshape(5, 64)),
        ShapeError,
        "got rows of shape (64,); x.reshape(-1, C, H, W) makes them of flat rows",
    ),
    "signals without channels": (
        lambda: xpdl.Convolution(filters=2, size=(3,)).forward(X),
        ShapeError,
        "got rows of shape (6,); x[None] adds the axis of rows to a single one, x[:, None] the axis of channels",
    ),
    "a parameter without gradient": (
        lambda: xpdl.check_gradients(Scale(), X),
        GradientCheckError,
        "check_gradients: backward of Scale leaves no gradient of scale, so that nothing would train it; set "
        "grads['scale'] of its layer there, or make it state if it is no parameter",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_names_the_cure(name: str) -> None:
    mistake, error, words = MISTAKES[name]
    with pytest.raises(error, match=re.escape(words)):
        mistake()


def test_an_optimizer_without_a_rate_trains_and_shows_itself() -> None:
    network, again = net(), net()
    optimizer = Rates(weight_decay={"l2": 0.1})
    history = training(network, optimizer=optimizer).train()
    assert repr(optimizer) == "Rates(l2=0.1)" and len(history.train_loss_list) == 1
    state = optimizer.state_dict()
    assert state["l2"] == 0.1 and "lr" not in state
    resumed = Rates()
    resumed.load_state_dict(state)
    assert (resumed.l2, resumed.iter) == (0.1, 1)
    training(again, optimizer=Rates()).train()
    assert all((again.params[name] != value).any() for name, value in network.params.items() if name.endswith("W"))


def test_a_history_and_a_trainer_are_one_line() -> None:
    trainer = training(optimizer=xpdl.SGD(lr=0.5))
    assert repr(trainer) == "<Trainer: network Sequential, optimizer SGD(lr=0.5), batch size 100, epochs 0 of 1>"
    history = trainer.train()
    assert repr(history) == f"History(1 steps, 1 epoch, train_acc {history.train_acc_list[0]:.4g})"


PAIRS = [(X[:8], T[:8]), (X[8:], T[8:])]
CURE = (
    "; pass batches as one list of pairs, Trainer(net, [(x, t), ...]), and rows to test with as "
    "Trainer(net, x_train, t_train, x_test, t_test)"
)


@pytest.mark.parametrize(
    ("x", "t", "came"),
    [
        ([X[:8], X[8:]], [T[:8], T[8:]], "got ndarray of shape (8, 6) beside ndarray of shape (12, 6)" + CURE),
        ([X, T], [X, T], "got ndarray of shape (20, 6) beside ndarray of shape (20,)" + CURE),
        (
            [X.tolist(), T.tolist()],
            [X.tolist(), T.tolist()],
            "got list of shape (20, 6) beside list of shape (20,)" + CURE,
        ),
        (PAIRS, list(PAIRS), "got tuple of parts that differ" + CURE),
        ((X, T), (X, T), "with params, gradient(x, t) and loss(x, t)" + CURE),
        ([[1.0, 2.0], [3.0]], [0, 1], "got list of shape (2,) beside list of shape (1,)"),
        ([X[:8], X[8:]], T, "got ndarray of shape (8, 6) beside ndarray of shape (12, 6)"),
    ],
    ids=["batches", "sets", "sets as lists", "pairs twice", "tuples", "ragged", "batches and labels"],
)
def test_two_lists_that_are_no_rows_and_their_targets(x: Any, t: Any, came: str) -> None:
    net = xpdl.Sequential(xpdl.Affine(units=3), loss=xpdl.SoftmaxWithLoss, seed=0)
    with pytest.raises((ShapeError, TypeError)) as caught:
        xpdl.Trainer(net, x, t)
    assert str(caught.value).startswith("Trainer: x_train: ") and str(caught.value).endswith(came)


def test_rows_and_targets_in_lists_are_trained_with() -> None:
    net = xpdl.Sequential(xpdl.Affine(units=3), loss=xpdl.SoftmaxWithLoss, seed=0)
    trainer = xpdl.Trainer(net, list(X), list(T), epochs=1, verbose=False)
    np.testing.assert_array_equal(trainer.x_train, X)
