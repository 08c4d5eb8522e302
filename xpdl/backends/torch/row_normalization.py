"""Layer normalization by `torch.native_layer_norm`, and its backward pass."""

from __future__ import annotations

import torch

from xpdl.backends.half_precision import WIDE, serves_half
from xpdl.backends.registry import DECLINE, kernel
from xpdl.backends.torch.tensors import Tensor, dominates, supports


@kernel("torch", "layer_normalization")
@serves_half({1: WIDE, 2: WIDE})
def layer_normalization(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """As `xpdl.ops.row_normalization.layer_normalization`."""
    if not supports(x, gamma, beta) or not gamma.shape == beta.shape == x.shape[-1:]:
        return DECLINE
    y, mean, inverse = torch.native_layer_norm(x, gamma.shape, gamma, beta, eps)
    std = inverse.reciprocal_()
    if dominates(mean, std):
        # as far as one pass can compute it; the rest of the mean is that of the second one
        shift = x.mean(-1, keepdim=True)
        y, mean, inverse = torch.native_layer_norm(x - shift, gamma.shape, gamma, beta, eps)
        mean, std = mean.add_(shift), inverse.reciprocal_()
    return y, mean, std


@kernel("torch", "layer_normalization_backward")
@serves_half({1: 2, 2: 2})
def layer_normalization_backward(
    dy: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, std: Tensor, *, need_dgamma: bool = True
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """As `xpdl.ops.row_normalization.layer_normalization_backward`."""
    if not supports(dy, x, gamma, mean, std) or dy.shape != x.shape or gamma.shape != x.shape[-1:]:
        return DECLINE
    backward = torch.ops.aten.native_layer_norm_backward.default
    # PyTorch reads statistics one after the other, whatever their strides; and of beta only whether there is one
    if dominates(mean, std):
        x, mean = x - mean, torch.zeros_like(mean)
    mean, inverse = mean.contiguous(), std.contiguous().reciprocal()
    needed = [True, need_dgamma, need_dgamma]
    dx, dgamma, dbeta = backward(dy, x, gamma.shape, mean, inverse, gamma, gamma, needed)
    return dx, dgamma, dbeta
