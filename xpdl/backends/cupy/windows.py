"""im2col and col2im as gathers, in the order of the book's function or in that of one large matrix product."""

from __future__ import annotations

import functools
from typing import Any

from xpdl.backends.arrays import Pair
from xpdl.backends.cupy import tiles
from xpdl.backends.cupy.launch import (
    BLOCK,
    contiguous,
    dtype_name,
    empty,
    kernel,
    launch,
    launch_elementwise,
    struct,
    supports,
)
from xpdl.backends.geometry import output_size
from xpdl.backends.namespaces import Array
from xpdl.backends.registry import DECLINE

_ONE = (1, 1)
# Bytes that a thread stores at once.
_PACK = 16


@kernel("im2col")
def im2col(input_data: Array, filter_h: int, filter_w: int, stride: int | Pair = 1, pad: int | Pair = 0) -> Array:
    """As `xpdl.ops.windows.im2col`."""
    found = _checked(input_data, getattr(input_data, "shape", ()), filter_h, filter_w, stride, pad)
    if found is None:
        return DECLINE
    out, size, strides, pads = found
    n, c = input_data.shape[:2]
    col = empty((n * out[0] * out[1], c * size[0] * size[1]), input_data.dtype)
    gather(input_data, col, out, size, strides, pads, _ONE, rows=True)
    return col


@kernel("col2im")
def col2im(
    col: Array,
    input_shape: tuple[int, int, int, int],
    filter_h: int,
    filter_w: int,
    stride: int | Pair = 1,
    pad: int | Pair = 0,
) -> Array:
    """As `xpdl.ops.windows.col2im`."""
    found = _checked(col, input_shape, filter_h, filter_w, stride, pad)
    if found is None:
        return DECLINE
    out, size, strides, pads = found
    n, c = input_shape[:2]
    if col.shape != (n * out[0] * out[1], c * size[0] * size[1]):
        return DECLINE
    x = empty(tuple(input_shape), col.dtype)
    add_up(contiguous(col), x, out, size, strides, pads, _ONE, rows=True)
    return x


def gather(
    x: Array, col: Array, out: Pair, size: Pair, stride: Pair, pad: Pair, dilation: Pair, *, rows: bool = False
) -> None:
    """Fill `col` with what windows of `x` (N, C, H, W) see: (N * OH * OW, C * FH * FW), or without `rows` its transpose,
    in the order (C, FH * FW, N, OH * OW)."""
    layout, dtype = _layout(x.shape, out, size, stride, pad, dilation, rows), dtype_name(x.dtype)
    if rows:
        _launch_packs("im2col_rows", col, contiguous(x), col, layout, largest=x.size)
        return
    grid, *shapes = _bands(x.shape, out, size, stride, dilation, x.itemsize)
    launch("windows", "im2col", dtype, grid, (BLOCK,), (contiguous(x), col, layout, *shapes), max(x.size, col.size))


def add_up(
    col: Array, x: Array, out: Pair, size: Pair, stride: Pair, pad: Pair, dilation: Pair, *, rows: bool = False
) -> None:
    """The adjoint of `gather`: fill `x`."""
    layout = _layout(x.shape, out, size, stride, pad, dilation, rows)
    launch_elementwise("windows", "col2im", dtype_name(x.dtype), x.size, col, x, layout, largest=col.size)


def images_of_rows(rows: Array, y: Array, b: Array | None, *, relu: bool = False) -> None:
    """Fill `y` (N, C, H, W) from `rows` (C, N * H * W), with `b` (C,) added, rectified with `relu`."""
    n, c = y.shape[:2]
    bias, places = 0 if b is None else contiguous(b), y.size // (n * c)
    divisors = tiles.divisor(places), tiles.divisor(c)
    _launch_packs("images_of_rows", y, rows, bias, int(relu), y, n, c, places, *divisors)


def rows_of_images(y: Array) -> Array:
    """(C, N * H * W) of `y` (N, C, H, W)."""
    n, c = y.shape[:2]
    rows, places = empty((c, y.size // c), y.dtype), y.size // (n * c)
    divisors = tiles.divisor(places), tiles.divisor(n)
    _launch_packs("rows_of_images", rows, contiguous(y), rows, n, c, places, *divisors)
    return rows


def _launch_packs(name: str, result: Array, *args: Any, largest: int = 0) -> None:
    """Start a kernel whose threads take packs of the result; their number is its last argument."""
    size = result.size
    blocks = min(-(-size * result.itemsize // (_PACK * BLOCK)), tiles.MOST_BLOCKS)
    launch("windows", name, dtype_name(result.dtype), (blocks,), (BLOCK,), (*args, size), max(size, largest))


@functools.lru_cache(maxsize=1024)
def _bands(shape: Any, out: Pair, size: Pair, stride: Pair, dilation: Pair, itemsize: int) -> tuple[Any, ...]:
    """The grid and the last arguments of the kernel im2col, whose blocks have bands of the output of one plane or more."""
    n, c, *image = shape
    bands = tiles.bands(
        n * c,
        out,
        (image[0], image[1]),
        lambda rows: (rows - 1) * stride[0] + (size[0] - 1) * dilation[0] + 1,
        itemsize,
    )
    divisors = map(tiles.divisor, (*out, *stride))
    cut = struct("planes rows per_plane count staged result_rows result_columns stride_h stride_w", *bands, *divisors)
    return (min(bands.total, tiles.MOST_BLOCKS),), cut, n * c


def _checked(a: Array, shape: Any, filter_h: int, filter_w: int, stride: Any, pad: Any) -> Any:
    """Output size, filter size, strides and pads as pairs; None for what the generic op is to look at."""
    strides = stride if isinstance(stride, tuple) else (stride, stride)
    pads = pad if isinstance(pad, tuple) else (pad, pad)
    size = (filter_h, filter_w)
    numbers = (*size, *strides, *pads)
    if any(type(v) is not int for v in numbers) or min(*size, *strides) < 1 or min(pads) < 0 or len(numbers) != 6:
        return None
    if len(shape) != 4 or not supports(a):
        return None
    out = output_size(shape, size, strides, pads)
    return None if min(out) < 1 else (out, size, strides, pads)


def _layout(shape: Any, out: Pair, size: Pair, stride: Pair, pad: Pair, dilation: Pair, rows: bool) -> Any:
    names = "N C H W OH OW KH KW SH SW PH PW DH DW rows"
    return struct(names, *shape, *out, *size, *stride, *pad, *dilation, rows)
