"""Layers of nodes that enlarge images: transposed convolution and upsampling."""

from __future__ import annotations

from typing import Any

from xpdl.layers.convolution_transpose import ConvolutionTranspose
from xpdl.layers.upsampling import UpSampling
from xpdl.onnx.importing import Reader, bias_of, grids_of, then
from xpdl.onnx.nodes import Given, Node, Signal, constant
from xpdl.onnx.nodes import sizes as sizes_of
from xpdl.onnx.source import HostArray, Unmapped
from xpdl.onnx.steps import Row, known
from xpdl.onnx.windows import window_of

Sizes = tuple[int, ...]


def convolution_transpose(node: Node, reader: Reader, x: Given, W: Given, b: Given = None) -> Signal:
    """Return the transposed convolution of images, signals or volumes with constant filters."""
    grids, filters = grids_of(node, x), reader.weights(W, "filters")
    size, groups = filters.shape[2:], node.integer("group", 1)
    if node.has("kernel_shape") and node.integers("kernel_shape") != size:
        raise Unmapped(f"its kernel_shape is {node.integers('kernel_shape')}, its filters have shape {filters.shape}")
    window = window_of(node, size)
    pad, more = _taken(node, grids, size, **window)
    bias = None if b is None else bias_of(reader.weights(b, "bias"), filters.shape[1] * groups)
    options: dict[str, Any] = {**window, "pad": pad, "output_pad": more, "groups": groups}
    return then(node, grids, ConvolutionTranspose(filters, bias, **options))


def _taken(node: Node, x: Signal, size: Sizes, *, stride: Sizes, dilation: Sizes) -> tuple[Any, Sizes]:
    """Return what is taken from both sides of the output, and what is added at its end."""
    rank, auto = len(size), node.text("auto_pad", "NOTSET")
    more = node.integers("output_padding", (0,) * rank)
    wanted: tuple[int | None, ...] = node.integers("output_shape")[-rank:]
    pads = node.integers("pads", (0,) * 2 * rank)
    if len(x.axes) - 2 != rank or len(more) != rank or len(pads) != 2 * rank or len(wanted) not in (0, rank):
        raise Unmapped(f"its attributes do not fit filters of {rank} axes and rows of shape {x.row}")
    if auto in ("SAME_UPPER", "SAME_LOWER") and not wanted:
        wanted = tuple(
            None if have is None else have * step for have, step in zip(x.step.shape[1:], stride, strict=True)
        )
    elif auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise Unmapped(f"auto_pad={auto[:40]!r} is no mode of padding")
    if not wanted:
        return tuple(zip(pads[:rank], pads[rank:], strict=True)), more
    taken, added = [], []
    for have, out, taps, step, apart, extra in zip(x.step.shape[1:], wanted, size, stride, dilation, more, strict=True):
        if have is None or out is None:
            raise Unmapped("the size of its output needs that of its input", "give input_shape=")
        total = step * (have - 1) + extra + (taps - 1) * apart + 1 - out
        half = max(total, 0) // 2
        before = half if auto == "SAME_UPPER" else max(total, 0) - half
        taken.append((before, max(total, 0) - before))
        added.append(extra + max(-total, 0))
    return tuple(taken), tuple(added)


def resize(
    node: Node, reader: Reader, x: Given, roi: Given = None, scales: Given = None, sizes: Given = None
) -> Signal:
    """Return images enlarged by whole factors."""
    grids = grids_of(node, x)
    if node.opset < 11:  # scales were its second input
        roi, scales = None, roi
    mode, places = node.text("mode", "nearest"), node.text("coordinate_transformation_mode", "half_pixel")
    nearest = node.text("nearest_mode", "round_prefer_floor")
    if node.opset < 11:
        places, nearest = "asymmetric", "floor"
    # by whole factors, each value is repeated in both ways
    repeated = (places, nearest) in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))
    if not (repeated if mode == "nearest" else mode == "linear" and places == "half_pixel"):
        raise Unmapped(f"it interpolates in another way: mode={mode[:20]}, {places[:30]}, {nearest[:20]}")
    factors = _ratio(grids, sizes_of(sizes, "sizes")) if scales is None else _whole(constant(scales, "scales"), grids)
    return then(node, grids, UpSampling(factors, mode=mode))


def upsample(node: Node, reader: Reader, x: Given, scales: Given = None) -> Signal:
    """Return images whose values are repeated, by the operator before Resize."""
    grids, mode = grids_of(node, x), node.text("mode", "nearest")
    if mode != "nearest":
        raise Unmapped(f"it interpolates in another way: mode={mode[:20]}")
    found = node.numbers("scales") if scales is None else constant(scales, "scales")
    return then(node, grids, UpSampling(_whole(found, grids)))


def _whole(scales: tuple[float, ...] | HostArray, x: Signal) -> Sizes:
    values = [float(one) for one in scales[: len(x.axes) + 1]]
    if len(values) != len(x.axes) or values[:2] != [1, 1] or not all(v >= 1 and v == v // 1 < 2**31 for v in values):
        raise Unmapped(f"its scales {values} are not whole factors of the axes behind the channels")
    return tuple(int(value) for value in values[2:])


def _ratio(x: Signal, sizes: Row) -> Sizes:
    row = known(x.step.shape)
    if len(sizes) != len(row) + 1:
        raise Unmapped(f"its sizes {sizes[:8]} are not those of rows of shape {row}")
    return _whole((1.0, *(out / have for out, have in zip(known(sizes[1:]), row, strict=True))), x)
