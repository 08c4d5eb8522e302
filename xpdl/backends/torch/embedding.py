"""Gradients of embeddings, on a CPU.

There, each thread has rows of the table of its own, and adds to them in the order of the ids: sums are bitwise reproducible,
whatever the number of threads. On other devices PyTorch may add atomically.
"""

from __future__ import annotations

import torch

from xpdl.backends.half_precision import serves_half
from xpdl.backends.registry import DECLINE, kernel
from xpdl.backends.torch.tensors import Tensor, supports

_IDS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
# an id that PyTorch skips, as it does those outside of the table
_NO_ID = -1


@kernel("torch", "embedding_backward")
@serves_half()
def embedding_backward(dy: Tensor, ids: Tensor, count: int) -> Tensor:
    """As `xpdl.ops.embedding.embedding_backward`."""
    if not supports(dy) or ids.dtype not in _IDS or dy.device.type != "cpu" or dy.shape[:-1] != ids.shape:
        return DECLINE
    return torch.ops.aten.embedding_dense_backward.default(dy, ids.long(), count, _NO_ID, False)
