"""Recurrent layers by `jax.lax.scan`, which compiles one step, whatever the length of the sequences.

Of the generic ops XLA compiles every step, which takes longer the longer the sequences are. Arrays are time-major
(T, N, ...) inside, as `jax.lax.scan` iterates over the first axis.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from xpdl.backends.half_precision import serves_half
from xpdl.backends.jax.arrays import Array, supports
from xpdl.backends.registry import DECLINE, kernel


@kernel("jax", "rnn")
@serves_half()
def rnn(x: Array, h: Array, Wx: Array, Wh: Array, b: Array, mask: Array | None = None) -> Array:
    """As `xpdl.ops.recurrent.rnn`."""
    return _rnn(x, h, Wx, Wh, b, mask) if _serves(x, h, Wx, Wh, b, mask=mask) else DECLINE


@functools.partial(jax.jit, inline=True)
def _rnn(x: Array, h: Array, Wx: Array, Wh: Array, b: Array, mask: Array | None) -> Array:
    def step(h: Array, now: Any) -> Any:
        a, counts = now
        h = _kept(jnp.tanh(a + h @ Wh), h, counts)
        return h, h

    return _swapped(lax.scan(step, h, _inputs(x, Wx, b, mask))[1])


@kernel("jax", "rnn_backward")
@serves_half()
def rnn_backward(
    dy: Array,
    x: Array,
    h: Array,
    Wx: Array,
    Wh: Array,
    y: Array,
    mask: Array | None = None,
    *,
    need_dW: bool = True,
) -> tuple[Array, Array, Array | None, Array | None, Array | None]:
    """As `xpdl.ops.recurrent.rnn_backward`."""
    if not _serves(x, h, Wx, Wh, dy, y, mask=mask):
        return DECLINE
    return _rnn_backward(dy, x, h, Wx, Wh, y, mask, need_dW)


@functools.partial(jax.jit, inline=True, static_argnames="need_dW")
def _rnn_backward(
    dy: Array, x: Array, h: Array, Wx: Array, Wh: Array, y: Array, mask: Array | None, need_dW: bool
) -> tuple[Array, Array, Array | None, Array | None, Array | None]:
    def step(dh: Array, now: Any) -> Any:
        dy, y, counts = now
        passed, dh = _parted(dh + dy, counts)
        da = passed * (1.0 - y * y)
        return dh + da @ Wh.T, da

    y = _swapped(y)
    dh, da = lax.scan(step, jnp.zeros_like(h), (_swapped(dy), y, _swapped(mask)), reverse=True)
    if not need_dW:
        return _swapped(da @ Wx.T), dh, None, None, None
    dx, dWx, db = _through_inputs(da, x, Wx)
    return dx, dh, dWx, _summed_products(_before(h, y), da), db


@kernel("jax", "lstm")
@serves_half()
def lstm(
    x: Array, h: Array, c: Array, Wx: Array, Wh: Array, b: Array, mask: Array | None = None
) -> tuple[Array, Array, Array]:
    """As `xpdl.ops.recurrent.lstm`."""
    if c.shape != h.shape or not _serves(x, h, Wx, Wh, c, b, mask=mask):
        return DECLINE
    return _lstm(x, h, c, Wx, Wh, b, mask)


@functools.partial(jax.jit, inline=True)
def _lstm(
    x: Array, h: Array, c: Array, Wx: Array, Wh: Array, b: Array, mask: Array | None
) -> tuple[Array, Array, Array]:
    def step(states: tuple[Array, Array], now: Any) -> Any:
        (h, c), (a, counts) = states, now
        i, f, g, o = jnp.split(a + h @ Wh, 4, axis=-1)
        i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
        new = f * c + i * g
        h, c = _kept(o * jnp.tanh(new), h, counts), _kept(new, c, counts)
        return (h, c), (h, c, jnp.concatenate([i, f, g, o], axis=-1))

    y, cells, gates = lax.scan(step, (h, c), _inputs(x, Wx, b, mask))[1]
    return _swapped(y), _swapped(cells), _swapped(gates)


@kernel("jax", "lstm_backward")
@serves_half()
def lstm_backward(
    dy: Array,
    x: Array,
    h: Array,
    c: Array,
    Wx: Array,
    Wh: Array,
    y: Array,
    cells: Array,
    gates: Array,
    mask: Array | None = None,
    *,
    need_dW: bool = True,
) -> tuple[Array, Array, Array, Array | None, Array | None, Array | None]:
    """As `xpdl.ops.recurrent.lstm_backward`."""
    if c.shape != h.shape or not _serves(x, h, Wx, Wh, dy, c, y, cells, gates, mask=mask):
        return DECLINE
    return _lstm_backward(dy, x, h, c, Wx, Wh, y, cells, gates, mask, need_dW)


@functools.partial(jax.jit, inline=True, static_argnames="need_dW")
def _lstm_backward(
    dy: Array,
    x: Array,
    h: Array,
    c: Array,
    Wx: Array,
    Wh: Array,
    y: Array,
    cells: Array,
    gates: Array,
    mask: Array | None,
    need_dW: bool,
) -> tuple[Array, Array, Array, Array | None, Array | None, Array | None]:
    def step(gradients: tuple[Array, Array], now: Any) -> Any:
        (dh, dc), (dy, before, cell, gates, counts) = gradients, now
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        tanh_c = jnp.tanh(cell)
        passed, dh = _parted(dh + dy, counts)
        dnew, dc = _parted(dc, counts)
        dnew = dnew + passed * o * (1.0 - tanh_c * tanh_c)
        slopes = (
            dnew * g * i * (1.0 - i),
            dnew * before * f * (1.0 - f),
            dnew * i * (1.0 - g * g),
            passed * tanh_c * o * (1.0 - o),
        )
        da = jnp.concatenate(slopes, axis=-1)
        return (dh + da @ Wh.T, dc + dnew * f), da

    cells = _swapped(cells)
    each = (_swapped(dy), _before(c, cells), cells, _swapped(gates), _swapped(mask))
    (dh, dc), da = lax.scan(step, (jnp.zeros_like(h), jnp.zeros_like(c)), each, reverse=True)
    if not need_dW:
        return _swapped(da @ Wx.T), dh, dc, None, None, None
    dx, dWx, db = _through_inputs(da, x, Wx)
    return dx, dh, dc, dWx, _summed_products(_before(h, _swapped(y)), da), db


@kernel("jax", "gru")
@serves_half()
def gru(
    x: Array, h: Array, Wx: Array, Wh: Array, b: Array, bh: Array, mask: Array | None = None
) -> tuple[Array, Array]:
    """As `xpdl.ops.recurrent.gru`."""
    return _gru(x, h, Wx, Wh, b, bh, mask) if _serves(x, h, Wx, Wh, b, bh, mask=mask) else DECLINE


@functools.partial(jax.jit, inline=True)
def _gru(x: Array, h: Array, Wx: Array, Wh: Array, b: Array, bh: Array, mask: Array | None) -> tuple[Array, Array]:
    def step(h: Array, now: Any) -> Any:
        a, counts = now
        of_x, of_h = jnp.split(a, 3, axis=-1), jnp.split(h @ Wh, 3, axis=-1)
        r, z = jax.nn.sigmoid(of_x[0] + of_h[0]), jax.nn.sigmoid(of_x[1] + of_h[1])
        memory = of_h[2] + bh
        n = jnp.tanh(of_x[2] + r * memory)
        h = _kept(n + z * (h - n), h, counts)
        return h, (h, jnp.concatenate([r, z, n, memory], axis=-1))

    y, gates = lax.scan(step, h, _inputs(x, Wx, b, mask))[1]
    return _swapped(y), _swapped(gates)


@kernel("jax", "gru_backward")
@serves_half()
def gru_backward(
    dy: Array,
    x: Array,
    h: Array,
    Wx: Array,
    Wh: Array,
    y: Array,
    gates: Array,
    mask: Array | None = None,
    *,
    need_dW: bool = True,
) -> tuple[Array, Array, Array | None, Array | None, Array | None, Array | None]:
    """As `xpdl.ops.recurrent.gru_backward`."""
    if not _serves(x, h, Wx, Wh, dy, y, gates, mask=mask):
        return DECLINE
    return _gru_backward(dy, x, h, Wx, Wh, y, gates, mask, need_dW)


@functools.partial(jax.jit, inline=True, static_argnames="need_dW")
def _gru_backward(
    dy: Array,
    x: Array,
    h: Array,
    Wx: Array,
    Wh: Array,
    y: Array,
    gates: Array,
    mask: Array | None,
    need_dW: bool,
) -> tuple[Array, Array, Array | None, Array | None, Array | None, Array | None]:
    def step(dh: Array, now: Any) -> Any:
        dy, before, gates, counts = now
        r, z, n, memory = jnp.split(gates, 4, axis=-1)
        passed, dh = _parted(dh + dy, counts)
        dn = passed * (1.0 - z) * (1.0 - n * n)
        dz = passed * (before - n) * z * (1.0 - z)
        dr = dn * memory * r * (1.0 - r)
        of_h = jnp.concatenate([dr, dz, dn * r], axis=-1)
        return dh + passed * z + of_h @ Wh.T, (jnp.concatenate([dr, dz, dn], axis=-1), of_h)

    before = _before(h, _swapped(y))
    each = (_swapped(dy), before, _swapped(gates), _swapped(mask))
    dh, (of_x, of_h) = lax.scan(step, jnp.zeros_like(h), each, reverse=True)
    if not need_dW:
        return _swapped(of_x @ Wx.T), dh, None, None, None, None
    dx, dWx, db = _through_inputs(of_x, x, Wx)
    return dx, dh, dWx, _summed_products(before, of_h), db, jnp.split(of_h, 3, axis=-1)[2].sum((0, 1))


def _serves(x: Array, h: Array, Wx: Array, Wh: Array, *others: Array, mask: Array | None) -> bool:
    """Return whether all are of one dtype and of the shapes of a layer; `jax.lax.scan` broadcasts no state."""
    if not supports(x, h, Wx, Wh, *others) or x.ndim != 3 or h.shape != (x.shape[0], Wh.shape[0]):
        return False
    return mask is None or (isinstance(mask, jax.Array) and mask.dtype == bool and mask.shape == x.shape[:2])


def _swapped(a: Array | None) -> Array | None:
    """(N, T, ...) as (T, N, ...), and back."""
    return None if a is None else a.swapaxes(0, 1)


def _inputs(x: Array, Wx: Array, b: Array, mask: Array | None) -> tuple[Array, Array | None]:
    """``x_t Wx + b`` of all steps, in one product, and their parts of the mask."""
    return _swapped(x) @ Wx + b, _swapped(mask)


def _through_inputs(da: Array, x: Array, Wx: Array) -> tuple[Array, Array, Array]:
    """``dx, dWx, db`` of `_inputs`."""
    return _swapped(da @ Wx.T), _summed_products(_swapped(x), da), da.sum((0, 1))


def _summed_products(a: Array, da: Array) -> Array:
    """Sum of ``a_t^T da_t`` over all steps."""
    return jnp.tensordot(a, da, ((0, 1), (0, 1)))


def _before(first: Array, states: Array) -> Array:
    """The states before each step."""
    return jnp.concatenate([first[None], states[:-1]])


def _kept(new: Array, old: Array, counts: Array | None) -> Array:
    """`new` of sequences where the step counts, else `old`."""
    return new if counts is None else jnp.where(counts[:, None], new, old)


def _parted(d: Array, counts: Array | None) -> tuple[Array, Array | float]:
    """The gradient of what a step computed, and that of what it kept."""
    if counts is None:
        return d, 0.0
    return jnp.where(counts[:, None], d, 0.0), jnp.where(counts[:, None], 0.0, d)
