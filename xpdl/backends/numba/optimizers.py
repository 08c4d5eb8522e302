"""Rules of optimizers in one pass over memory: loops over lines of floats, which they change in place.

Numbers come as float64 and are rounded to the dtype of the parameter where they meet it, as NumPy does. On a Xeon with
AVX-512, Adam takes 0.34 ns instead of 1.3 for a float32 on one thread, and 0.75 ms instead of 2.3 for 1.9M on two.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu.contiguous import FLOATS
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.numba.jit import compiled, inline
from xpdl.backends.numpy import optimizers as pure
from xpdl.backends.registry import DECLINE, kernel


@kernel("numba", "fused_update")
def fused_update(
    params: list[NDArray],
    grads: list[NDArray],
    state: list[tuple[NDArray, ...]],
    step: Callable[..., tuple[NDArray, ...]],
    spec: Any,
) -> Iterable[tuple[NDArray, ...]]:
    """As `xpdl.optimizers.fused_update.fused_update`; results are written into `params` and `state`."""
    stepped = [(p, *kept) for p, kept in zip(params, state, strict=True)]
    if sum([p.size for p in params]) <= TUNING.compiled_parameters or spec.name not in _RULES:
        return DECLINE
    if not pure.can_step(stepped, grads, spec):
        return DECLINE
    if spec.apply_if is None or spec.apply_if:
        write = pure.with_options(pure.RULES[spec.name], spec)
        pure.run_steps(stepped, grads, write, _write_lines(spec, write), TUNING.shared_parameters)
    return stepped


@kernel("numba", "flush_denormals")
def flush_denormals(x: NDArray) -> NDArray:
    """As `xpdl.optimizers.fused_update.flush_denormals`; the result is written into `x`."""
    if x.size <= TUNING.compiled_parameters or x.dtype not in FLOATS:
        return DECLINE
    if not pure.supports((x,), x) or not x.flags.c_contiguous:
        return DECLINE
    info = np.finfo(x.dtype)
    _flush_denormals(x.reshape(-1), float(info.smallest_normal / info.eps))
    return x


def _write_lines(spec: Any, write: Callable[..., None]) -> Callable[..., None]:
    """Compile what `write` does, for lines of the dtypes that Numba supports."""
    step = functools.partial(_RULES[spec.name], **{name: float(value) for name, value in spec.scalars.items()})
    scale = 1.0 if spec.scale is None else float(spec.scale)
    plain = spec.scale is None and not spec.l1 and not spec.l2

    def stepped(p: NDArray, g: NDArray, *state: NDArray) -> None:
        if p.dtype not in FLOATS:
            write(p, g, *state)
            return
        if not plain:
            g, old = np.empty_like(p), g
            _adjust(p, old, scale, float(spec.l1), float(spec.l2), g)
        step(p, g, *state)
        if spec.max_norm is not None:
            np.clip(p, -spec.max_norm, spec.max_norm, out=p)

    return stepped


@compiled
def _adjust(p: Any, g: Any, scale: Any, l1: Any, l2: Any, out: Any) -> None:
    """`out` becomes ``scale g + l1 sign(p) + l2 p``; a number that is 0 leaves its term out, whatever `p` holds."""
    number = p.dtype.type
    scale, l1, l2 = number(scale), number(l1), number(l2)
    for i in range(p.size):
        out[i] = scale * g[i]
    if l1 != 0:
        for i in range(p.size):
            # 0 of a zero of either sign, and NaN of NaN
            out[i] += l1 if p[i] > 0 else -l1 if p[i] < 0 else p[i] - p[i]
    if l2 != 0:
        for i in range(p.size):
            out[i] += l2 * p[i]


@compiled
def _flush_denormals(x: Any, limit: Any) -> None:
    """Values of a size below `limit` become 0."""
    number = x.dtype.type
    limit = number(limit)
    for i in range(x.size):
        x[i] = number(0) if abs(x[i]) < limit else x[i]


@compiled
def _sgd_step(p: Any, g: Any, lr: Any) -> None:
    lr = p.dtype.type(lr)
    for i in range(p.size):
        p[i] -= lr * g[i]


@compiled
def _momentum_step(p: Any, g: Any, v: Any, lr: Any, momentum: Any) -> None:
    number = p.dtype.type
    lr, momentum = number(lr), number(momentum)
    for i in range(p.size):
        v[i] = momentum * v[i] - lr * g[i]
        p[i] += v[i]


@compiled
def _nesterov_step(p: Any, g: Any, v: Any, lr: Any, momentum: Any) -> None:
    number = p.dtype.type
    of_v, of_g = number(momentum * momentum), number((1.0 + momentum) * lr)
    lr, momentum = number(lr), number(momentum)
    for i in range(p.size):
        p[i] += of_v * v[i] - of_g * g[i]
        v[i] = momentum * v[i] - lr * g[i]


@compiled
def _ada_grad_step(p: Any, g: Any, h: Any, lr: Any, eps: Any) -> None:
    number = p.dtype.type
    lr, eps = number(lr), number(eps)
    for i in range(p.size):
        h[i] += g[i] * g[i]
        p[i] -= lr * (g[i] / (math.sqrt(h[i]) + eps))


@compiled
def _rmsprop_step(p: Any, g: Any, h: Any, lr: Any, decay_rate: Any, eps: Any) -> None:
    number = p.dtype.type
    old, new = number(decay_rate), number(1.0 - decay_rate)
    lr, eps = number(lr), number(eps)
    for i in range(p.size):
        h[i] = old * h[i] + new * (g[i] * g[i])
        p[i] -= lr * (g[i] / (math.sqrt(h[i]) + eps))


@compiled
def _ada_delta_step(p: Any, g: Any, h: Any, s: Any, lr: Any, rho: Any, eps: Any) -> None:
    number = p.dtype.type
    old, new = number(rho), number(1.0 - rho)
    lr, eps = number(lr), number(eps)
    for i in range(p.size):
        h[i] = old * h[i] + new * (g[i] * g[i])
        d = math.sqrt(s[i] + eps) / math.sqrt(h[i] + eps) * g[i]
        p[i] -= lr * d
        s[i] = old * s[i] + new * (d * d)


@compiled
def _adam_step(p: Any, g: Any, m: Any, v: Any, lr: Any, beta1: Any, beta2: Any, eps: Any) -> None:
    _adam(p, g, m, v, 1.0, lr, beta1, beta2, eps)


@compiled
def _adam_w_step(p: Any, g: Any, m: Any, v: Any, keep: Any, lr: Any, beta1: Any, beta2: Any, eps: Any) -> None:
    _adam(p, g, m, v, keep, lr, beta1, beta2, eps)


@inline
def _adam(p: Any, g: Any, m: Any, v: Any, keep: Any, lr: Any, beta1: Any, beta2: Any, eps: Any) -> None:
    number = p.dtype.type
    old_m, new_m = number(beta1), number(1.0 - beta1)
    old_v, new_v = number(beta2), number(1.0 - beta2)
    keep, lr, eps = number(keep), number(lr), number(eps)
    for i in range(p.size):
        m[i] = old_m * m[i] + new_m * g[i]
        v[i] = old_v * v[i] + new_v * (g[i] * g[i])
        p[i] = keep * p[i] - lr * (m[i] / (math.sqrt(v[i]) + eps))


_RULES: dict[str, Callable[..., None]] = {
    "sgd_step": _sgd_step,
    "momentum_step": _momentum_step,
    "nesterov_step": _nesterov_step,
    "ada_grad_step": _ada_grad_step,
    "rmsprop_step": _rmsprop_step,
    "ada_delta_step": _ada_delta_step,
    "adam_step": _adam_step,
    "adam_w_step": _adam_w_step,
}
