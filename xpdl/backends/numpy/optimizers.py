"""Optimizer steps in place, large parameters in pieces: nothing of the size of a parameter is made on the way."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import thread_pool
from xpdl.backends.cpu.partition import pieces
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.namespaces import is_half, overflow_expected, wide_dtype, widened
from xpdl.backends.registry import DECLINE, kernel

RULES: dict[str, Callable[..., None]] = {}


@kernel("numpy", "fused_update")
def fused_update(
    params: list[NDArray],
    grads: list[NDArray],
    state: list[tuple[NDArray, ...]],
    step: Callable[..., tuple[NDArray, ...]],
    spec: Any,
) -> Iterable[tuple[NDArray, ...]]:
    """As `xpdl.optimizers.fused_update.fused_update`; results are written into `params` and `state`."""
    stepped = [(p, *kept) for p, kept in zip(params, state, strict=True)]
    if not can_step(stepped, grads, spec):
        return DECLINE
    if spec.apply_if is not None and not spec.apply_if:
        return stepped
    write = with_options(RULES[spec.name], spec) if spec.name in RULES else functools.partial(_write_new, step)
    run_steps(stepped, grads, write, write, TUNING.optimizer_task)
    return stepped


def can_step(stepped: list[tuple[NDArray, ...]], grads: list[NDArray], spec: Any) -> bool:
    """Tell whether a rule can write into the arrays of each parameter."""
    return spec.elementwise and all([supports(arrays, g) for arrays, g in zip(stepped, grads, strict=True)])


def run_steps(
    stepped: list[tuple[NDArray, ...]],
    grads: list[NDArray],
    write: Callable[..., None],
    write_lines: Callable[..., None],
    most_on_one_thread: int,
) -> None:
    """Step all parameters: contiguous ones by `write_lines`, given pieces of one axis, and the others by `write`."""
    in_lines = write_lines is not write
    if any([is_half(p) for p, *_ in stepped]):
        write, write_lines = _from_half(write), _from_half(write_lines)
    tasks: list[thread_pool.Task] = []
    for (p, *kept), g in zip(stepped, grads, strict=True):
        arrays = (p, g, *kept)
        if (in_lines or p.size > TUNING.optimizer_task) and all([a.flags.c_contiguous for a in arrays]):
            lines = [a.reshape(-1) for a in arrays]
            tasks += [_on_pieces(write_lines, lines, part) for part in pieces(p.size, TUNING.optimizer_task)]
        else:
            tasks.append(functools.partial(write, *arrays))
    if sum([p.size for p, *_ in stepped]) > most_on_one_thread:
        thread_pool.run(tasks)
    else:  # not worth a hand-over between threads
        for task in tasks:
            task()


@kernel("numpy", "flush_denormals")
def flush_denormals(x: NDArray) -> NDArray:
    """As `xpdl.optimizers.fused_update.flush_denormals`; the result is written into `x`."""
    info = np.finfo(x.dtype)
    limit = info.smallest_normal / info.eps
    if limit > 1e-30 or not supports((x,), x) or not x.flags.c_contiguous:
        return DECLINE
    line = x.reshape(-1)
    for part in pieces(x.size, TUNING.optimizer_task):
        piece = line[part]
        piece[np.abs(piece) < limit] = 0.0
    return x


@kernel("numpy", "global_norm_scale")
def global_norm_scale(grads: list[NDArray], limit: float) -> NDArray | float:
    """As `xpdl.optimizers.clipping.global_norm_scale`."""
    if not all(type(g) is np.ndarray and g.flags.c_contiguous and g.dtype == grads[0].dtype for g in grads):
        return DECLINE
    grads = [g.reshape(-1) for g in grads if g.size]
    peak = max((max(g.max(), -g.min()) for g in grads), default=0.0)
    if not 0 < peak < math.inf:
        return DECLINE
    kind = np.dtype(wide_dtype(grads[0]))
    total, peak = 0.0, kind.type(peak)
    for g in grads:
        for part in pieces(g.size, TUNING.optimizer_task):
            piece = g[part] / peak
            total += float(np.vecdot(piece, piece))
    norm = float(peak) * math.sqrt(total)
    return np.asarray(limit / max(norm, limit), kind)


def supports(written: tuple[NDArray, ...], g: NDArray) -> bool:
    """Tell whether a rule can write into these arrays, a parameter and its state, from the gradient `g`."""
    if type(g) is not np.ndarray or written[0].dtype != g.dtype:
        return False
    kind, wide = g.dtype, wide_dtype(g)
    for a in written:
        if type(a) is not np.ndarray or a.dtype != kind or not a.flags.writeable:
            return False
        kind = wide  # of all but the parameter
    return True


def _from_half(write: Callable[..., None]) -> Callable[..., None]:
    """`write`, given float32 for a parameter and a gradient in half precision; the parameter is rounded once, at the end."""

    def written(p: NDArray, g: NDArray, *state: NDArray) -> None:
        if not is_half(p):
            write(p, g, *state)
            return
        wide = widened(p)
        write(wide, widened(g), *state)
        with overflow_expected():
            p[...] = wide

    return written


def _on_pieces(write: Callable[..., None], lines: list[NDArray], part: slice) -> thread_pool.Task:
    return lambda: write(*[line[part] for line in lines])


def _write_new(step: Callable[..., tuple[NDArray, ...]], p: NDArray, g: NDArray, *state: NDArray) -> None:
    """The step of a rule that is not known here."""
    for old, new in zip((p, *state), step(p, g, *state), strict=True):
        old[...] = new


def with_options(write: Callable[..., None], spec: Any) -> Callable[..., None]:
    """`write` with the numbers and options of the spec."""
    write = functools.partial(write, **spec.scalars)
    if spec.scale is None and not spec.l1 and not spec.l2 and spec.max_norm is None:
        return write

    def adjusted(p: NDArray, g: NDArray, *state: NDArray) -> None:
        g = g.copy() if spec.scale is None else g * spec.scale
        if spec.l1:
            g += spec.l1 * np.sign(p)
        if spec.l2:
            g += spec.l2 * p
        write(p, g, *state)
        if spec.max_norm is not None:
            np.clip(p, -spec.max_norm, spec.max_norm, out=p)

    return adjusted


def _rule(write: Callable[..., None]) -> Callable[..., None]:
    """Make known a rule in place, bitwise identical to the op of its name."""
    RULES[write.__name__] = write
    return write


@_rule
def sgd_step(p: NDArray, g: NDArray, *, lr: float) -> None:
    p -= lr * g


@_rule
def momentum_step(p: NDArray, g: NDArray, v: NDArray, *, lr: float, momentum: float) -> None:
    v *= momentum
    v -= lr * g
    p += v


@_rule
def nesterov_step(p: NDArray, g: NDArray, v: NDArray, *, lr: float, momentum: float) -> None:
    s = np.multiply(v, momentum * momentum, out=np.empty_like(p))
    p += s
    p -= np.multiply(g, (1.0 + momentum) * lr, out=s)
    v *= momentum
    v -= np.multiply(g, lr, out=s)


@_rule
def ada_grad_step(p: NDArray, g: NDArray, h: NDArray, *, lr: float, eps: float) -> None:
    s = np.multiply(g, g, out=np.empty_like(p))
    h += s
    _scaled_step(p, g, h, lr, eps, s)


@_rule
def rmsprop_step(p: NDArray, g: NDArray, h: NDArray, *, lr: float, decay_rate: float, eps: float) -> None:
    s = np.empty_like(p)
    _mean(h, np.multiply(g, g, out=s), decay_rate, s)
    _scaled_step(p, g, h, lr, eps, s)


@_rule
def ada_delta_step(p: NDArray, g: NDArray, h: NDArray, s: NDArray, *, lr: float, rho: float, eps: float) -> None:
    d, root = np.empty_like(p), np.empty_like(p)
    _mean(h, np.multiply(g, g, out=d), rho, d)
    np.sqrt(np.add(s, eps, out=d), out=d)
    d /= np.sqrt(np.add(h, eps, out=root), out=root)
    d *= g
    p -= np.multiply(d, lr, out=root)
    _mean(s, np.multiply(d, d, out=d), rho, d)


@_rule
def adam_step(
    p: NDArray, g: NDArray, m: NDArray, v: NDArray, *, lr: float, beta1: float, beta2: float, eps: float
) -> None:
    s = np.empty_like(p)
    _mean(m, g, beta1, s)
    _mean(v, np.multiply(g, g, out=s), beta2, s)
    _scaled_step(p, m, v, lr, eps, s)


@_rule
def adam_w_step(p: NDArray, g: NDArray, m: NDArray, v: NDArray, *, keep: float, **numbers: float) -> None:
    p *= keep
    adam_step(p, g, m, v, **numbers)


def _mean(mean: NDArray, x: NDArray, decay: float, s: NDArray) -> None:
    """``mean = decay mean + (1 - decay) x``, by way of `s`, which may be `x`."""
    mean *= decay
    mean += np.multiply(x, 1.0 - decay, out=s)


def _scaled_step(p: NDArray, d: NDArray, squares: NDArray, lr: float, eps: float, s: NDArray) -> None:
    """``p -= lr (d / (sqrt(squares) + eps))``, by way of `s`."""
    np.sqrt(squares, out=s)
    s += eps
    np.divide(d, s, out=s)
    s *= lr
    p -= s
