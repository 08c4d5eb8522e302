"""Layers that a file was read as, in the order of its graph, and the model that they make: a row with residual blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from xpdl.layers.affine import Affine
from xpdl.layers.base import Layer
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.chain import Chain
from xpdl.layers.convolution import Convolution
from xpdl.layers.convolution_transpose import ConvolutionTranspose
from xpdl.layers.flatten import Flatten
from xpdl.layers.identity import Identity
from xpdl.layers.pooling import AveragePooling, GlobalAveragePooling, GlobalMaxPooling, Pooling
from xpdl.layers.residual import Residual
from xpdl.layers.upsampling import UpSampling
from xpdl.onnx.source import HostArray, Unmapped
from xpdl.ops.padding import sides

# sizes of one row; None for one that is not known
Row = tuple[int | None, ...]

_DEEPEST = 50  # blocks within blocks


class Scaling:
    """``scale x + shift`` along the first axis of a row: a factor of the layer before it or after it.

    Parameters
    ----------
    node : str
        For messages.
    scale, shift : array (), or one value a feature
    """

    def __init__(self, node: str, scale: HostArray, shift: HostArray) -> None:
        self.node, self.scale, self.shift = node, scale, shift


class Border:
    """A value that is added around images: part of the window after it.

    Parameters
    ----------
    node : str
        For messages.
    value : float
    pads : tuple of (before, after)
        Of each axis behind the channels.
    """

    def __init__(self, node: str, value: float, pads: tuple[tuple[int, int], ...]) -> None:
        self.node, self.value, self.pads = node, value, pads


Part = Layer | Scaling | Border


class Step:
    """A layer, the input, or a sum, among the others of a graph.

    Parameters
    ----------
    name : str
        Of its output in the file.
    layer : Layer, Scaling, Border or None
        None for the input and for sums.
    *inputs : Step
    shape : tuple of int or None
        Of one row of the output; None for a size that is not known.
    """

    def __init__(self, name: str, layer: Part | None, *inputs: Step, shape: Row) -> None:
        self.name, self.layer, self.inputs, self.shape = name, layer, inputs, shape
        # the step that every way from the input to here goes through last
        self.fork: Step | None = None if not inputs else inputs[0] if len(inputs) == 1 else _meeting(*inputs)
        self.depth: int = 0 if self.fork is None else self.fork.depth + 1


def _meeting(a: Step, b: Step) -> Step:
    """Return the last step that all ways to `a` and to `b` go through."""
    while a is not b:
        deeper = a if a.depth >= b.depth else b
        assert deeper.fork is not None  # the input is above all
        a, b = (deeper.fork, b) if deeper is a else (a, deeper.fork)
    return a


def layers_between(start: Step, end: Step) -> list[Layer]:
    """Return the layers from a step to a later one, sums as residual blocks.

    Raises
    ------
    Unmapped
        If branches do not meet in sums.
    """
    return _layers(start, end, set(), 0)


def _layers(start: Step, end: Step, placed: set[Step], depth: int) -> list[Layer]:
    if depth > _DEEPEST:
        raise Unmapped(f"residual blocks lie in one another, more than {_DEEPEST} deep")
    row: list[Part] = []
    while end is not start:
        if end in placed:
            raise Unmapped(
                f"the value {end.name!r} is used in several places, other than as the input of a residual block",
                "branches of other kinds have no place in a Sequential",
            )
        placed.add(end)
        assert end.fork is not None
        if len(end.inputs) == 2:
            body, shortcut = (_layers(end.fork, branch, placed, depth + 1) for branch in end.inputs)
            row.append(_block(body, shortcut))
        elif end.layer is not None:
            row.append(end.layer)
        end = end.fork
    return _scaled(row[::-1])


def _block(body: list[Layer], shortcut: list[Layer]) -> Residual:
    if not body:
        body, shortcut = shortcut or [Identity()], body
    inside = shortcut[0] if len(shortcut) == 1 else Chain(*shortcut) if shortcut else None
    return Residual(*body, shortcut=inside)


def _scaled(row: Iterable[Part]) -> list[Layer]:
    """Give scalings to the layers before them, else to those after them; affine layers flatten by themselves."""
    layers: list[Layer | Scaling] = []
    for one in row:
        if isinstance(one, Border):
            raise Unmapped(f"the border of {one.node} is not before a convolution or pooling that it could be part of")
        last = layers[-1] if layers else None
        if isinstance(one, Scaling) and (merged := _after(last, one)) is not None:
            layers[-1] = merged
        elif isinstance(last, Scaling):
            merged = _before(last, one)
            if merged is None:
                break
            layers[-1] = merged
        elif isinstance(one, Affine) and one.axis == 1 and isinstance(last, Flatten):
            layers[-1] = one
        else:
            layers.append(one)
    found = [one for one in layers if isinstance(one, Layer)]
    if len(found) < len(layers):
        raise Unmapped(
            f"the constants of {layers[-1].node} are no part of a layer beside it",  # type: ignore[union-attr]
            "export batch normalization as one node, and fold constants into weights",
        )
    return found


def _after(layer: Layer | Scaling | None, scaling: Scaling) -> Layer | Scaling | None:
    """Return a layer that computes what `layer` and a scaling of its output do, or None."""
    scale, shift = scaling.scale, scaling.shift
    if isinstance(layer, Scaling):
        return Scaling(scaling.node, layer.scale * scale, layer.shift * scale + shift)
    if isinstance(layer, BatchNormalization):
        return _normalization(layer, layer.gamma * scale, layer.beta * scale + shift)
    if not isinstance(layer, (Affine, Convolution)) or (isinstance(layer, Affine) and layer.axis != 1):
        return None
    along = (1, -1) if isinstance(layer, Affine) else (-1, *[1] * (layer.W.ndim - 1))
    W = layer.W if np.all(scale == 1) else layer.W * scale.reshape(along if scale.ndim else ())
    b = np.zeros(_outputs(layer), layer.W.dtype) if layer.b is None else layer.b * scale
    return _linear(layer, W, b + shift if np.any(shift != 0) or layer.b is None else b)


def _before(scaling: Scaling, layer: Layer | Scaling) -> Layer | Scaling | None:
    """Return a layer that computes what a scaling of the input and `layer` do, or None."""
    if isinstance(layer, Scaling):
        return _after(scaling, layer)
    scale, shift = scaling.scale, scaling.shift
    if isinstance(layer, Affine) and layer.axis == 1:
        # each value of a channel that was flattened
        scale, shift = (_along(values, layer.W.shape[0]) for values in (scale, shift))
        return _linear(layer, layer.W * scale[:, None], _plus(layer, shift @ layer.W))
    if isinstance(layer, Convolution) and (not np.any(shift) or not _is_padded(layer)):
        inputs = layer.W.shape[1] * layer.groups
        # (groups, 1, C / groups, 1, 1) beside (groups, FN / groups, C / groups, FH, FW)
        grouped = layer.W.reshape(layer.groups, -1, *layer.W.shape[1:])
        ones = [1] * len(layer.size)
        scale, shift = (_along(v, inputs).reshape(layer.groups, 1, -1, *ones) for v in (scale, shift))
        shifted = (grouped * shift).sum(axis=tuple(range(2, grouped.ndim))).reshape(-1)
        return _linear(layer, (grouped * scale).reshape(layer.W.shape), _plus(layer, shifted))
    return None


def _is_padded(layer: Convolution) -> bool:
    return isinstance(layer.pad, str) or any(map(any, map(sides, layer.pad)))


def _along(values: HostArray, size: int) -> HostArray:
    return np.repeat(values, size // values.size) if values.ndim else np.full(size, values)


def _plus(layer: Affine | Convolution, shifted: HostArray) -> HostArray | None:
    return layer.b if not np.any(shifted) else shifted if layer.b is None else layer.b + shifted


def _outputs(layer: Affine | Convolution) -> int:
    return layer.units if isinstance(layer, Affine) else layer.filters


def _linear(layer: Affine | Convolution, W: HostArray, b: HostArray | None) -> Layer:
    dtype = layer.W.dtype
    W, b = W.astype(dtype), None if b is None else b.astype(dtype)
    if isinstance(layer, Affine):
        return Affine(W, b)
    return Convolution(W, b, layer.stride, layer.pad, dilation=layer.dilation, groups=layer.groups)


def _normalization(layer: BatchNormalization, gamma: Any, beta: Any) -> BatchNormalization:
    dtype = layer.gamma.dtype
    statistics = layer.running_mean, layer.running_var
    return BatchNormalization(gamma.astype(dtype), beta.astype(dtype), layer.momentum, *statistics, eps=layer.eps)


def row_after(layer: Layer, shape: Row) -> Row:
    """Return the shape of a row of the output, also where some sizes of the input are not known."""
    if None not in shape:
        return layer.output_shape(tuple(size for size in shape if size is not None))
    if isinstance(layer, Affine):
        return (layer.units,) if layer.axis == 1 else (*shape[:-1], layer.units)
    if isinstance(layer, Flatten):
        return (None,)
    if isinstance(layer, (GlobalAveragePooling, GlobalMaxPooling)):
        return shape[:1]
    if isinstance(layer, (Convolution, ConvolutionTranspose, Pooling, AveragePooling, UpSampling)):
        channels = layer.filters if isinstance(layer, (Convolution, ConvolutionTranspose)) else shape[0]
        return (channels, *[None] * (len(shape) - 1))
    return shape
