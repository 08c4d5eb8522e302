"""Functions for searches in tests to train, which another process can import."""

import os
import signal
from pathlib import Path

from xpdl import (
    Affine,
    MultiLayerNet,
    Relu,
    Sequential,
    SoftmaxWithLoss,
    Trainer,
    get_backend,
    load_mini_mnist,
    shuffle_dataset,
)
from xpdl.data import moons


def net(lr, units, epochs=2):
    x, t = moons(60, noise=0.2, seed=0)
    network = Sequential(Affine(units=units), Relu(), Affine(units=2), loss=SoftmaxWithLoss)
    return Trainer(network, x, t, x, t, epochs, 20, "SGD", {"lr": lr}, verbose=False)


def parabola(x):
    """Best at 3."""
    return -((x - 3.0) ** 2)


def book(lr, weight_decay, epochs=50):
    """The book's hyperparameter_optimization.py, with the digits in the package."""
    (x, t), _ = load_mini_mnist()
    x, t = shuffle_dataset(x, t, seed=0)
    network = MultiLayerNet(784, [100] * 6, 10, weight_decay_lambda=weight_decay)
    rows, validation = slice(100, 500), slice(0, 100)
    return Trainer(
        network, x[rows], t[rows], x[validation], t[validation], epochs, 100, "sgd", {"lr": lr}, verbose=False
    )


def broken(x):
    if x > 5:
        raise KeyError("no such thing")
    return x


class ErrorOfTwo(Exception):
    """Pickle makes it again of its one message, which is too little."""

    def __init__(self, message, number):
        super().__init__(f"{message} {number}")


class ErrorWithAFunction(Exception):
    """Pickle takes no function."""

    def __init__(self):
        super().__init__("with a function")
        self.function = lambda: None


def error_of_two(x):
    raise ErrorOfTwo("boom", 7)


def error_with_a_function(x):
    raise ErrorWithAFunction


def backend(x):
    made = get_backend()
    assert (made.name, made.dtype) == ("numpy", "float64")
    return x


def killed_at_the_fourth(x):
    """The process ends at the fourth trial, as if it ran out of memory."""
    place = Path(os.environ["SEARCH_COUNT"])
    with place.open("a") as file:
        file.write(".")
    if len(place.read_text()) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def killed_once(x):
    """The process of the first trial ends, as if it ran out of memory."""
    place = Path(os.environ["SEARCH_COUNT"])
    if not place.exists():
        place.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return parabola(x)


def killed_always(x):
    """Each process ends, and is counted."""
    with Path(os.environ["SEARCH_COUNT"]).open("a") as file:
        file.write(".")
    os.kill(os.getpid(), signal.SIGKILL)
