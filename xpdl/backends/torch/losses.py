"""Softmax and cross entropy for integer labels, which pick their values out of the rows."""

from __future__ import annotations

import torch

from xpdl.backends.half_precision import WIDE, serves_half
from xpdl.backends.registry import DECLINE, kernel
from xpdl.backends.torch.tensors import Tensor, supports

# of PyTorch's reductions; and the label that it ignores
_MEAN, _NO_LABEL = 1, -(2**62)
_LABELS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@kernel("torch", "softmax_with_loss")
@serves_half({0: WIDE})
def softmax_with_loss(
    x: Tensor,
    t: Tensor,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    sample_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `xpdl.ops.losses.softmax_with_loss`."""
    if class_weights is not None or label_smoothing or sample_weight is not None or not _labelled(x, t):
        return DECLINE
    log_y = torch.log_softmax(x, 1)
    loss = _mean_loss(log_y, t)
    return DECLINE if loss is None else (loss, log_y.exp_())


@kernel("torch", "softmax_with_loss_backward")
@serves_half()
def softmax_with_loss_backward(
    y: Tensor,
    t: Tensor,
    dout: Tensor | float = 1.0,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """As `xpdl.ops.losses.softmax_with_loss_backward`."""
    weighted = class_weights is not None or label_smoothing or sample_weight is not None
    if weighted or type(dout) not in (float, int) or not _labelled(y, t):
        return DECLINE
    own, classes = _picked(y, t)
    return y.scatter_add(1, classes, own.to(y.dtype).neg_()).mul_(dout / len(y))


def _labelled(x: Tensor, t: Tensor) -> bool:
    """Return whether `t` are labels, one for each row of `x` (N, K)."""
    return supports(x) and x.ndim == 2 and t.dtype in _LABELS and t.shape == x.shape[:1] and t.device == x.device


def _mean_loss(log_y: Tensor, t: Tensor) -> Tensor | None:
    """The mean of ``-log_y`` at the labels; None for labels out of range, which the generic op refuses.

    On a GPU, where PyTorch would stop at them for good, they count with 0, as they do in one-hot rows.
    """
    if log_y.device.type == "cpu":
        try:
            return torch.ops.aten.nll_loss_forward.default(log_y, t.long(), None, _MEAN, _NO_LABEL)[0]
        except IndexError:
            return None
    own, classes = _picked(log_y, t)
    return torch.where(own, log_y.gather(1, classes), 0.0).sum().div_(-len(log_y))


def _picked(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Columns of flags, true for labels in the range of the classes, and of labels clamped to it, without reading any."""
    t = t.long().unsqueeze(1)
    classes = t.clamp(0, x.shape[1] - 1)
    return classes == t, classes
