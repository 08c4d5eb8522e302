"""Optimizer steps in place, large parameters in pieces: nothing of the size of a parameter is made on the way."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xpdl.backends.dispatch import DECLINE, kernel
from xpdl.backends.numpy import threads

Host = np.ndarray[Any, Any]

# Elements of a task: all that a rule touches of so many fits the second-level cache, and one pass over them, about 13 us,
# is long beside the hand-over of Python's lock between threads that ends it. Adam on 1.05M float32, two cores: 2.0 ms with
# 2^15, 1.5 with 2^16, 1.1 with 2^17, 1.1 with 2^18, 1.4 with 2^19; one core: 1.7, 1.6, 1.6, 1.9, 2.7. The generic rule,
# whose temporaries go through memory, takes 6.7.
_PIECE = 1 << 17


@kernel("numpy", "step_elementwise")
def step_elementwise(
    p: Host, step: Callable[..., tuple[Host, ...]], g: Host, memory: tuple[Host, ...]
) -> tuple[Host, ...]:
    """As `xpdl.optimizers.base.step_elementwise`; results are written into `p` and `memory`."""

    def write(*pieces: Host) -> None:
        for old, new in zip((pieces[0], *pieces[2:]), step(*pieces), strict=True):
            if new is not old:
                old[...] = new

    return _stepped(write, p, g, memory) if p.size > _PIECE else DECLINE


def _rule(name: str) -> Callable[[Callable[..., None]], Callable[..., Any]]:
    """Register as the kernel of a rule a function that writes the same bits into `p` and the memory."""

    def register(write: Callable[..., None]) -> Callable[..., Any]:
        @kernel("numpy", name)
        @functools.wraps(write)
        def step(p: Host, g: Host, *memory: Host, **hypers: float) -> Any:
            return _stepped(functools.partial(write, **hypers), p, g, memory)

        return step

    return register


def _stepped(write: Callable[..., None], p: Host, g: Host, memory: tuple[Host, ...]) -> tuple[Host, ...]:
    """`p` and `memory` after `write` on all of them, or on pieces; `DECLINE` where they cannot be written into."""
    arrays = (p, g, *memory)
    for a in arrays:
        if type(a) is not np.ndarray or a.dtype != p.dtype or not (a is g or a.flags.writeable):
            return DECLINE  # type: ignore[no-any-return]
    if p.size <= _PIECE or not all(a.flags.c_contiguous for a in arrays):
        write(*arrays)
    else:
        lines = [a.reshape(-1) for a in arrays]

        def task(part: slice) -> None:
            write(*(line[part] for line in lines))

        threads.run([functools.partial(task, slice(k, k + _PIECE)) for k in range(0, p.size, _PIECE)])
    return (p, *memory)


@_rule("sgd_step")
def sgd_step(p: Host, g: Host, *, lr: float) -> None:
    p -= lr * g


@_rule("momentum_step")
def momentum_step(p: Host, g: Host, v: Host, *, lr: float, momentum: float) -> None:
    v *= momentum
    v -= lr * g
    p += v


@_rule("nesterov_step")
def nesterov_step(p: Host, g: Host, v: Host, *, lr: float, momentum: float) -> None:
    s = np.multiply(v, momentum * momentum, out=np.empty_like(p))
    p += s
    p -= np.multiply(g, (1.0 + momentum) * lr, out=s)
    v *= momentum
    v -= np.multiply(g, lr, out=s)


@_rule("ada_grad_step")
def ada_grad_step(p: Host, g: Host, h: Host, *, lr: float, eps: float) -> None:
    s = np.multiply(g, g, out=np.empty_like(p))
    h += s
    _scaled_step(p, g, h, lr, eps, s)


@_rule("rmsprop_step")
def rmsprop_step(p: Host, g: Host, h: Host, *, lr: float, decay_rate: float, eps: float) -> None:
    s = np.empty_like(p)
    _mean(h, np.multiply(g, g, out=s), decay_rate, s)
    _scaled_step(p, g, h, lr, eps, s)


@_rule("ada_delta_step")
def ada_delta_step(p: Host, g: Host, h: Host, s: Host, *, lr: float, rho: float, eps: float) -> None:
    d, root = np.empty_like(p), np.empty_like(p)
    _mean(h, np.multiply(g, g, out=d), rho, d)
    np.sqrt(np.add(s, eps, out=d), out=d)
    d /= np.sqrt(np.add(h, eps, out=root), out=root)
    d *= g
    p -= np.multiply(d, lr, out=root)
    _mean(s, np.multiply(d, d, out=d), rho, d)


@_rule("adam_step")
def adam_step(p: Host, g: Host, m: Host, v: Host, *, lr: float, beta1: float, beta2: float, eps: float) -> None:
    _adam_step(p, g, m, v, lr, beta1, beta2, eps)


@_rule("adam_w_step")
def adam_w_step(
    p: Host, g: Host, m: Host, v: Host, *, keep: float, lr: float, beta1: float, beta2: float, eps: float
) -> None:
    p *= keep
    _adam_step(p, g, m, v, lr, beta1, beta2, eps)


def _adam_step(p: Host, g: Host, m: Host, v: Host, lr: float, beta1: float, beta2: float, eps: float) -> None:
    s = np.empty_like(p)
    _mean(m, g, beta1, s)
    _mean(v, np.multiply(g, g, out=s), beta2, s)
    _scaled_step(p, m, v, lr, eps, s)


def _mean(mean: Host, x: Host, decay: float, s: Host) -> None:
    """``mean = decay mean + (1 - decay) x``, by way of `s`, which may be `x`."""
    mean *= decay
    mean += np.multiply(x, 1.0 - decay, out=s)


def _scaled_step(p: Host, d: Host, squares: Host, lr: float, eps: float, s: Host) -> None:
    """``p -= lr (d / (sqrt(squares) + eps))``, by way of `s`."""
    np.sqrt(squares, out=s)
    s += eps
    np.divide(d, s, out=s)
    s *= lr
    p -= s
