"""Convolution by PyTorch's own: oneDNN on a CPU, cuDNN on a GPU."""

from __future__ import annotations

import torch

from xpdl.backends.arrays import Pair
from xpdl.backends.geometry import is_plain, output_size
from xpdl.backends.half_precision import serves_half
from xpdl.backends.registry import DECLINE, kernel
from xpdl.backends.torch.tensors import Tensor, activated, before_activation, in_layout, supports


@kernel("torch", "convolution")
@serves_half()
def convolution(
    x: Tensor,
    W: Tensor,
    b: Tensor | None = None,
    *,
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    activation: str | None = None,
) -> Tensor:
    """As `xpdl.ops.convolution.convolution`."""
    if not is_plain(x, pad) or not supports(x, W, b) or x.shape[1] != W.shape[1] * groups:
        return DECLINE
    if min(output_size(x.shape, W.shape[2:], stride, pad, dilation)) < 1:
        return DECLINE
    return activated(torch.conv2d(in_layout(x), W, b, stride, pad, dilation, groups), activation)


@kernel("torch", "convolution_backward")
@serves_half()
def convolution_backward(
    dy: Tensor,
    x: Tensor,
    W: Tensor,
    *,
    stride: Pair = (1, 1),
    pad: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    y: Tensor | None = None,
    activation: str | None = None,
    need_dx: bool = True,
    need_dW: bool = True,
    need_db: bool = True,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """As `xpdl.ops.convolution.convolution_backward`."""
    if not is_plain(x, pad) or not supports(dy, x, W, y):
        return DECLINE
    dy = in_layout(before_activation(dy, y, activation))
    needed = [need_dx, need_dW, need_db]
    options = ([W.shape[0]], stride, pad, dilation, False, (0, 0), groups)
    x = in_layout(x) if need_dW else x  # of which the shape alone counts without
    dx, dW, db = torch.ops.aten.convolution_backward.default(dy, x, W, *options, needed)
    return dx, dW, db
