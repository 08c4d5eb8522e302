"""Layer normalization by `torch.native_layer_norm`, and its backward pass."""

from __future__ import annotations

import torch

from xpdl.backends.half_precision import WIDE, serves_half
from xpdl.backends.registry import DECLINE, kernel
from xpdl.backends.torch.tensors import Tensor, about_mean, centred, supports


@kernel("torch", "layer_normalization")
@serves_half({1: WIDE, 2: WIDE})
def layer_normalization(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """As `xpdl.ops.row_normalization.layer_normalization`."""
    if not supports(x, gamma, beta) or not gamma.shape == beta.shape == x.shape[-1:]:
        return DECLINE
    x, shift = about_mean(x, (-1,))
    y, mean, inverse = torch.native_layer_norm(x, gamma.shape, gamma, beta, eps)
    return y, mean.add_(shift), inverse.reciprocal_()


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
    x, mean = centred(x, mean)
    mean, inverse = mean.contiguous(), std.contiguous().reciprocal()
    needed = [True, need_dgamma, need_dgamma]
    dx, dgamma, dbeta = backward(dy, x, gamma.shape, mean, inverse, gamma, gamma, needed)
    return dx, dgamma, dbeta
