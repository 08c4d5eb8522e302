"""Rules of optimizers in one pass over memory: loops over lines of floats, which they change in place.

Numbers come as float64 and are rounded to the dtype of the parameter where they meet it, as NumPy does.
"""

from __future__ import annotations

import math
from typing import Any

from xpdl.backends.numba.jit import compiled, inlined


@compiled
def adjusted(p: Any, g: Any, scale: Any, l1: Any, l2: Any, out: Any) -> None:
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
def flush_denormals(x: Any, limit: Any) -> None:
    """Values of a size below `limit` become 0."""
    number = x.dtype.type
    limit = number(limit)
    for i in range(x.size):
        x[i] = number(0) if abs(x[i]) < limit else x[i]


@compiled
def sgd_step(p: Any, g: Any, lr: Any) -> None:
    lr = p.dtype.type(lr)
    for i in range(p.size):
        p[i] -= lr * g[i]


@compiled
def momentum_step(p: Any, g: Any, v: Any, lr: Any, momentum: Any) -> None:
    number = p.dtype.type
    lr, momentum = number(lr), number(momentum)
    for i in range(p.size):
        v[i] = momentum * v[i] - lr * g[i]
        p[i] += v[i]


@compiled
def nesterov_step(p: Any, g: Any, v: Any, lr: Any, momentum: Any) -> None:
    number = p.dtype.type
    of_v, of_g = number(momentum * momentum), number((1.0 + momentum) * lr)
    lr, momentum = number(lr), number(momentum)
    for i in range(p.size):
        p[i] += of_v * v[i] - of_g * g[i]
        v[i] = momentum * v[i] - lr * g[i]


@compiled
def ada_grad_step(p: Any, g: Any, h: Any, lr: Any, eps: Any) -> None:
    number = p.dtype.type
    lr, eps = number(lr), number(eps)
    for i in range(p.size):
        h[i] += g[i] * g[i]
        p[i] -= lr * (g[i] / (math.sqrt(h[i]) + eps))


@compiled
def rmsprop_step(p: Any, g: Any, h: Any, lr: Any, decay_rate: Any, eps: Any) -> None:
    number = p.dtype.type
    old, new = number(decay_rate), number(1.0 - decay_rate)
    lr, eps = number(lr), number(eps)
    for i in range(p.size):
        h[i] = old * h[i] + new * (g[i] * g[i])
        p[i] -= lr * (g[i] / (math.sqrt(h[i]) + eps))


@compiled
def ada_delta_step(p: Any, g: Any, h: Any, s: Any, lr: Any, rho: Any, eps: Any) -> None:
    number = p.dtype.type
    old, new = number(rho), number(1.0 - rho)
    lr, eps = number(lr), number(eps)
    for i in range(p.size):
        h[i] = old * h[i] + new * (g[i] * g[i])
        d = math.sqrt(s[i] + eps) / math.sqrt(h[i] + eps) * g[i]
        p[i] -= lr * d
        s[i] = old * s[i] + new * (d * d)


@compiled
def adam_step(p: Any, g: Any, m: Any, v: Any, lr: Any, beta1: Any, beta2: Any, eps: Any) -> None:
    _adam(p, g, m, v, 1.0, lr, beta1, beta2, eps)


@compiled
def adam_w_step(p: Any, g: Any, m: Any, v: Any, keep: Any, lr: Any, beta1: Any, beta2: Any, eps: Any) -> None:
    _adam(p, g, m, v, keep, lr, beta1, beta2, eps)


@inlined
def _adam(p: Any, g: Any, m: Any, v: Any, keep: Any, lr: Any, beta1: Any, beta2: Any, eps: Any) -> None:
    number = p.dtype.type
    old_m, new_m = number(beta1), number(1.0 - beta1)
    old_v, new_v = number(beta2), number(1.0 - beta2)
    keep, lr, eps = number(keep), number(lr), number(eps)
    for i in range(p.size):
        m[i] = old_m * m[i] + new_m * g[i]
        v[i] = old_v * v[i] + new_v * (g[i] * g[i])
        p[i] = keep * p[i] - lr * (m[i] / (math.sqrt(v[i]) + eps))
