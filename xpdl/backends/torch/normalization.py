"""Batch normalization by `torch.native_batch_norm`, and its backward pass."""

from __future__ import annotations

import torch

from xpdl.backends.half_precision import serves_half
from xpdl.backends.registry import DECLINE, kernel
from xpdl.backends.torch.tensors import Tensor, activated, before_activation, dominates, supports

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
    y, mean, var = _with_statistics(x, gamma, beta, eps)
    if dominates(mean, var.sqrt()):
        # as far as one pass can compute it; the rest of the mean is that of the second one
        shift = x.mean((0, *range(2, x.ndim)), keepdim=True)
        y, mean, var = _with_statistics(x - shift, gamma, beta, eps)
        mean.add_(shift.flatten())
    return _epilogue(y, activation, residual), mean, var.mul_((count - 1) / count)


def _with_statistics(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    mean, var = torch.zeros_like(gamma), torch.zeros_like(gamma)
    y, _, _ = torch.native_batch_norm(x, gamma, beta, mean, var, True, 1.0, eps)
    return y, mean, var


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
    if dominates(mean, var.sqrt()):
        x, mean = x - mean.reshape(-1, *(1,) * (x.ndim - 2)), torch.zeros_like(mean)
    return _epilogue(torch.native_batch_norm(x, gamma, beta, mean, var, False, 0.0, eps)[0], activation, residual)


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
