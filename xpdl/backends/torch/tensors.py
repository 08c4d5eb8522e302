"""Tensors that kernels take, and their order in memory."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch.autograd import forward_ad

from xpdl.backends.epilogues import is_relu, relu_output

Tensor: TypeAlias = Any

# subclasses may compute otherwise
_KINDS = (torch.Tensor, torch.nn.Parameter)
_FLOATS = (torch.float32, torch.float64)
#: standard deviations; a mean of so many costs less than two digits
_LARGE_MEAN = 50.0


def supports(first: Tensor, *others: Tensor | None) -> bool:
    """Return whether kernels compute with these: as `alike`, and not empty."""
    return bool(first.numel()) and alike(first, *others)


def alike(first: Tensor, *others: Tensor | None) -> bool:
    """Return whether all are plain tensors of one device and dtype, float32 or float64, and autograd ignores them.

    Tensors with ``requires_grad`` are left to the generic ops, which autograd differentiates, unless it is off. Half
    precision comes in float32, see `xpdl.backends.half_precision`.
    """
    dtype, device, watched = first.dtype, first.device, torch.is_grad_enabled()
    if dtype not in _FLOATS:
        return False
    for a in (first, *others):
        if a is None:
            continue
        if type(a) not in _KINDS or a.dtype != dtype or a.device != device or (watched and a.requires_grad):
            return False
    return True


def is_transformed(a: Tensor) -> bool:
    """Return whether `torch.func` or forward-mode differentiation follows `a`, which have rules for some operators only."""
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(a)
    return wrapped or forward_ad.unpack_dual(a).tangent is not None


def in_layout(x: Tensor) -> Tensor:
    """Images (N, C, H, W) in the memory order that convolutions and pooling are quickest in, copied where need be.

    On a CPU that is channels-last for float32: oneDNN need not reorder images, and max pooling is vectorised (of shape
    (100, 16, 28, 28), on two cores, 0.2 ms instead of 2.6). On other devices, and in float64, they stay as they are.
    """
    if x.dtype != torch.float32 or x.device.type != "cpu":
        return x
    x = x.contiguous(memory_format=torch.channels_last)
    _, c, h, w = x.shape
    # strides that fit both orders, of one channel or one pixel, are taken for the other one
    return x if x.stride(1) == 1 and c > 1 else x.as_strided(x.shape, (c * h * w, 1, w * c, c))


def activated(y: Tensor, activation: str | None) -> Tensor:
    """`y` itself, which is given up, or its relu in the same memory."""
    return y.relu_() if is_relu(activation) else y


def before_activation(dy: Tensor, y: Tensor | None, activation: str | None) -> Tensor:
    """Take the gradient `dy` back through the activation, whose output is `y`."""
    y = relu_output(activation, y)
    return dy if y is None else torch.ops.aten.threshold_backward.default(dy, y, 0.0)


def dominates(mean: Tensor, std: Tensor) -> bool:
    """Return whether means are so large beside the spread that they cost digits, unless they are subtracted first.

    On a CPU, PyTorch's normalizations compute ``x scale - mean scale``, in which a mean of 1e5 standard deviations costs
    five digits; those for CUDA subtract first. Only there are values read, where no device has to be waited for.
    """
    is_readable = mean.device.type == "cpu" and not is_transformed(mean)
    return is_readable and bool((mean.abs() > _LARGE_MEAN * std).any())
