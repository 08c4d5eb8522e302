"""Sliding windows over images: output sizes, padding, im2col and its adjoint col2im."""

from __future__ import annotations

import functools
import itertools

from xpdl.backends.arrays import Pads, Pair
from xpdl.backends.dispatch import op
from xpdl.backends.geometry import window_count
from xpdl.backends.namespaces import Array, Namespace, array_namespace, device, rounded_to, widened
from xpdl.errors import ShapeError
from xpdl.ops.checks import int_at_least, pair, require_rank, require_shape, sizes
from xpdl.ops.padding import Sizes, pad_images, sides


def conv_output_size(
    input_size: int,
    filter_size: int,
    stride: int = 1,
    pad: int | Pair = 0,
    *,
    dilation: int = 1,
    owner: str = "conv_output_size",
) -> int:
    """Number of window positions along one axis: ``(input_size + 2 pad - extent) // stride + 1``, rounded down.

    A filter of `filter_size` taps covers ``extent = dilation (filter_size - 1) + 1`` positions. A `pad` of two numbers is
    (before, after), and their sum stands for ``2 pad``.

    Raises
    ------
    ShapeError
        If the filter is larger than the padded input, or an argument is out of its range.

    Notes
    -----
    The book (ch. 7) returns a float, 12.5 windows for an odd remainder; a partial window is no window here.
    """
    input_size = int_at_least(1, input_size, "input_size", owner)
    filter_size = int_at_least(1, filter_size, "filter_size", owner)
    stride = int_at_least(1, stride, "stride", owner)
    before, after = _border(pad, owner)
    dilation = int_at_least(1, dilation, "dilation", owner)
    extent = dilation * (filter_size - 1) + 1
    if input_size + before + after < extent:
        border = f"2*{before}" if before == after else f"{before} + {after}"
        raise ShapeError(
            f"{owner}: the filter covers {extent} but the padded input has only {input_size} + {border}; "
            "use a smaller filter or dilation, or more pad"
        )
    return window_count(input_size + before + after, filter_size, stride, 0, dilation)


def _border(pad: int | Pair, owner: str) -> Pair:
    """`pad` as (before, after)."""
    if isinstance(pad, tuple):
        return pair(pad, "pad", owner, 0)
    width = int_at_least(0, pad, "pad", owner)
    return width, width


@functools.lru_cache(maxsize=1024)
def output_sizes(size: Sizes, filter_size: Sizes, stride: Sizes, pad: Pads, dilation: Sizes, owner: str) -> Sizes:
    """`conv_output_size` along each axis."""
    axes = zip(size, filter_size, stride, pad, dilation, strict=True)
    return tuple(
        conv_output_size(length, taps, step, border, dilation=gap, owner=owner)
        for length, taps, step, border, gap in axes
    )


def shifted(x: Array, size: Sizes, stride: Sizes, dilation: Sizes, out: Sizes) -> list[Array]:
    """For each tap of a window, row by row, what it sees: ``size[0] * size[1]`` arrays (N, C, OH, OW)."""
    seen = [
        [slice(tap * gap, tap * gap + (count - 1) * step + 1, step) for tap in range(taps)]
        for taps, step, gap, count in zip(size, stride, dilation, out, strict=True)
    ]
    return [x[(slice(None), slice(None), *places)] for places in itertools.product(*seen)]


def overlap_add(parts: list[Array], input_size: Sizes, size: Sizes, stride: Sizes, pad: Pads, dilation: Sizes) -> Array:
    """The adjoint of padding and `shifted`: add each tap's (N, C, OH, OW) to where it was seen, giving (N, C, H, W)."""
    xp, dtype = array_namespace(parts[0]), parts[0].dtype
    parts = [widened(part) for part in parts]
    border = [sides(side) for side in pad]
    for axis in reversed(range(len(size))):
        length = input_size[axis] + sum(border[axis])
        groups = [parts[i : i + size[axis]] for i in range(0, len(parts), size[axis])]
        parts = [_add_along(xp, taps, axis + 2, length, stride[axis], dilation[axis]) for taps in groups]
    inner = (slice(before, before + length) for (before, _), length in zip(border, input_size, strict=True))
    return rounded_to(dtype, parts[0][(slice(None), slice(None), *inner)])


def _add_along(xp: Namespace, parts: list[Array], axis: int, length: int, stride: int, dilation: int) -> Array:
    """Sum of `parts`, the taps of one axis, each spread by `stride` and placed at its offset in `length` positions."""
    total = None
    for tap, part in enumerate(parts):
        part = _spread(xp, part, axis, stride)
        before = tap * dilation
        after = length - before - part.shape[axis]
        placed = xp.concat(
            [*_zeros(xp, part, axis, before), part, *_zeros(xp, part, axis, after)],
            axis=axis,
        )
        total = placed if total is None else total + placed
    return total


