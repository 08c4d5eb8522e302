"""Convolution by `jax.lax.conv_general_dilated`: both gradients are convolutions, too."""

from __future__ import annotations

import functools

import jax
from jax import lax

from xpdl.backends.arrays import Pair
from xpdl.backends.epilogues import is_relu, relu_output
from xpdl.backends.geometry import is_plain, output_size
from xpdl.backends.half_precision import serves_half
from xpdl.backends.jax.arrays import Array, supports
from xpdl.backends.registry import DECLINE, kernel

_IMAGES = ("NCHW", "OIHW", "NCHW")
# channels as the batch, and images as the channels that are summed over
_CHANNELS = ("CNHW", "IOHW", "CNHW")


@kernel("jax", "convolution")
@serves_half()
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
    if not is_plain(x, pad) or not supports(x, W, b) or not W.size or x.shape[1] != W.shape[1] * groups:
        return DECLINE
    if min(output_size(x.shape, W.shape[2:], stride, pad, dilation)) < 1:
        return DECLINE
    return _convolved(x, W, b, stride, pad, dilation, groups, is_relu(activation))


@kernel("jax", "convolution_backward")
@serves_half()
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
    if not is_plain(x, pad) or not supports(dy, x, W, y) or not x.size or not W.size:
        return DECLINE
    return _gradients(dy, x, W, y, stride, pad, dilation, groups, need_dx, need_dW, need_db)


@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6, 7), inline=True)
def _convolved(
    x: Array, W: Array, b: Array | None, stride: Pair, pad: Pair, dilation: Pair, groups: int, relu: bool
) -> Array:
    border = [(pad[0], pad[0]), (pad[1], pad[1])]
    y = lax.conv_general_dilated(
        x, W, stride, border, None, dilation, dimension_numbers=_IMAGES, feature_group_count=groups
    )
    y = y if b is None else y + b[:, None, None]
    return jax.numpy.maximum(y, 0.0) if relu else y


@functools.partial(jax.jit, static_argnums=(4, 5, 6, 7, 8, 9, 10), inline=True)
def _gradients(
    dy: Array,
    x: Array,
    W: Array,
    y: Array | None,
    stride: Pair,
    pad: Pair,
    dilation: Pair,
    groups: int,
    need_dx: bool,
    need_dW: bool,
    need_db: bool,
) -> tuple[Array | None, Array | None, Array | None]:
    dy = dy if y is None else jax.numpy.where(y > 0, dy, 0.0)
    dx = _input_gradient(dy, W, x.shape[2:], stride, pad, dilation, groups) if need_dx else None
    dW = _filter_gradient(dy, x, W.shape[2:], stride, pad, dilation, groups) if need_dW else None
    return dx, dW, dy.sum((0, 2, 3)) if need_db else None


def _input_gradient(dy: Array, W: Array, size: Pair, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Array:
    """Convolve `dy`, its values `stride` apart, with the filters turned round, from filters to channels."""
    filters, depth, *taps = W.shape
    by_group = W.reshape(groups, filters // groups, depth, *taps).swapaxes(1, 2)
    turned = lax.rev(by_group.reshape(groups * depth, filters // groups, *taps), (2, 3))
    border = []
    for i in (0, 1):
        extent = dilation[i] * (taps[i] - 1) + 1
        before = extent - 1 - pad[i]
        # as many positions as the image has; negative where windows do not reach its end
        border.append((before, size[i] + extent - 2 - before - (dy.shape[2 + i] - 1) * stride[i]))
    return lax.conv_general_dilated(
        dy, turned, (1, 1), border, stride, dilation, dimension_numbers=_IMAGES, feature_group_count=groups
    )


def _filter_gradient(dy: Array, x: Array, taps: Pair, stride: Pair, pad: Pair, dilation: Pair, groups: int) -> Array:
    """Convolve the images with `dy`, its values `stride` apart; windows are `dilation` apart."""
    border = []
    for i in (0, 1):
        covered = (dy.shape[2 + i] - 1) * stride[i] + (taps[i] - 1) * dilation[i] + 1
        border.append((pad[i], covered - x.shape[2 + i] - pad[i]))
    return lax.conv_general_dilated(
        x, dy, dilation, border, None, stride, dimension_numbers=_CHANNELS, batch_group_count=groups
    )
