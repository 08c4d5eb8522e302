"""Convolution by cuDNN where it is there and serves the case, else by columns of some images and one matrix product.

The columns of all images together would take FH * FW times the memory of the images; here they take `COLUMN_BYTES`, or those
of one image where that is more.
"""

from __future__ import annotations

import math

from xpdl.backends.arrays import Pair
from xpdl.backends.cpu.partition import split
from xpdl.backends.cupy import cudnn, elementwise
from xpdl.backends.cupy.launch import empty, kernel, supports
from xpdl.backends.cupy.normalization import bias_gradient
from xpdl.backends.cupy.products import matmul
from xpdl.backends.cupy.windows import add_up, gather, images_of_rows, rows_of_images
from xpdl.backends.epilogues import is_relu, relu_output
from xpdl.backends.geometry import is_plain, output_size
from xpdl.backends.namespaces import Array, rounded_to, widened
from xpdl.backends.registry import DECLINE

#: the most memory that a buffer of columns takes
COLUMN_BYTES = 256 << 20


@kernel("convolution")
def convolution(
    x: Array,
    W: Array,
    b: Array | None = None,
    *,
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    activation: str | None = None,
) -> Array:
    """As `xpdl.ops.convolution.convolution`."""
    if not is_plain(x, pad):
        return DECLINE
    relu, options = is_relu(activation), (stride, pad, dilation)
    out = output_size(x.shape, (W.shape[2], W.shape[3]), *options)
    if not _fits(x, W, b, out, groups):
        return DECLINE
    y = cudnn.forward(x, W, b, out, options, relu=relu)
    if y is None and relu:
        y = cudnn.forward(x, W, b, out, options)  # cuDNN supports more cases without a relu
        y = None if y is None else elementwise.relu(y)
    if y is not None:
        return y
    y = empty((x.shape[0], W.shape[0], *out), x.dtype)
    weights = W.reshape(groups, W.shape[0] // groups, -1)
    for images in _chunks(x, W, out, groups):
        col = empty(_column_shape(images, W, out, groups), x.dtype)
        gather(x[images], col, out, W.shape[2:], *options)
        images_of_rows(matmul(weights, col), y[images], b, relu=relu)
    return y


@kernel("convolution_backward")
def convolution_backward(
    dy: Array,
    x: Array,
    W: Array,
    *,
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    y: Array | None = None,
    activation: str | None = None,
    need_dx: bool = True,
    need_dW: bool = True,
    need_db: bool = True,
) -> tuple[Array | None, Array | None, Array | None]:
    """As `xpdl.ops.convolution.convolution_backward`."""
    y = relu_output(activation, y)
    if not is_plain(x, pad) or not supports(dy, x, W, y):
        return DECLINE
    if y is not None:
        dy = elementwise.relu_backward(dy, y)
    found = cudnn.backward(dy, x, W, (stride, pad, dilation), need_dx, need_dW)
    db = bias_gradient(dy) if need_db else None
    if found is not None:
        return (*found, db)
    size = W.shape[2:]
    out = (dy.shape[2], dy.shape[3])
    weights = W.reshape(groups, W.shape[0] // groups, -1)
    dx = empty(x.shape, x.dtype) if need_dx else None
    dW = None
    for images in _chunks(x, W, out, groups):
        rows = rows_of_images(dy[images]).reshape(groups, W.shape[0] // groups, -1)
        if need_dW:
            col = empty(_column_shape(images, W, out, groups), x.dtype)
            gather(x[images], col, out, size, stride, pad, dilation)
            part = matmul(rows, col.transpose(0, 2, 1))
            # in the order of the images: equal runs give equal bits
            dW = widened(part) if dW is None else dW + part
            del col  # its memory serves the next lines
        if dx is not None:
            add_up(matmul(weights.transpose(0, 2, 1), rows), dx[images], out, size, stride, pad, dilation)
    return dx, (None if dW is None else rounded_to(W.dtype, dW).reshape(W.shape)), db


def _fits(x: Array, W: Array, b: Array | None, out: Pair, groups: int) -> bool:
    return supports(x, W, b) and min(out) >= 1 and bool(x.shape[1] == W.shape[1] * groups)


def _column_shape(images: slice, W: Array, out: Pair, groups: int) -> tuple[int, int, int]:
    count: int = images.stop - images.start
    return groups, math.prod(W.shape[1:]), count * out[0] * out[1]


def _chunks(x: Array, W: Array, out: Pair, groups: int) -> list[slice]:
    """Images whose columns fit the buffer, in runs of about equal length."""
    of_one = groups * math.prod(W.shape[1:]) * out[0] * out[1] * x.itemsize
    images = x.shape[0]
    count = -(-images // max(1, COLUMN_BYTES // of_one))
    return split(images, count)