def _zeros(xp: Namespace, like: Array, axis: int, length: int) -> list[Array]:
    if not length:
        return []
    shape = list(like.shape)
    shape[axis] = length
    return [xp.zeros(tuple(shape), dtype=like.dtype, device=device(like))]


def _spread(xp: Namespace, x: Array, axis: int, stride: int) -> Array:
    """`x` with ``stride - 1`` zeros between neighbours along `axis`."""
    if stride == 1:
        return x
    x = xp.expand_dims(x, axis=axis + 1)
    wide = xp.concat([x, *_zeros(xp, x, axis + 1, stride - 1)], axis=axis + 1)
    shape = [*x.shape[: axis + 1], *x.shape[axis + 2 :]]
    shape[axis] *= stride
    flat = xp.reshape(wide, tuple(shape))
    keep = [slice(None)] * flat.ndim
    keep[axis] = slice(0, shape[axis] - stride + 1)
    return flat[tuple(keep)]


def columns(x: Array, size: Sizes, stride: Sizes, pad: Pads, dilation: Sizes, out: Sizes) -> Array:
    """(N, C, H, W) -> (N, C, size[0] * size[1], OH * OW): what each tap sees, ready for a matrix product."""
    xp = array_namespace(x)
    taps = shifted(pad_images(x, pad), size, stride, dilation, out)
    stacked = xp.stack(taps, axis=2)
    return xp.reshape(stacked, (-1, x.shape[1], size[0] * size[1], out[0] * out[1]))


@op
def im2col(input_data: Array, filter_h: int, filter_w: int, stride: int | Pair = 1, pad: int | Pair = 0) -> Array:
    """Unfold images into one row per window.

    Parameters
    ----------
    input_data : array (N, C, H, W)
    filter_h, filter_w : int
        Size of the window.
    stride, pad : int or pair of ints
        Step between windows, and zeros added on each side.

    Returns
    -------
    array (N * OH * OW, C * filter_h * filter_w)
        Of the dtype of `input_data`; the book's (ch. 7) is float64 whatever came.

    Raises
    ------
    ShapeError
        If `input_data` is not of rank 4 or the window does not fit.

    Examples
    --------
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> im2col(x, 2, 2)[0]
    array([0., 1., 3., 4.])
    """
    owner = "im2col"
    xp = array_namespace(input_data, owner=owner)
    require_rank(input_data, 4, owner, "images (N, C, H, W)")
    size = pair((filter_h, filter_w), "filter size", owner, 1)
    stride, pad = pair(stride, "stride", owner, 1), pair(pad, "pad", owner, 0)
    n, c, h, w = input_data.shape
    out = output_sizes((h, w), size, stride, pad, (1, 1), owner)
    cols = columns(input_data, size, stride, pad, (1, 1), out)
    cols = xp.reshape(cols, (n, c * size[0] * size[1], out[0] * out[1]))
    return xp.reshape(xp.permute_dims(cols, (0, 2, 1)), (n * out[0] * out[1], c * size[0] * size[1]))


@op
def col2im(
    col: Array,
    input_shape: tuple[int, int, int, int],
    filter_h: int,
    filter_w: int,
    stride: int | Pair = 1,
    pad: int | Pair = 0,
) -> Array:
    """Add the rows of `col` back to the places `im2col` took them from: the adjoint of `im2col`, not its inverse.

    Parameters
    ----------
    col : array (N * OH * OW, C * filter_h * filter_w)
    input_shape : (N, C, H, W)
        The shape of the images; the other arguments are those of `im2col`.

    Returns
    -------
    array (N, C, H, W)
        A pixel seen by k windows receives the sum of k entries. Dtype of `col`.

    Raises
    ------
    ShapeError
        If `col` does not have the shape that `im2col` gives.
    """
    owner = "col2im"
    xp = array_namespace(col, owner=owner)
    if len(sizes(input_shape, "input_shape", owner)) != 4:
        raise ShapeError(f"{owner}: input_shape must be (N, C, H, W), got {tuple(input_shape)}")
    size = pair((filter_h, filter_w), "filter size", owner, 1)
    stride, pad = pair(stride, "stride", owner, 1), pair(pad, "pad", owner, 0)
    n, c, h, w = input_shape
    out = output_sizes((h, w), size, stride, pad, (1, 1), owner)
    require_shape(col, (n * out[0] * out[1], c * size[0] * size[1]), owner, "col")
    col = xp.permute_dims(xp.reshape(col, (n, *out, c, size[0] * size[1])), (0, 3, 4, 1, 2))
    taps = [col[:, :, tap, :, :] for tap in range(size[0] * size[1])]
    return overlap_add(taps, (h, w), size, stride, pad, (1, 1))
