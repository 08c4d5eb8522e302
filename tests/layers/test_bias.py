"""Layers with and without a bias."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from xpdl.layers import Affine, Convolution

LAYERS = {
    "affine": (lambda **kwargs: Affine(units=3, **kwargs), (2, 4)),
    "convolution": (lambda **kwargs: Convolution(filters=3, size=2, **kwargs), (2, 1, 3, 3)),
}


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_bias_gradient_is_computed_for_a_bias_alone(name: str, use_bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ops: Any = importlib.import_module(f"xpdl.ops.{name}")
    backward, computed = getattr(ops, f"{name}_backward"), []

    def recorded(*args: Any, **kwargs: Any) -> Any:
        found = backward(*args, **kwargs)
        computed.append(found[2] is not None)
        return found

    monkeypatch.setattr(ops, f"{name}_backward", recorded)
    make, shape = LAYERS[name]
    layer = make(use_bias=use_bias)
    y = layer.forward(np.ones(shape))
    layer.backward(y)
    layer.forward(np.ones(shape))
    layer.backward_parameters(y)
    assert computed == [use_bias] * 2
    assert ("b" in layer.grads) is use_bias
