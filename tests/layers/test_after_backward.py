"""The hook that is told of each layer's gradients during a backward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xpdl.layers import Affine, BatchNormalization, Convolution, Flatten, Relu, Residual, SoftmaxWithLoss
from xpdl.models import Sequential
from xpdl.training import MixedPrecision

RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(5, 2, 4, 4)).astype(np.float32), RNG.integers(0, 3, 5)


def net(fuse: bool) -> Sequential:
    first = Convolution(filters=3, size=3, pad=1), BatchNormalization(), Relu()
    block = Residual(Convolution(filters=3, size=3, pad=1), BatchNormalization()), Relu()
    return Sequential(*first, *block, Flatten(), Affine(units=3), loss=SoftmaxWithLoss, seed=0, fuse=fuse)


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("mixed", [None, MixedPrecision("float16")], ids=["float32", "float16"])
def test_it_gets_the_gradients_that_the_pass_returns(fuse: bool, mixed: Any) -> None:
    network, got, begun = net(fuse), {}, []
    network.build(X.shape[1:])

    def after_backward(name: str, layer: Any) -> None:
        begun.append(name)
        got.update({f"{name}.{key}": np.array(grad) for key, grad in layer.grads.items()})

    network.after_backward = after_backward
    grads = network.gradient(X, T) if mixed is None else mixed.gradient(network, X, T)
    assert begun == ["Affine1", "Flatten1", "Relu2", "Residual1", "Relu1", "BatchNormalization1", "Convolution1"]
    assert got.keys() == grads.keys() == network.params.keys()
    for name, grad in grads.items():
        assert got[name].dtype == grad.dtype == np.float32
        np.testing.assert_array_equal(got[name], grad, err_msg=name)
    assert network.after_backward is after_backward


def test_it_is_told_of_the_last_layer_before_the_first_goes_back() -> None:
    network, events = net(False), []
    network.build(X.shape[1:])
    first = network.layers["Convolution1"]
    backward = first.backward_parameters
    first.backward_parameters = lambda dout: (events.append("back"), backward(dout))  # type: ignore[method-assign]
    network.after_backward = lambda name, layer: events.append(name)
    network.gradient(X, T)
    assert events[0] == "Affine1" and events[-2:] == ["back", "Convolution1"]


def test_backward_with_dx_tells_of_all_layers() -> None:
    network, told = net(True), []
    network.after_backward = lambda name, layer: told.append(name)
    y = network.forward(X, True)
    network.backward(np.ones_like(y))
    assert sorted(told) == sorted(network.layers)
