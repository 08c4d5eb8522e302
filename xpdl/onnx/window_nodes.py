"""Nodes of layers with windows: convolution, pooling and upsampling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpdl.backends.arrays import Pads
from xpdl.layers.affine import Affine
from xpdl.layers.convolution import Convolution
from xpdl.layers.convolution_transpose import ConvolutionTranspose
from xpdl.layers.filters import FilterLayer
from xpdl.layers.pooling import AveragePooling, Pooling
from xpdl.layers.upsampling import UpSampling
from xpdl.onnx.graph import Graph, Value
from xpdl.ops.padding import sides
from xpdl.ops.pooling import counted_share


def weights(layer: Affine | FilterLayer, graph: Graph) -> list[Value]:
    return [graph.parameter(layer, key) for key in layer.params]


def convolution(layer: Convolution, graph: Graph, x: Value) -> Value:
    return graph.node(
        "Conv",
        x,
        *weights(layer, graph),
        kernel_shape=layer.size,
        strides=layer.stride,
        pads=_pads(layer, x),
        dilations=layer.dilation,
        group=layer.groups,
    )


def convolution_transpose(layer: ConvolutionTranspose, graph: Graph, x: Value) -> Value:
    pad, output_pad = layer.borders()
    return graph.node(
        "ConvTranspose",
        x,
        *weights(layer, graph),
        kernel_shape=layer.size,
        strides=layer.stride,
        pads=_both(pad),
        output_padding=output_pad,
        dilations=layer.dilation,
        group=layer.groups,
    )


def _pads(layer: Convolution | Pooling | AveragePooling, x: Value) -> tuple[int, ...]:
    return _both(layer.border(x.shape[1:]))


def _both(pad: Pads) -> tuple[int, ...]:
    """The border before all axes and then that after them."""
    before, after = zip(*map(sides, pad), strict=True)
    return (*before, *after)


def pooling(layer: Pooling, graph: Graph, x: Value) -> Value:
    window: dict[str, Any] = {"kernel_shape": layer.size, "strides": layer.stride, "dilations": layer.dilation}
    pads = _pads(layer, x)
    if max(pads) < min(layer.size):
        return graph.node("MaxPool", x, **window, pads=pads)
    # as wide as a dilated window may have it, but not the operator
    rank = len(layer.size)
    border = graph.constant(np.array([0, 0, *pads[:rank], 0, 0, *pads[rank:]]))
    x = graph.node("Pad", x, border, graph.constant(np.array(-np.inf)))
    return graph.node("MaxPool", x, **window)


def average_pooling(layer: AveragePooling, graph: Graph, x: Value) -> Value:
    window: dict[str, Any] = {"kernel_shape": layer.size, "strides": layer.stride, "pads": _pads(layer, x)}
    counted, border = layer.counted_pad(x.shape[1:]), layer.border(x.shape[1:])
    plain = set(layer.dilation) == {1}
    if plain and not any(map(any, map(sides, counted))):
        return graph.node("AveragePool", x, **window, count_include_pad=0)
    if plain:
        y = graph.node("AveragePool", x, **window, count_include_pad=1)
    else:  # a mean of all values, by one filter for each channel: AveragePool has no dilation in this opset
        size = (x.shape[0], 1, *layer.size)
        means = graph.constant(np.full(size, 1 / math.prod(layer.size)))
        y = graph.node("Conv", x, means, **window, dilations=layer.dilation, group=x.shape[0])
    if counted == border:
        return y
    image = np.ones((1, 1, *x.shape[1:]), graph.dtype)
    share = counted_share(image, layer.size, layer.stride, border, layer.dilation, counted)
    return graph.node("Div", y, graph.constant(share))


def upsampling(layer: UpSampling, graph: Graph, x: Value) -> Value:
    nearest: dict[str, Any] = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    attributes = nearest if layer.mode == "nearest" else {"coordinate_transformation_mode": "half_pixel"}
    scales = np.array([1, 1, *layer.factors(len(x.shape) - 1)], np.float32)
    return graph.node("Resize", x, Value("", ()), graph.constant(scales, scales.dtype), mode=layer.mode, **attributes)
