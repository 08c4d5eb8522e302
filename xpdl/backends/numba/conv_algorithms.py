"""The tasks of a convolution in compiled code, or in NumPy's functions where those are the faster algorithm."""

from __future__ import annotations

import numpy as np

from xpdl.backends.arrays import NDArray, Pair
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.conv_tasks import WHOLE, Slices, Sum
from xpdl.backends.numba import im2col_rows, winograd_2d
from xpdl.backends.numpy import conv_algorithms as pure
from xpdl.backends.numpy import winograd_1d


def as_source(inner: NDArray) -> NDArray:
    """Images (H, C, W, N), contiguous if compiled loops read them, which do so more than once."""
    return np.ascontiguousarray(inner) if im2col_rows.has_enough_images(inner) else inner


def correlation(
    src: NDArray,
    weights: NDArray,
    out: NDArray,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    b: NDArray | None = None,
    dw_operand: NDArray | None = None,
    partials: list[NDArray] | None = None,
    relu: bool = False,
    out_slices: Slices = WHOLE,
) -> list[thread_pool.Task]:
    """As `xpdl.backends.cpu.conv_tasks.Algorithms.correlation`."""
    if out_slices == WHOLE and winograd_2d.supports(src, weights, out, dw_operand, stride, dilation):
        return winograd_2d.correlation(src, weights, out, pad, b, dw_operand, partials, relu)
    seen_out = out[out_slices[0], :, out_slices[1]]
    if not winograd_1d.supports(weights, seen_out, stride, dilation) and im2col_rows.supports(
        src, out, dw_operand, dilation
    ):
        size = weights.shape[1], weights.shape[2]
        return im2col_rows.correlation(
            src, weights, size, out, stride, pad, dilation, b, dw_operand, partials, relu, out_slices
        )
    return pure.correlation(src, weights, out, stride, pad, dilation, b, dw_operand, partials, relu, out_slices)


def weight_gradient(
    dyt: NDArray, src: NDArray, dW: NDArray, stride: Pair, pad: Pair, dilation: Pair, sums: list[Sum]
) -> list[thread_pool.Task]:
    """As `xpdl.backends.cpu.conv_tasks.Algorithms.weight_gradient`."""
    if not im2col_rows.supports(src, dyt, None, dilation):
        return pure.weight_gradient(dyt, src, dW, stride, pad, dilation, sums)
    partials: list[NDArray] = []
    sums.append((dW.transpose(2, 3, 1, 0), partials))
    size = dW.shape[2], dW.shape[3]
    return im2col_rows.correlation(src, None, size, dyt, stride, pad, dilation, dw_operand=dyt, partials=partials)
