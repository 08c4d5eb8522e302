"""Batch normalization by `torch.native_batch_norm`, and its backward pass."""

from __future__ import annotations

import torch

from xpdl.backends.half_precision import serves_half
from xpdl.backends.registry import DECLINE, kernel
from xpdl.backends.torch.tensors import Tensor, about_mean, activated, before_activation, centred, supports

_gradients = torch.ops.aten.native_batch_norm_backward.default


@kernel("torch", "batch_normalization")
def batch_normalization(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    *,
    activation: str | None = None,
    residual: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `xpdl.ops.normalization.batch_normalization`.

    The variance is that with which running statistics without a past are updated: unbiased, and so multiplied. Half
    precision is left to the generic op, whose statistics, in float32, are closer.
    """
    count = x.numel() // max(x.shape[1], 1)
    if not supports(x, gamma, beta, residual) or count < 2:
        return DECLINE
    mean, var = torch.zeros_like(gamma), torch.zeros_like(gamma)
    x, shift = about_mean(x, (0, *range(2, x.ndim)))
    y, _, _ = torch.native_batch_norm(x, gamma, beta, mean, var, True, 1.0, eps)
    return _epilogue(y, activation, residual), mean.add_(shift.flatten()), var.mul_((count - 1) / count)


@kernel("torch", "batch_normalization_backward")
@serves_half({1: 2, 2: 2})
def batch_normalization_backward(
    dy: Tensor,
    x: Tensor,
    gamma: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    *,
    y: Tensor | None = None,
    activation: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `xpdl.ops.normalization.batch_normalization_backward`."""
    if not supports(dy, x, gamma, mean, var, y):
        return DECLINE
    dy = before_activation(dy, y, activation)
    invstd = torch.add(var, eps).rsqrt_()
    dx, dgamma, dbeta = _gradients(dy, x, gamma, None, None, mean, invstd, True, eps, [True, True, True])
    return dx, dgamma, dbeta


@kernel("torch", "normalize")
@serves_half()
def normalize(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    *,
    activation: str | None = None,
    residual: Tensor | None = None,
) -> Tensor:
    """As `xpdl.ops.normalization.normalize`."""
    if not supports(x, gamma, beta, mean, var, residual):
        return DECLINE
    x, mean = centred(x, mean.reshape(-1, *(1,) * (x.ndim - 2)))
    y, _, _ = torch.native_batch_norm(x, gamma, beta, mean.flatten(), var, False, 0.0, eps)
    return _epilogue(y, activation, residual)


@kernel("torch", "normalize_backward")
@serves_half({1: 2, 2: 2})
def normalize_backward(
    dy: Tensor,
    x: Tensor,
    gamma: Tensor,
    mean: Tensor,
    var: Tensor,
    eps: float,
    *,
    y: Tensor | None = None,
    activation: str | None = None,
    need_dgamma: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """As `xpdl.ops.normalization.normalize_backward`."""
    if not supports(dy, x, gamma, mean, var, y):
        return DECLINE
    dy = before_activation(dy, y, activation)
    needed = [True, need_dgamma, need_dgamma]
    dx, dgamma, dbeta = _gradients(dy, x, gamma, mean, var, None, None, False, eps, needed)
    return dx, dgamma, dbeta


def _epilogue(y: Tensor, activation: str | None, residual: Tensor | None) -> Tensor:
    return activated(y if residual is None else y.add_(residual), activation)
