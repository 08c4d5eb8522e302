"""Layerwise passes of a network, one layer at a time, those inside blocks too.

`Chain` computes some neighbours as one; here each layer is asked by itself, so that what stands between any two is seen.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Any, NamedTuple

from xpdl.backends.namespaces import Array, on_device_of
from xpdl.layers.base import Layer
from xpdl.layers.chain import Chain
from xpdl.layers.composite import Composite
from xpdl.layers.residual import Residual
from xpdl.layers.tree import forward_in_mode
from xpdl.ops.arithmetic import add

Layers = Iterable[tuple[str, Any]]


class LayerOutput(NamedTuple):
    """One layer of a pass, or the sum in which a residual block ends.

    Attributes
    ----------
    path : str
    layer : Layer, or any object with ``forward`` and ``backward``
    value : array
        Its output going forward, ``dx`` going back.
    own : mapping
        Its parameters going forward, their gradients going back; a block has none of its own.
    """

    path: str
    layer: Any
    value: Array
    own: Mapping[str, Array]


def forward_by_layer(layers: Layers, x: Array, training: bool, prefix: str = "") -> Generator[LayerOutput, None, Array]:
    """Go forward through pairs (name, layer), in training or evaluation, and return the output of the last."""
    for name, layer in layers:
        x = yield from _forward(prefix + name, layer, x, training)
    return x


def _forward(path: str, layer: Any, x: Array, training: bool) -> Generator[LayerOutput, None, Array]:
    if _computes_as(layer, Chain):
        return (yield from forward_by_layer(layer.children(), x, training, f"{path}."))
    if _computes_as(layer, Residual):
        y = yield from _forward(f"{path}.body", layer.body, x, training)
        y = add(y, (yield from _forward(f"{path}.shortcut", layer.shortcut, x, training)))
        yield LayerOutput(path, layer, y, {})
    else:
        with on_device_of(x):
            y = forward_in_mode(layer, x, training) if isinstance(layer, Layer) else layer.forward(x)
        yield LayerOutput(path, layer, y, getattr(layer, "params", {}))
    return y


def backward_by_layer(layers: Layers, dout: Array, prefix: str = "") -> Generator[LayerOutput, None, Array]:
    """Go back through pairs (name, layer) after `forward_by_layer`, and return ``dx`` of the first."""
    for name, layer in reversed(list(layers)):
        dout = yield from _backward(prefix + name, layer, dout)
    return dout


def _backward(path: str, layer: Any, dout: Array) -> Generator[LayerOutput, None, Array]:
    if _computes_as(layer, Chain):
        return (yield from backward_by_layer(layer.children(), dout, f"{path}."))
    if _computes_as(layer, Residual):
        dx = yield from _backward(f"{path}.body", layer.body, dout)
        dx = add(dx, (yield from _backward(f"{path}.shortcut", layer.shortcut, dout)))
        yield LayerOutput(path, layer, dx, {})
    else:
        with on_device_of(dout):
            dx = layer.backward(dout)
        yield LayerOutput(path, layer, dx, getattr(layer, "grads", {}))
    return dx


def _computes_as(layer: Any, kind: type[Composite]) -> bool:
    """Return whether a layer is a `kind` that overrides neither pass."""
    own = type(layer)
    return isinstance(layer, kind) and own.forward is kind.forward and own.backward is kind.backward
