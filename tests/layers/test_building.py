"""Layers that another one builds in its `create_parameters`: their weights, masks and arrays are part of that one's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend, nonempty
from xpdl.backends.namespaces import array_namespace, device
from xpdl.backends.random import Stream
from xpdl.layers import Affine, Chain, Dropout, Layer, Relu, Residual


class Block(Layer):
    """Affine layers with a relu and a dropout between; a subclass builds them."""

    first: Any
    last: Any

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.drop = Relu(), Dropout(0.25)

    def output_shape(self, input_shape: Any) -> Any:
        return (3,)

    def forward(self, x: Any) -> Any:
        for layer in (self.first, self.relu, self.drop, self.last):
            x = layer.forward(x)
        return x

    def backward(self, dout: Any) -> Any:
        for layer in (self.last, self.drop, self.relu, self.first):
            dout = layer.backward(dout)
        return dout


class Attributes(Block):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = Affine(units=4), Affine(units=3)

    def create_parameters(self, input_shape: Any, make: Any) -> None:
        shape = self.first.build(input_shape)
        self.drop.build(shape)
        self.last.build(shape)


class MadeThere(Block):
    def create_parameters(self, input_shape: Any, make: Any) -> None:
        first, last = Affine(units=4), Affine(units=3)
        shape = first.build(input_shape)
        self.drop.build(shape)
        last.build(shape)
        self.first, self.last = first, last


class MadeAndNotBuilt(Block):
    def create_parameters(self, input_shape: Any, make: Any) -> None:
        self.first, self.last = Affine(units=4), Affine(units=3)


class Compositions(Block):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = Chain(Affine(units=4), Residual(Affine(units=4))), Attributes()

    def create_parameters(self, input_shape: Any, make: Any) -> None:
        self.drop.build((4,))
        self.last.build(self.first.build(input_shape))


X = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
T = np.arange(6) % 3
each_kind = pytest.mark.parametrize("kind", [Attributes, MadeThere, MadeAndNotBuilt, Compositions])


def model(kind: Any, seed: int = 3) -> Any:
    net = xpdl.Sequential(kind(), loss=xpdl.SoftmaxWithLoss, seed=seed)
    net.build((5,))
    return net


@each_kind
def test_the_seed_of_the_model_is_that_of_layers_inside(kind: Any) -> None:
    a, b, other = model(kind), model(kind), model(kind, seed=4)
    names = [name for name in a.params if name.endswith(".W")]
    assert len(names) >= 2 and len({a.params[name].tobytes() for name in names}) == len(names)
    for name in names:
        np.testing.assert_array_equal(a.params[name], b.params[name])
        assert np.any(a.params[name] != other.params[name])
    np.testing.assert_array_equal(a.predict(X, True), b.predict(X, True))


def test_equals_the_layers_in_a_row() -> None:
    block, stream = Attributes(), Stream(3)
    block.build((5,), stream=stream)
    flat = Chain(("first", Affine(units=4)), Relu(), ("drop", Dropout(0.25)), ("last", Affine(units=3)), fuse=False)
    flat.build((5,), stream=stream)
    assert list(block.params) == list(flat.params) and len(flat.params) == 4
    dout = np.random.default_rng(1).normal(size=(6, 3)).astype("float32")
    for _ in range(2):  # with other masks
        np.testing.assert_array_equal(block.train().forward(X), flat.train().forward(X))
        np.testing.assert_array_equal(block.backward(dout), flat.backward(dout))
        for name in nonempty(flat.grads):
            np.testing.assert_array_equal(block.grads[name], flat.grads[name])


@each_kind
@pytest.mark.backends("strict:device1", "torch")
def test_arrays_are_where_the_input_is(backend: Backend, kind: Any) -> None:
    net = xpdl.Sequential(kind(), loss=xpdl.SoftmaxWithLoss, seed=3)
    y = net.forward(backend.asarray(X, "float64"))
    arrays = [y, *net.params.values()]
    assert all(array_namespace(a) is backend.xp and device(a) == backend.device for a in nonempty(arrays))
    assert {a.dtype for a in arrays} == {backend.xp.float64}


def test_a_layer_built_later_is_no_part_of_it() -> None:
    model(Attributes)
    with xpdl.backends.random.seeded(5):
        first = Affine(units=2)
        first.build((4,))
    with xpdl.backends.random.seeded(5):
        again = Affine(units=2)
        again.build((4,))
    np.testing.assert_array_equal(first.W, again.W)
