"""Updates of all parameters at once, in place: Adam fused, other rules by operators for lists of tensors."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

from xpdl.backends.graphs import is_frozen
from xpdl.backends.registry import DECLINE, kernel
from xpdl.backends.torch.tensors import Tensor, alike, supports

Tensors = list[Tensor]
RULES: dict[str, Callable[..., None]] = {}

_FUSED_ADAM = ("cpu", "cuda")


@kernel("torch", "fused_update")
def fused_update(
    params: Tensors,
    grads: Tensors,
    state: list[tuple[Tensor, ...]],
    step: Callable[..., tuple[Tensor, ...]],
    spec: Any,
) -> Iterable[tuple[Tensor, ...]]:
    """As `xpdl.optimizers.fused_update.fused_update`; results are written into `params` and `state`."""
    kept = [list(arrays) for arrays in zip(*state, strict=True)]
    if spec.name not in RULES or not _supports([*params, *itertools.chain.from_iterable(kept)], grads):
        return DECLINE
    stepped = list(zip(params, *kept, strict=True))
    on_cpu = params[0].device.type == "cpu"
    scalars = spec.scalars
    if on_cpu:  # reading a value costs nothing
        if spec.apply_if is not None and not spec.apply_if:
            return stepped
        scalars = {name: float(value) for name, value in scalars.items()}
    elif spec.apply_if is not None or not all(isinstance(value, float) for value in scalars.values()):
        return DECLINE
    if spec.scale is not None:
        grads = torch._foreach_mul(grads, spec.scale)
    if spec.l1:
        grads = torch._foreach_add(grads, torch._foreach_sign(params), alpha=spec.l1)
    if spec.l2:
        grads = torch._foreach_add(grads, params, alpha=spec.l2)
    RULES[spec.name](params, grads, *kept, **scalars)
    if spec.max_norm is not None:
        torch._foreach_clamp_min_(params, -spec.max_norm)
        torch._foreach_clamp_max_(params, spec.max_norm)
    return stepped


def _supports(written: Tensors, grads: Tensors) -> bool:
    """Return whether parameters and their state can be written in place from the gradients."""
    if not alike(*written, *grads):
        return False
    # what is contiguous is not expanded
    return not any([(a.is_inference() or not a.is_contiguous()) and is_frozen(a) for a in written])


def _rule(update: Callable[..., None]) -> Callable[..., None]:
    """Make known a rule in place, for the op of its name."""
    RULES[update.__name__] = update
    return update


@_rule
def sgd_step(p: Tensors, g: Tensors, *, lr: float) -> None:
    torch._foreach_add_(p, g, alpha=-lr)


@_rule
def momentum_step(p: Tensors, g: Tensors, v: Tensors, *, lr: float, momentum: float) -> None:
    torch._foreach_mul_(v, momentum)
    torch._foreach_add_(v, g, alpha=-lr)
    torch._foreach_add_(p, v)


@_rule
def nesterov_step(p: Tensors, g: Tensors, v: Tensors, *, lr: float, momentum: float) -> None:
    torch._foreach_add_(p, v, alpha=momentum * momentum)
    torch._foreach_add_(p, g, alpha=-(1.0 + momentum) * lr)
    torch._foreach_mul_(v, momentum)
    torch._foreach_add_(v, g, alpha=-lr)


@_rule
def ada_grad_step(p: Tensors, g: Tensors, h: Tensors, *, lr: float, eps: float) -> None:
    torch._foreach_addcmul_(h, g, g)
    _scaled_step(p, g, h, lr, eps)


@_rule
def rmsprop_step(p: Tensors, g: Tensors, h: Tensors, *, lr: float, decay_rate: float, eps: float) -> None:
    _mean_of_squares(h, g, decay_rate)
    _scaled_step(p, g, h, lr, eps)


@_rule
def ada_delta_step(p: Tensors, g: Tensors, h: Tensors, s: Tensors, *, lr: float, rho: float, eps: float) -> None:
    _mean_of_squares(h, g, rho)
    d, root = torch._foreach_add(s, eps), torch._foreach_add(h, eps)
    torch._foreach_sqrt_(d)
    torch._foreach_sqrt_(root)
    torch._foreach_div_(d, root)
    torch._foreach_mul_(d, g)
    torch._foreach_add_(p, d, alpha=-lr)
    _mean_of_squares(s, d, rho)


@_rule
def adam_step(
    p: Tensors, g: Tensors, m: Tensors, v: Tensors, *, lr: float, beta1: float, beta2: float, eps: float
) -> None:
    if p[0].device.type in _FUSED_ADAM and all([a.is_contiguous() for arrays in (p, m, v) for a in arrays]):
        options = {"beta1": beta1, "beta2": beta2, "weight_decay": 0.0, "eps": eps, "amsgrad": False, "maximize": False}
        g = [a.contiguous() for a in g]
        torch._fused_adam_(p, g, m, v, [], _no_correction(p[0].device, len(p)), lr=lr, **options)
        return
    torch._foreach_mul_(m, beta1)
    torch._foreach_add_(m, g, alpha=1.0 - beta1)
    _mean_of_squares(v, g, beta2)
    _scaled_step(p, m, v, lr, eps)


@_rule
def adam_w_step(p: Tensors, g: Tensors, m: Tensors, v: Tensors, *, keep: float, **numbers: float) -> None:
    torch._foreach_mul_(p, keep)
    adam_step(p, g, m, v, **numbers)


@functools.lru_cache(maxsize=64)
def _no_correction(device: Any, count: int) -> Tensors:
    """Numbers of updates, after infinitely many of which the bias correction is 1: `lr` has it already."""
    return [torch.tensor(math.inf, device=device)] * count


def _mean_of_squares(mean: Tensors, g: Tensors, decay: float) -> None:
    torch._foreach_mul_(mean, decay)
    torch._foreach_addcmul_(mean, g, g, value=1.0 - decay)


def _scaled_step(p: Tensors, d: Tensors, squares: Tensors, lr: float, eps: float) -> None:
    """``p -= lr (d / (sqrt(squares) + eps))``."""
    root = torch._foreach_sqrt(squares)
    torch._foreach_add_(root, eps)
    torch._foreach_addcdiv_(p, d, root, value=-lr)


@kernel("torch", "flush_denormals")
def flush_denormals(x: Tensor) -> Tensor:
    """As `xpdl.optimizers.fused_update.flush_denormals`."""
    if not supports(x):
        return DECLINE
    info = torch.finfo(x.dtype)
    # one below the limit, which stays
    return torch.nn.functional.hardshrink(x, info.smallest_normal / info.eps * (1.0 - info.eps / 2))
