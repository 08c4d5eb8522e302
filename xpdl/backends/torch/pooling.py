"""Pooling by PyTorch's own; the taps of max pooling are its indices, positions in the image."""

from __future__ import annotations

import torch

from xpdl.backends.arrays import Pads, Pair
from xpdl.backends.geometry import is_plain, output_size
from xpdl.backends.half_precision import serves_half
from xpdl.backends.registry import DECLINE, kernel
from xpdl.backends.torch.tensors import Tensor, activated, before_activation, in_layout, supports

_ONE = (1, 1)


@kernel("torch", "max_pooling")
@serves_half()
def max_pooling(
    x: Tensor,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    *,
    dilation: Pair = (1, 1),
    activation: str | None = None,
) -> Tensor:
    """As `xpdl.ops.pooling.max_pooling`."""
    found = max_pooling_with_taps(x, size, stride, pad, dilation=dilation, activation=activation)
    return found if found is DECLINE else found[0]


@kernel("torch", "max_pooling_with_taps")
@serves_half()
def max_pooling_with_taps(
    x: Tensor,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    *,
    dilation: Pair = (1, 1),
    activation: str | None = None,
) -> tuple[Tensor, Tensor | None]:
    """As `xpdl.ops.pooling.max_pooling_with_taps`."""
    if not supports(x) or not _fits(x, size, stride, pad, dilation):
        return DECLINE
    y, taps = torch.ops.aten.max_pool2d_with_indices.default(in_layout(x), size, stride, pad, dilation)
    return activated(y, activation), taps


@kernel("torch", "max_pooling_backward")
@serves_half()
def max_pooling_backward(
    dy: Tensor,
    x: Tensor,
    y: Tensor,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    taps: Tensor | None = None,
    *,
    dilation: Pair = (1, 1),
    activation: str | None = None,
) -> Tensor:
    """As `xpdl.ops.pooling.max_pooling_backward`."""
    if not supports(dy, x, y) or not _fits(x, size, stride, pad, dilation):
        return DECLINE
    x = in_layout(x)
    if taps is None:
        taps = torch.ops.aten.max_pool2d_with_indices.default(x, size, stride, pad, dilation)[1]
    dy = in_layout(before_activation(dy, y, activation))
    return torch.ops.aten.max_pool2d_with_indices_backward.default(dy, x, size, stride, pad, dilation, False, taps)


@kernel("torch", "average_pooling")
@serves_half()
def average_pooling(
    x: Tensor,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    *,
    dilation: Pair = (1, 1),
    counted_pad: Pads | None = None,
) -> Tensor:
    """As `xpdl.ops.pooling.average_pooling`."""
    if not supports(x) or not _fits(x, size, stride, pad) or dilation != _ONE or counted_pad is not None:
        return DECLINE
    return torch.ops.aten.avg_pool2d.default(in_layout(x), size, stride, pad)


@kernel("torch", "average_pooling_backward")
@serves_half()
def average_pooling_backward(
    dy: Tensor,
    x: Tensor,
    size: Pair,
    stride: Pair,
    pad: Pair = (0, 0),
    *,
    dilation: Pair = (1, 1),
    counted_pad: Pads | None = None,
) -> Tensor:
    """As `xpdl.ops.pooling.average_pooling_backward`."""
    if not supports(dy, x) or not _fits(x, size, stride, pad) or dilation != _ONE or counted_pad is not None:
        return DECLINE
    return torch.ops.aten.avg_pool2d_backward.default(in_layout(dy), in_layout(x), size, stride, pad, False, True, None)


def _fits(x: Tensor, size: Pair, stride: Pair, pad: Pair, dilation: Pair = _ONE) -> bool:
    """Return whether there are windows, with at most half of each in the border: PyTorch takes no wider one."""
    if not is_plain(x, pad) or 2 * pad[0] > size[0] or 2 * pad[1] > size[1]:
        return False
    return min(output_size(x.shape, size, stride, pad, dilation)) >= 1
