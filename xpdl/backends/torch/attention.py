"""Attention by PyTorch's blocks with the running softmax on a CPU, which save what the generic op saves.

Forward and backward, causal, on one core: of (16, 4, 128, 32) in 7.0 ms instead of 18.9 with the generic op, and of
(1, 4, 4096, 32) in 208 ms instead of 301.
"""

from __future__ import annotations

import torch

from xpdl.backends.half_precision import serves_half
from xpdl.backends.registry import DECLINE, kernel
from xpdl.backends.torch.tensors import Tensor, is_transformed, supports

# added to the scores of keys that do not count: finite, as the difference of two infinities is NaN
_NEVER = -1e30


@kernel("torch", "attention")
@serves_half()
def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False, block: int = 256
) -> tuple[Tensor, Tensor]:
    """As `xpdl.ops.attention.attention`; the size of blocks is PyTorch's own."""
    if not _serves(q, k, v, mask, causal):
        return DECLINE
    causal = causal and q.shape[2] > 1
    added, sees = _added(mask, q), _sees(mask, causal)
    forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    y, log_sum = forward(*map(_in_rows, (q, k, v)), 0.0, causal, attn_mask=added)
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
    if not _serves(q, k, v, mask, causal) or not supports(q, dy, y, log_sum) or is_transformed(dy):
        return DECLINE
    if not dy.shape == y.shape == q.shape or log_sum.shape != (*q.shape[:3], 1):
        return DECLINE
    causal = causal and q.shape[2] > 1
    added, sees = _added(mask, q), _sees(mask, causal)
    # a query that sees no key has equal probabilities here, which lead nowhere without a gradient
    dy = dy if sees is None else torch.where(sees, dy, 0.0)
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
    rows = map(_in_rows, (dy, q, k, v, y))
    # -inf where it was rounded to half precision
    log_sum = log_sum.squeeze(-1).clamp_min(_NEVER)
    dq, dk, dv = backward(*rows, log_sum, 0.0, causal, attn_mask=added)
    return dq, dk, dv


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
