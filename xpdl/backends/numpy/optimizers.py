"""Optimizer steps in place, large parameters in pieces: nothing of the size of a parameter is made on the way.

Where Numba is installed, the rules are compiled for nets that are large enough: Adam takes 0.34 ns instead of 1.3 for a
float32, on one thread of a Xeon with AVX-512, and a step of the MLP with 1.9M parameters 0.75 ms instead of 2.3 on two.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from xpdl.backends import numba as compiled
from xpdl.backends.cpu import thread_pool
from xpdl.backends.dispatch import DECLINE, kernel
from xpdl.backends.namespaces import is_half, overflow_expected, wide_dtype, widened

Host = np.ndarray[Any, Any]

# Elements of a task: all that a rule touches of so many fits the second-level cache, and one pass over them, about 13 us,
# is long beside the hand-over of the GIL between threads that ends it. Adam on 1.05M float32, two cores: 2.0 ms with
# 2^15, 1.5 with 2^16, 1.1 with 2^17, 1.1 with 2^18, 1.4 with 2^19; one core: 1.7, 1.6, 1.6, 1.9, 2.7. The generic rule,
# whose temporaries go through memory, takes 6.7.
_PIECE = 1 << 17
# Parameters in all that are worth compiled rules: loading Numba takes half a second, in which small nets make many steps.
_WORTH_COMPILING = 1 << 17
# And those that are worth threads then, which wait for each other for about 0.1 ms.
_WORTH_THREADS = 1 << 19

_RULES: dict[str, Callable[..., None]] = {}


@kernel("numpy", "fused_update")
def fused_update(
    params: list[Host],
    grads: list[Host],
    state: list[tuple[Host, ...]],
    step: Callable[..., tuple[Host, ...]],
    spec: Any,
) -> Iterable[tuple[Host, ...]]:
    """As `xpdl.optimizers.fused_update.fused_update`; results are written into `params` and `state`."""
    stepped = [(p, *kept) for p, kept in zip(params, state, strict=True)]
    if not spec.elementwise or not all([_served(arrays, g) for arrays, g in zip(stepped, grads, strict=True)]):
        return DECLINE  # type: ignore[no-any-return]
    if spec.only_if is not None and not spec.only_if:
        return stepped
    size = sum([p.size for p in params])
    code = compiled.kernels("optimizers") if size > _WORTH_COMPILING and spec.name in _RULES else None
    write = _adjusted(_RULES[spec.name], spec) if spec.name in _RULES else functools.partial(_write_new, step)
    write_lines = write if code is None else _compiled(code, spec, write)
    if any([is_half(p) for p in params]):
        write, write_lines = _from_half(write), _from_half(write_lines)
    tasks: list[thread_pool.Task] = []
    for (p, *kept), g in zip(stepped, grads, strict=True):
        arrays = (p, g, *kept)
        if (code is not None or p.size > _PIECE) and all([a.flags.c_contiguous for a in arrays]):
            lines = [a.reshape(-1) for a in arrays]
            tasks += [_on_pieces(write_lines, lines, slice(k, k + _PIECE)) for k in range(0, p.size, _PIECE)]
        else:
            tasks.append(functools.partial(write, *arrays))
    if size > (_PIECE if code is None else _WORTH_THREADS):
        thread_pool.run(tasks)
    else:  # not worth a hand-over between threads
        for task in tasks:
            task()
    return stepped


@kernel("numpy", "flush_denormals")
def flush_denormals(x: Host) -> Host:
    """As `xpdl.optimizers.fused_update.flush_denormals`; the result is written into `x`."""
    info = np.finfo(x.dtype)
    limit = info.smallest_normal / info.eps
    if limit > 1e-30 or not _served((x,), x) or not x.flags.c_contiguous:
        return DECLINE  # type: ignore[no-any-return]
    line = x.reshape(-1)
    code = compiled.kernels("optimizers") if x.size > _WORTH_COMPILING and x.dtype in compiled.FLOATS else None
    if code is not None:
        code.flush_denormals(line, float(limit))
        return x
    for k in range(0, x.size, _PIECE):
        piece = line[k : k + _PIECE]
        piece[np.abs(piece) < limit] = 0.0
    return x


@kernel("numpy", "global_norm_scale")
def global_norm_scale(grads: list[Host], limit: float) -> Host | float:
    """As `xpdl.optimizers.clipping.global_norm_scale`."""
    if not all(type(g) is np.ndarray and g.flags.c_contiguous and g.dtype == grads[0].dtype for g in grads):
        return DECLINE  # type: ignore[no-any-return]
    grads = [g.reshape(-1) for g in grads if g.size]
    peak = max((max(g.max(), -g.min()) for g in grads), default=0.0)
    if not 0 < peak < math.inf:
        return DECLINE  # type: ignore[no-any-return]
    kind = np.dtype(wide_dtype(grads[0]))
    total, peak = 0.0, kind.type(peak)
    for g in grads:
        for k in range(0, g.size, _PIECE):
            piece = g[k : k + _PIECE] / peak
            total += float(np.vecdot(piece, piece))
    norm = float(peak) * math.sqrt(total)
    return np.asarray(limit / max(norm, limit), kind)


def _served(written: tuple[Host, ...], g: Host) -> bool:
    """Whether a rule can write into these arrays, a parameter and what is remembered of it, from the gradient `g`."""
    if type(g) is not np.ndarray or written[0].dtype != g.dtype:
        return False
    kind, remembered = g.dtype, wide_dtype(g)
    for a in written:
        if type(a) is not np.ndarray or a.dtype != kind or not a.flags.writeable:
            return False
        kind = remembered  # of all but the parameter
    return True


def _from_half(write: Callable[..., None]) -> Callable[..., None]:
    """`write`, given float32 for a parameter and a gradient in half precision; the parameter is rounded once, at the end."""

    def written(p: Host, g: Host, *memory: Host) -> None:
        if not is_half(p):
            write(p, g, *memory)
            return
        wide = widened(p)
        write(wide, widened(g), *memory)
        with overflow_expected():
            p[...] = wide

    return written


def _on_pieces(write: Callable[..., None], lines: list[Host], part: slice) -> thread_pool.Task:
    return lambda: write(*[line[part] for line in lines])


def _write_new(step: Callable[..., tuple[Host, ...]], p: Host, g: Host, *memory: Host) -> None:
    """The step of a rule that is not known here."""
    for old, new in zip((p, *memory), step(p, g, *memory), strict=True):
        old[...] = new


def _adjusted(write: Callable[..., None], spec: Any) -> Callable[..., None]:
    """`write` with the numbers of the rule, and with its options."""
    write = functools.partial(write, **spec.scalars)
    if spec.scale is None and not spec.l1 and not spec.l2 and spec.max_norm is None:
        return write

    def adjusted(p: Host, g: Host, *memory: Host) -> None:
        g = g.copy() if spec.scale is None else g * spec.scale
        if spec.l1:
            g += spec.l1 * np.sign(p)
        if spec.l2:
            g += spec.l2 * p
        write(p, g, *memory)
        if spec.max_norm is not None:
            np.clip(p, -spec.max_norm, spec.max_norm, out=p)

    return adjusted


def _compiled(code: Any, spec: Any, write: Callable[..., None]) -> Callable[..., None]:
    """What `write` does, in compiled code, for lines of the dtypes that it serves."""
    step = functools.partial(getattr(code, spec.name), **{name: float(value) for name, value in spec.scalars.items()})
    scale = 1.0 if spec.scale is None else float(spec.scale)
    plain = spec.scale is None and not spec.l1 and not spec.l2

    def stepped(p: Host, g: Host, *memory: Host) -> None:
        if p.dtype not in compiled.FLOATS:
            write(p, g, *memory)
            return
        if not plain:
            g, old = np.empty_like(p), g
            code.adjusted(p, old, scale, float(spec.l1), float(spec.l2), g)
        step(p, g, *memory)
        if spec.max_norm is not None:
            np.clip(p, -spec.max_norm, spec.max_norm, out=p)

    return stepped


def _rule(write: Callable[..., None]) -> Callable[..., None]:
    """Make known a rule in place, of the same bits as the op of its name."""
    _RULES[write.__name__] = write
    return write


@_rule
def sgd_step(p: Host, g: Host, *, lr: float) -> None:
    p -= lr * g


@_rule
def momentum_step(p: Host, g: Host, v: Host, *, lr: float, momentum: float) -> None:
    v *= momentum
    v -= lr * g
    p += v


@_rule
def nesterov_step(p: Host, g: Host, v: Host, *, lr: float, momentum: float) -> None:
    s = np.multiply(v, momentum * momentum, out=np.empty_like(p))
    p += s
    p -= np.multiply(g, (1.0 + momentum) * lr, out=s)
    v *= momentum
    v -= np.multiply(g, lr, out=s)


@_rule
def ada_grad_step(p: Host, g: Host, h: Host, *, lr: float, eps: float) -> None:
    s = np.multiply(g, g, out=np.empty_like(p))
    h += s
    _scaled_step(p, g, h, lr, eps, s)


@_rule
def rmsprop_step(p: Host, g: Host, h: Host, *, lr: float, decay_rate: float, eps: float) -> None:
    s = np.empty_like(p)
    _mean(h, np.multiply(g, g, out=s), decay_rate, s)
    _scaled_step(p, g, h, lr, eps, s)


@_rule
def ada_delta_step(p: Host, g: Host, h: Host, s: Host, *, lr: float, rho: float, eps: float) -> None:
    d, root = np.empty_like(p), np.empty_like(p)
    _mean(h, np.multiply(g, g, out=d), rho, d)
    np.sqrt(np.add(s, eps, out=d), out=d)
    d /= np.sqrt(np.add(h, eps, out=root), out=root)
    d *= g
    p -= np.multiply(d, lr, out=root)
    _mean(s, np.multiply(d, d, out=d), rho, d)


@_rule
def adam_step(p: Host, g: Host, m: Host, v: Host, *, lr: float, beta1: float, beta2: float, eps: float) -> None:
    s = np.empty_like(p)
    _mean(m, g, beta1, s)
    _mean(v, np.multiply(g, g, out=s), beta2, s)
    _scaled_step(p, m, v, lr, eps, s)


@_rule
def adam_w_step(p: Host, g: Host, m: Host, v: Host, *, keep: float, **numbers: float) -> None:
    p *= keep
    adam_step(p, g, m, v, **numbers)


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
