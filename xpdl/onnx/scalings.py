"""Factors and summands of a file, as part of the weights beside them or as layers of their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from xpdl.layers.affine import Affine
from xpdl.layers.base import Layer
from xpdl.layers.batch_normalization import BatchNormalization
from xpdl.layers.convolution import Convolution
from xpdl.layers.flatten import Flatten
from xpdl.layers.scale_shift import ScaleShift
from xpdl.onnx.source import HostArray, Unmapped, short
from xpdl.onnx.steps import Border, Part, Scaling, Unfinished, along_first
from xpdl.ops.padding import sides


def merged(row: Iterable[Part], fixed: Iterable[Layer] = ()) -> list[Layer]:
    """Return the layers of a row of parts.

    Scalings go into the weights of the layers before them, else of those after them, and are layers where neither takes
    them; affine layers flatten by themselves.

    Parameters
    ----------
    row : iterable of parts
    fixed : iterable of Layer
        Those whose weights others use as well.
    """
    kept = {id(layer) for layer in fixed}
    layers: list[Layer | Scaling] = []
    for one in row:
        if isinstance(one, Border):
            raise Unmapped(f"the border of {one.node} is not before a convolution or pooling that it could be part of")
        if isinstance(one, Unfinished):
            raise Unmapped(
                f"{one.node}: xpdl has no layer for it, or none that ends with it",
                f"read the layers before it, with output={short(one.before)}",
            )
        last = layers[-1] if layers else None
        together = None
        if isinstance(one, Scaling) and id(last) not in kept:
            together = _after(last, one)
        elif isinstance(last, Scaling) and not isinstance(one, Scaling) and id(one) not in kept:
            together = _before(last, one)
        elif isinstance(one, Affine) and one.axis == 1 and isinstance(last, Flatten):
            together = one
        if together is not None:
            layers[-1] = together
        else:
            layers.append(one)
    return [_fixed(one) if isinstance(one, Scaling) else one for one in layers]


def _fixed(scaling: Scaling) -> ScaleShift:
    scale, shift = scaling.scale, scaling.shift
    shape = np.broadcast_shapes(scale.shape, shift.shape, (1,) * scaling.rank)
    dtype = np.result_type(scale, shift)
    arrays = {key: np.array(np.broadcast_to(one, shape), dtype) for key, one in (("scale", scale), ("shift", shift))}
    return ScaleShift(shape, **arrays)


def _after(layer: Layer | Scaling | None, scaling: Scaling) -> Layer | Scaling | None:
    """Return a layer that computes what `layer` and a scaling of its output do, or None."""
    if isinstance(layer, Scaling):
        return _one_scaling(layer, scaling)
    scale, shift = along_first(scaling.scale), along_first(scaling.shift)
    if scale is None or shift is None:
        return None
    if isinstance(layer, BatchNormalization):
        return _normalization(layer, layer.gamma * scale, layer.beta * scale + shift)
    if not isinstance(layer, (Affine, Convolution)) or (isinstance(layer, Affine) and layer.axis != 1):
        return None
    along = (1, -1) if isinstance(layer, Affine) else (-1, *[1] * (layer.W.ndim - 1))
    W = layer.W if np.all(scale == 1) else layer.W * scale.reshape(along if scale.ndim else ())
    b = np.zeros(_outputs(layer), layer.W.dtype) if layer.b is None else layer.b * scale
    return _linear(layer, W, b + shift if np.any(shift != 0) or layer.b is None else b)


def _before(scaling: Scaling, layer: Layer) -> Layer | Scaling | None:
    """Return a layer that computes what a scaling of the input and `layer` do, or None."""
    scale, shift = along_first(scaling.scale), along_first(scaling.shift)
    if scale is None or shift is None:
        return None
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


def _one_scaling(first: Scaling, second: Scaling) -> Scaling | None:
    """Return what both compute; None where that has more numbers than either."""
    arrays = (first.scale, first.shift, second.scale, second.shift)
    shape = np.broadcast_shapes(*(one.shape for one in arrays))
    if all(one.shape != shape for one in arrays):
        return None
    return Scaling(second.node, first.scale * second.scale, first.shift * second.scale + second.shift, second.rank)


def _is_padded(layer: Convolution) -> bool:
    return isinstance(layer.pad, str) or any(map(any, map(sides, layer.pad)))


def _along(values: HostArray, size: int) -> HostArray:
    return np.repeat(values, size // values.size) if values.ndim else np.full(size, values, values.dtype)


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
