"""Attention by PyTorch's blocks with the running softmax on a CPU, which save what the generic op saves."""

from __future__ import annotations

import functools
from typing import Any

import torch

from xpdl.backends.half_precision import WIDE, serves_half
from xpdl.backends.registry import DECLINE, kernel
from xpdl.backends.torch.tensors import Tensor, is_transformed, supports

# added to the scores of keys that do not count: finite, as the difference of two infinities is NaN
_NEVER = -1e30
_FORWARD = "_scaled_dot_product_flash_attention_for_cpu"
_BACKWARD = "_scaled_dot_product_flash_attention_for_cpu_backward"


@kernel("torch", "attention")
@serves_half({1: WIDE})
def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False, block: int = 256
) -> tuple[Tensor, Tensor]:
    """As `xpdl.ops.attention.attention`; the size of blocks is PyTorch's own."""
    operators = _operators()
    if operators is None or not _serves(q, k, v, mask, causal):
        return DECLINE
    causal = causal and q.shape[2] > 1
    added, sees = _added(mask, q), _sees(mask, causal)
    y, log_sum = operators[0](*map(_in_rows, (q, k, v)), 0.0, causal, attn_mask=added)
    log_sum = log_sum.unsqueeze(-1)
    if sees is None:
        return y, log_sum
    return torch.where(sees, y, 0.0), torch.where(sees, log_sum, _NEVER)


@kernel("torch", "attention_backward")
@serves_half()
def attention_backward(
    dy: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    y: Tensor,
    log_sum: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    block: int = 256,
) -> tuple[Tensor, Tensor, Tensor]:
    """As `xpdl.ops.attention.attention_backward`; the size of blocks is PyTorch's own."""
    operators = _operators()
    if operators is None or not _serves(q, k, v, mask, causal) or not supports(q, dy, y, log_sum) or is_transformed(dy):
        return DECLINE
    if not dy.shape == y.shape == q.shape or log_sum.shape != (*q.shape[:3], 1):
        return DECLINE
    causal = causal and q.shape[2] > 1
    added, sees = _added(mask, q), _sees(mask, causal)
    # a query that sees no key has equal probabilities here, which lead nowhere without a gradient
    dy = dy if sees is None else torch.where(sees, dy, 0.0)
    rows = map(_in_rows, (dy, q, k, v, y))
    dq, dk, dv = operators[1](*rows, log_sum.squeeze(-1), 0.0, causal, attn_mask=added)
    return dq, dk, dv


@functools.cache
def _operators() -> tuple[Any, Any] | None:
    """PyTorch's operators forward and backward, or None where its version lacks them or has changed them.

    They are not public, as no public one gives the sums that the backward pass needs: a small case is tried first, and the
    generic op serves where they do not compute it.
    """
    q = torch.linspace(-1.0, 1.0, 6).view(1, 1, 3, 2)
    hidden = torch.zeros(1, 1, 1, 3)
    try:
        forward = getattr(torch.ops.aten, _FORWARD).default
        backward = getattr(torch.ops.aten, _BACKWARD).default
        y, log_sum = forward(q, q, q, 0.0, False, attn_mask=hidden)
        grads = backward(torch.ones_like(q), q, q, q, y, log_sum, 0.0, False, attn_mask=hidden)
        scores = q @ q.mT / 2**0.5
        right = [
            (y, scores.softmax(-1) @ q),
            (log_sum, scores.logsumexp(-1)),
            (grads[2].sum(2), 3.0 * torch.ones(1, 1, 2)),
        ]
        works = all(torch.allclose(got, want, atol=1e-4) for got, want in right)
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None
    return (forward, backward) if works else None


def _serves(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> bool:
    """Return whether PyTorch computes the same: it puts the first of several causal queries at the first key."""
    if not supports(q, k, v) or q.device.type != "cpu" or q.ndim != 4 or not k.numel():
        return False
    if k.shape != v.shape or (*q.shape[:2], q.shape[3]) != (*k.shape[:2], k.shape[3]):
        return False
    if any(map(is_transformed, (q, k, v))) or (causal and q.shape[2] not in (1, k.shape[2])):
        return False
    return mask is None or (mask.dtype == torch.bool and mask.device == q.device and mask.shape == k.shape[::2])


def _in_rows(a: Tensor) -> Tensor:
    """The same values, those of a vector side by side: PyTorch reads them so, whatever the stride."""
    return a if a.stride(3) == 1 else a.contiguous()


def _added(mask: Tensor | None, q: Tensor) -> Tensor | None:
    """Terms of the scores (N, 1, 1, S): 0 for keys that count."""
    if mask is None:
        return None
    return torch.zeros(mask.shape, dtype=q.dtype).masked_fill_(~mask, _NEVER)[:, None, None, :]


def _sees(mask: Tensor | None, causal: bool) -> Tensor | None:
    """Flags of the queries that see a key (N, 1, T or 1, 1); None where all do."""
    if mask is None:
        return None
    sees = mask.cumsum(1) > 0 if causal else mask.any(1, keepdim=True)
    return sees[:, None, :, None]
