"""The residual block, beyond the values and gradients of the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xpdl.backends.random import Stream
from xpdl.errors import DTypeError, ShapeError
from xpdl.layers import Affine, Dropout, Relu, Residual


def test_both_paths_are_drawn_from_streams_of_their_own() -> None:
    blocks = [Residual(Affine(units=3), shortcut=Affine(units=3)) for _ in range(3)]
    for block, seed in zip(blocks, (1, 1, 2), strict=True):
        block.build((4,), stream=Stream(seed))
    weights = [block.params["body.Affine1.W"] for block in blocks]
    assert np.any(weights[0] != blocks[0].params["shortcut.Affine1.W"])
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.any(weights[0] != weights[2])


def test_paths_of_shapes_that_would_broadcast_are_an_error() -> None:
    narrow = Residual(Affine(np.ones((3, 1))))
    message = r"Residual: the layers give rows of shape \(1,\) but the shortcut \(3,\)"
    with pytest.raises(ShapeError, match=message):
        narrow.forward(np.ones((2, 3)))
    with pytest.raises(ShapeError, match=message):
        narrow.build((3,))


@pytest.mark.parametrize("shortcut", [Relu, "relu", 0])
def test_a_shortcut_that_is_no_layer_is_an_error(shortcut: Any) -> None:
    with pytest.raises(TypeError, match=r"Residual: shortcut must be a layer, got .*; write Relu\(\) rather than Relu"):
        Residual(Relu(), shortcut=shortcut)


@pytest.mark.parametrize("training", [True, False])
def test_train_flg_reaches_both_paths(training: bool) -> None:
    x = np.ones((20, 10))
    block = Residual(Dropout(0.5), shortcut=Dropout(0.5)).train(not training)
    y = block.forward(x, training)
    # two masks, which agree in half of the places; or twice what evaluation keeps
    np.testing.assert_array_equal(np.unique(y), [0.0, 1.0, 2.0] if training else [1.0])


def test_integers_are_refused_before_anything_is_built() -> None:
    block = Residual(Affine(units=2))
    with pytest.raises(DTypeError, match="Residual: expected a floating array, got int64"):
        block.forward(np.ones((3, 2), int))
    assert not block.built
