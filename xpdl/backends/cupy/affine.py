"""The affine map: matrix products by cuBLAS, the bias and its gradient by kernels of ours."""

from __future__ import annotations

import math

from xpdl.backends.cupy.elementwise import add_bias, relu_backward
from xpdl.backends.cupy.launch import kernel, supports
from xpdl.backends.cupy.layout import in_layout
from xpdl.backends.cupy.normalization import bias_gradient
from xpdl.backends.cupy.products import matmul
from xpdl.backends.epilogues import is_relu, relu_output
from xpdl.backends.namespaces import Array
from xpdl.backends.registry import DECLINE


@kernel("affine")
def affine(x: Array, W: Array, b: Array | None = None, *, activation: str | None = None) -> Array:
    """As `xpdl.ops.affine.affine`: a relu is in the launch that adds the bias."""
    relu = is_relu(activation)
    if not _fits(x, W, b):
        return DECLINE
    y = matmul(_rows(x), W)
    if relu or b is not None:
        add_bias(y, b, relu=relu)
    return y


@kernel("affine_backward")
def affine_backward(
    dy: Array,
    x: Array,
    W: Array,
    *,
    y: Array | None = None,
    activation: str | None = None,
    need_dx: bool = True,
    need_db: bool = True,
) -> tuple[Array | None, Array, Array | None]:
    """As `xpdl.ops.affine.affine_backward`."""
    y = relu_output(activation, y)
    if not supports(dy, x, W, y) or not _matches(x, W) or dy.ndim != 2:
        return DECLINE
    if y is not None:
        dy = relu_backward(dy, y)
    dx = matmul(dy, W.T).reshape(x.shape) if need_dx else None
    return dx, matmul(_rows(x).T, dy), bias_gradient(dy) if need_db else None


def _fits(x: Array, W: Array, b: Array | None) -> bool:
    return supports(x, W, b) and _matches(x, W)


def _matches(x: Array, W: Array) -> bool:
    return bool(W.ndim == 2 and math.prod(x.shape[1:]) == W.shape[0])


def _rows(x: Array) -> Array:
    return x if x.ndim == 2 else in_layout(x, False).reshape(x.shape[0], -1)
