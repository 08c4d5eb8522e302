"""Layers of nodes with windows over signals, images or volumes: convolution and pooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpdl.layers.base import Layer
from xpdl.layers.convolution import Convolution
from xpdl.layers.pooling import AveragePooling, Pooling
from xpdl.onnx.evaluating import MOST_VALUES
from xpdl.onnx.importing import Importer, Reader, bias_of, grids_of, then
from xpdl.onnx.nodes import ONE, Given, Node, Signal, constant, integers, signal
from xpdl.onnx.source import HostArray, Unmapped
from xpdl.onnx.steps import Border, Step, known
from xpdl.ops.padding import sides
from xpdl.ops.pooling import counted_share

Sizes = tuple[int, ...]


def convolution(node: Node, reader: Reader, x: Given, W: Given, b: Given = None) -> Signal:
    """Return the convolution of images, signals or volumes with constant filters."""
    grids, filters = grids_of(node, x), reader.weights(W, "filters")
    size = filters.shape[2:]
    if node.has("kernel_shape") and node.integers("kernel_shape") != size:
        raise Unmapped(f"its kernel_shape is {node.integers('kernel_shape')}, its filters have shape {filters.shape}")
    bias = None if b is None else bias_of(reader.weights(b, "bias"), filters.shape[0])
    window = window_of(node, size)
    grids, border = _without_border(grids, 0.0)
    pad = _together(border, _padding(node, grids.step.shape[1:], size, **window))
    groups = node.integer("group", 1)
    options: dict[str, Any] = {**window, "pad": pad}
    layer: Layer = Convolution(filters, bias, groups=groups, **options)
    if bias is None and groups == filters.shape[0] and _are_means(filters) and set(window["dilation"]) != {1}:
        # the operator has no dilation before opset 19
        layer = AveragePooling(size=size, **options)
    return then(node, grids, layer)


def _are_means(filters: HostArray) -> bool:
    """Return whether filters of one channel each give the mean of a window."""
    return filters.shape[1] == 1 and bool(np.all(filters == filters.dtype.type(1 / math.prod(filters.shape[2:]))))


def with_counts(node: Node, x: Signal, divisor: HostArray) -> Signal | None:
    """Return an average pooling whose means a node divides by the part of each window that counts; None of others."""
    layer, shape = x.step.layer, x.step.shape
    if not isinstance(layer, AveragePooling) or not x.is_plain or divisor.shape != (1, 1, *shape[1:]):
        return None
    length = known(x.step.inputs[0].shape)[1:]
    border = layer.border(length)
    padded = (size + before + after for size, (before, after) in zip(length, map(sides, border), strict=True))
    if math.prod(padded) > MOST_VALUES or layer.counted_pad(length) != border:
        return None
    rounded = tuple((before, min(before, after)) for before, after in map(sides, border))
    options: dict[str, Any] = {"size": layer.size, "stride": layer.stride, "dilation": layer.dilation}
    for pad, ceil_mode in ((border, False), (rounded, True)):
        for counts in (True, False):
            found = AveragePooling(**options, pad=pad, ceil_mode=ceil_mode, count_include_pad=counts)
            if found.border(length) == border and np.array_equal(divisor, _share(found, length, divisor.dtype)):
                return Signal(Step(node.outputs[0], found, *x.step.inputs, shape=shape), x.axes)
    return None


def _share(layer: AveragePooling, length: Sizes, dtype: Any) -> HostArray:
    """Return the part of each window that counts."""
    image = np.ones((1, 1, *length), dtype)
    pads = layer.border(length), layer.dilation, layer.counted_pad(length)
    return np.asarray(counted_share(image, layer.size, layer.stride, *pads))


def pooling(kind: type[Pooling] | type[AveragePooling]) -> Importer:
    """Return the importer of a kind of pooling."""

    def importer(node: Node, reader: Reader, x: Given) -> Signal:
        grids, size = signal(x), node.integers("kernel_shape")
        if not grids.axes:
            raise Unmapped("its input is one number")
        window = window_of(node, size)
        counts = bool(node.integer("count_include_pad", 0))
        grids, border = _without_border(grids, 0.0 if kind is AveragePooling else -math.inf)
        own = _padding(node, tuple(grids.size(axis) for axis in grids.axes[2:]), size, **window)
        if border is not None and kind is AveragePooling and own != "same" and any(map(any, own)) and not counts:
            raise Unmapped("its means count one border, and not another")
        counts, pad = counts or border is not None, _together(border, own)
        if ONE in grids.axes[2:]:
            grids, size, pad = _without_ones(grids, size, pad)
            window = {name: values[: len(size)] for name, values in window.items()}
        else:
            grids = grids_of(node, grids)
        options: dict[str, Any] = {**window, "size": size, "pad": pad, "ceil_mode": bool(node.integer("ceil_mode", 0))}
        counted = {"count_include_pad": counts} if kind is AveragePooling else {}
        return then(node, grids, kind(**options, **counted))

    return importer


def window_of(node: Node, size: Sizes) -> dict[str, Sizes]:
    """Return stride and dilation of a window."""
    ones = (1,) * len(size)
    window = {"stride": node.integers("strides", ones), "dilation": node.integers("dilations", ones)}
    for name, values in window.items():
        if len(values) != len(size) or min(values, default=1) < 1:
            raise Unmapped(f"its {name} {values} does not fit a window of {len(size)} axes")
    return window


def _padding(node: Node, lengths: tuple[int | None, ...], size: Sizes, *, stride: Sizes, dilation: Sizes) -> Any:
    """Return the border of a window as the option `pad` of layers."""
    auto = node.text("auto_pad", "NOTSET")
    if auto == "SAME_UPPER":
        return "same"
    if auto == "SAME_LOWER":
        if None in lengths or len(lengths) != len(size):
            raise Unmapped(f"auto_pad={auto} needs the sizes of its input", "give input_shape=")
        totals = [
            max((-(-have // step) - 1) * step + (taps - 1) * apart + 1 - have, 0)
            for have, taps, step, apart in zip(lengths, size, stride, dilation, strict=True)
            if have is not None
        ]
        return tuple((-(-total // 2), total // 2) for total in totals)
    if auto not in ("NOTSET", "VALID"):
        raise Unmapped(f"auto_pad={auto[:40]!r} is no mode of padding")
    pads = node.integers("pads", (0,) * 2 * len(size)) if auto == "NOTSET" else (0,) * 2 * len(size)
    if len(pads) != 2 * len(size):
        raise Unmapped(f"its padding {pads[:8]} does not fit a window of {len(size)} axes")
    return tuple(zip(pads[: len(size)], pads[len(size) :], strict=True))


def border(node: Node, reader: Reader, x: Given, pads: Given = None, value: Given = None) -> Signal:
    """Return images with a border, for the window after it."""
    grids = grids_of(node, x)
    found = node.integers("pads") if pads is None else integers(pads, "pads")
    rank = len(grids.axes)
    if node.text("mode", "constant") != "constant" or len(found) != 2 * rank or min(found) < 0:
        raise Unmapped(f"its padding {found[:10]} is no border of one value around rows of shape {grids.row}")
    both = tuple(zip(found[:rank], found[rank:], strict=True))
    if any(map(any, both[:2])):
        raise Unmapped("its padding adds rows or channels")
    number = node.number("value", 0.0) if value is None else float(constant(value, "value").reshape(()))
    added = (0, *(before + after for before, after in both[2:]))
    shape = tuple(None if size is None else size + more for size, more in zip(grids.step.shape, added, strict=True))
    return Signal(Step(node.outputs[0], Border(node.label, number, both[2:]), grids.step, shape=shape), grids.axes)


def _without_border(x: Signal, value: float) -> tuple[Signal, Any]:
    """Return what was padded by a node before, and that border; None where there is none."""
    layer = x.step.layer
    if not isinstance(layer, Border):
        return x, None
    if layer.value != value:
        raise Unmapped(f"the border before it is of {layer.value:g}, and its own of {value:g}")
    return Signal(x.step.inputs[0], x.axes), layer.pads


def _together(border: Any, pad: Any) -> Any:
    """Return the border of a node before and that of a window as one."""
    if border is None:
        return pad
    if pad == "same" or len(pad) != len(border):
        raise Unmapped("its padding depends on the border before it")
    return tuple((a + c, b + d) for (a, b), (c, d) in zip(border, pad, strict=True))


def _without_ones(x: Signal, size: Sizes, pad: Any) -> tuple[Signal, Sizes, Any]:
    """Return a value without axes of size 1 that only the file has, and the window along the others."""
    ones = [i for i, axis in enumerate(x.axes[2:]) if axis == ONE]
    wide = any(size[i] != 1 or (pad != "same" and any(pad[i])) for i in ones) if len(size) == len(x.axes) - 2 else True
    if (
        wide
        or x.real != list(range(len(x.step.shape)))
        or x.axes[0] == ONE
        or ones != [*range(len(size) - len(ones), len(size))]
    ):
        raise Unmapped(f"its window is over an axis of size 1 of rows of shape {x.row}")
    rest = len(size) - len(ones)
    return x, size[:rest], pad if pad == "same" else pad[:rest]
