"""First mistakes of newcomers: each is one error that names the owner, what is wrong, and the cure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl
from xpdl.errors import GradientCheckError, ShapeError

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
