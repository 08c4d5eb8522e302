"""The affine map, and products for its gradients."""

from __future__ import annotations

import math

from xpdl.backends.half_precision import serves_half
from xpdl.backends.registry import DECLINE, kernel
from xpdl.backends.torch.products import addmm, mm
from xpdl.backends.torch.tensors import Tensor, activated, before_activation, supports


@kernel("torch", "affine")
@serves_half()
def affine(x: Tensor, W: Tensor, b: Tensor | None = None, *, activation: str | None = None) -> Tensor:
    """As `xpdl.ops.affine.affine`."""
    if not supports(x, W, b) or not _fits(x, W):
        return DECLINE
    rows = x if x.ndim == 2 else x.reshape(len(x), -1)
    return activated(mm(rows, W) if b is None else addmm(b, rows, W), activation)


@kernel("torch", "affine_backward")
@serves_half()
def affine_backward(
    dy: Tensor,
    x: Tensor,
    W: Tensor,
    *,
    y: Tensor | None = None,
    activation: str | None = None,
    need_dx: bool = True,
    need_db: bool = True,
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """As `xpdl.ops.affine.affine_backward`."""
    if not supports(dy, x, W, y) or not _fits(x, W) or dy.shape != (len(x), W.shape[1]):
        return DECLINE
    dy = before_activation(dy, y, activation)
    rows = x if x.ndim == 2 else x.reshape(len(x), -1)
    dx = mm(dy, W.T).view(x.shape) if need_dx else None
    return dx, mm(rows.T, dy), dy.sum(0) if need_db else None


def _fits(x: Tensor, W: Tensor) -> bool:
    return W.ndim == 2 and x.ndim > 1 and math.prod(x.shape[1:]) == W.shape[0]
