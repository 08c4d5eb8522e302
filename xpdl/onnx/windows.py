"""Layers of nodes with windows: convolution and pooling."""

from __future__ import annotations

from xpdl.layers.convolution import Convolution
from xpdl.layers.pooling import AveragePooling, Pooling
from xpdl.onnx.importing import Importer, Reader, bias_of, images_of, then
from xpdl.onnx.nodes import Given, Node, Signal
from xpdl.onnx.source import Unmapped


def convolution(node: Node, reader: Reader, x: Given, W: Given, b: Given = None) -> Signal:
    """Return the convolution of images with constant filters."""
    filters = reader.weights(W, "filters")
    if filters.ndim != 4:
        raise Unmapped(f"its filters have shape {filters.shape}, and images have two axes")
    images = images_of(x)
    if node.has("kernel_shape") and node.integers("kernel_shape") != filters.shape[2:]:
        raise Unmapped(f"its kernel_shape is {node.integers('kernel_shape')}, its filters have shape {filters.shape}")
    stride, dilation = node.integers("strides", (1, 1)), node.integers("dilations", (1, 1))
    layer = Convolution(
        filters,
        None if b is None else bias_of(reader.weights(b, "bias"), filters.shape[0]),
        stride,
        _padding(node, images, filters.shape[2:], stride, dilation),
        dilation=dilation,
        groups=node.integer("group", 1),
    )
    return then(node, images, layer)


def _padding(
    node: Node, x: Signal, size: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, int]:
    """Return the padding of a window, the same at both ends of each axis."""
    auto = node.text("auto_pad", "NOTSET")
    pads = node.integers("pads", (0, 0, 0, 0)) if auto == "NOTSET" else (0, 0, 0, 0)
    if {len(size), len(stride), len(dilation), len(pads) // 2} != {2} or min(stride) < 1:
        raise Unmapped(
            f"its window of {len(size)} axes, strides {stride}, dilations {dilation} and pads {pads} do not fit"
        )
    if auto.startswith("SAME"):
        if None in x.row:
            raise Unmapped(f"auto_pad={auto} needs the sizes of its input", "give input_shape=")
        totals = [
            max((-(-have // step) - 1) * step + (taps - 1) * apart + 1 - have, 0)
            for have, taps, step, apart in zip(x.step.shape[1:], size, stride, dilation, strict=True)
            if have is not None
        ]
        low = [total // 2 for total in totals] if auto == "SAME_UPPER" else [-(-total // 2) for total in totals]
        pads = (*low, *(total - first for total, first in zip(totals, low, strict=True)))
    elif auto not in ("NOTSET", "VALID"):
        raise Unmapped(f"auto_pad={auto[:40]!r} is no mode of padding")
    if pads[:2] != pads[2:]:
        raise Unmapped(f"its padding {pads} is not the same at both ends of an axis")
    return pads[0], pads[1]


def pooling(kind: type[Pooling] | type[AveragePooling]) -> Importer:
    """Return the importer of a kind of pooling."""

    def importer(node: Node, reader: Reader, x: Given) -> Signal:
        images, size = images_of(x), node.integers("kernel_shape")
        stride, dilation = node.integers("strides", (1, 1)), node.integers("dilations", (1, 1))
        pad = _padding(node, images, size, stride, dilation)
        if dilation != (1, 1):
            raise Unmapped(f"its window has dilations {dilation}")
        if kind is AveragePooling and any(pad) and not node.integer("count_include_pad", 0):
            raise Unmapped("its means do not count the padding", "export it with count_include_pad=1")
        layer = kind(size[0], size[1], (stride[0], stride[1]), pad)
        y = then(node, images, layer)
        if node.integer("ceil_mode", 0) and y.step.shape[1:] != _rounded_up(images, size, stride, pad):
            raise Unmapped("its output is rounded up (ceil_mode=1)", "export it with ceil_mode=0")
        return y

    return importer


def _rounded_up(x: Signal, size: tuple[int, ...], stride: tuple[int, ...], pad: tuple[int, int]) -> tuple[int, ...]:
    """Return the sizes of the output that ceil_mode gives; none where the input's are not known."""
    found = []
    for have, taps, step, border in zip(x.step.shape[1:], size, stride, pad, strict=True):
        if have is None:
            return ()
        count = -(-(have + 2 * border - taps) // step) + 1
        # no window begins in the padding at the end
        found.append(count - 1 if (count - 1) * step >= have + border else count)
    return tuple(found)
