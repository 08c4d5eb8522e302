"""Passes layer by layer give what the network's own passes give."""

from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend
from xpdl.backends.random import Stream
from xpdl.layers import Affine, BatchNormalization, Convolution, Dropout, Layer, Pooling, Relu, Residual, Tanh
from xpdl.layers.chain import Chain
from xpdl.layers.layerwise import backward_by_layer, forward_by_layer

PATHS = [
    *("Convolution1", "Relu1", "Pooling1", "block.body.Convolution1", "block.body.BatchNormalization1"),
    *("block.body.Dropout1", "block.shortcut.Convolution1", "block", "Chain1.Tanh1", "Affine1"),
]


def network() -> Chain:
    block = Residual(
        Convolution(filters=3, size=3, pad=1),
        BatchNormalization(),
        Dropout(0.5),
        shortcut=Convolution(filters=3, size=1),
    )
    return Chain(
        Convolution(filters=2, size=3, pad=1), Relu(), Pooling(2, 2), ("block", block), Chain(Tanh()), Affine(units=3)
    )


@pytest.mark.backends("values")
@pytest.mark.backends("precompiled")
@pytest.mark.parametrize("training", [True, False])
def test_the_same_as_the_passes_of_the_network(backend: Backend, training: bool) -> None:
    rng = np.random.default_rng(0)
    x, dy = backend.asarray(rng.standard_normal((4, 1, 6, 6))), backend.asarray(rng.standard_normal((4, 3)))
    with backend.use():
        own, by_layer = network(), network()
        for net in (own, by_layer):
            net.build((1, 6, 6), stream=Stream(3))
    y = own.forward(x, training)
    dx = own.backward(dy)
    forward = list(forward_by_layer(by_layer.children(), x, training))
    backward = list(backward_by_layer(by_layer.children(), dy))
    assert [visit.path for visit in forward] == PATHS
    # a block's sum is the last thing on both ways
    assert [visit.path for visit in backward] == [
        *("Affine1", "Chain1.Tanh1", "block.body.Dropout1", "block.body.BatchNormalization1"),
        *("block.body.Convolution1", "block.shortcut.Convolution1", "block", "Pooling1", "Relu1", "Convolution1"),
    ]
    backend.check(forward[-1].value, backend.to_numpy(y), rtol=0)
    backend.check(backward[-1].value, backend.to_numpy(dx), rtol=0)
    # Relu1 is seen in the size that it has, not in that of the pooling after it
    assert tuple(forward[1].value.shape) == (4, 2, 6, 6)
    params = {f"{visit.path}.{key}": value for visit in forward for key, value in visit.own.items()}
    grads = {f"{visit.path}.{key}": value for visit in backward for key, value in visit.own.items()}
    assert set(params) == set(grads) == set(own.params)
    for name, grad in own.grads.items():
        backend.check(grads[name], backend.to_numpy(grad), rtol=0)


class Halved(Chain):
    def forward(self, x: Any, train_flg: bool | None = None) -> Any:
        return super().forward(x, train_flg) / 2


def test_a_block_with_a_pass_of_its_own_is_one_layer() -> None:
    layers: list[tuple[str, Layer]] = [("half", Halved(Relu()))]
    (visit,) = forward_by_layer(layers, xpdl.asarray([[2.0]]), True)
    assert (visit.path, float(visit.value[0, 0])) == ("half", 1.0)
