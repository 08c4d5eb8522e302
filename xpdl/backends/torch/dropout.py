"""Dropout masks: of a CPU's tensors by the kernel of NumPy's arrays, whose memory tensors share."""

from __future__ import annotations

import numpy as np
import torch

from xpdl.backends.numpy import dropout
from xpdl.backends.registry import DECLINE, call, kernel
from xpdl.backends.torch.tensors import Tensor

__all__ = ["dropout", "dropout_mask"]


@kernel("torch", "dropout_mask")
def dropout_mask(x: Tensor, drop_ratio: float, words: tuple[int, ...], counter: int, first_row: int = 0) -> Tensor:
    """As `xpdl.ops.dropout.dropout_mask`, bitwise identical."""
    if x.device.type != "cpu":
        return DECLINE
    # of the shape; its values are not read
    like = np.broadcast_to(np.float32(0.0), x.shape)
    return torch.from_numpy(call("numpy", "dropout_mask", like, drop_ratio, words, counter, first_row))
