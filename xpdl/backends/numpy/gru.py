"""Gated recurrent units step by step, as `xpdl.backends.numpy.recurrent` has the other recurrent layers."""

from __future__ import annotations

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import buffer_pool
from xpdl.backends.numpy.float16 import in_float32
from xpdl.backends.numpy.sequences import (
    Skipped,
    batch_major,
    cut,
    give_back,
    keep,
    part_of,
    products_of_inputs,
    run_by_sequences,
    skipped_steps,
    summed_products,
    supports,
    take_kept,
    through_inputs,
    time_major,
)
from xpdl.backends.registry import DECLINE, kernel


@kernel("numpy", "gru")
@in_float32
def gru(
    x: NDArray, h: NDArray, Wx: NDArray, Wh: NDArray, b: NDArray, bh: NDArray, mask: NDArray | None = None
) -> tuple[NDArray, NDArray]:
    """As `xpdl.ops.recurrent.gru`."""
    if not supports(x, Wx, h, Wh, b, bh, mask=mask):
        return DECLINE
    inputs, units, skipped = products_of_inputs(x, Wx, b), h.shape[1], skipped_steps(mask)
    y, gates = (buffer_pool.empty((*inputs.shape[:2], width), x.dtype) for width in (units, 4 * units))

    def task(part: slice) -> None:
        _gru_steps(inputs[:, part], h[part], Wh, bh, part_of(skipped, part), y[:, part], gates[:, part])

    run_by_sequences(task, h, Wh)
    return batch_major(y), batch_major(gates)


def _gru_steps(
    inputs: NDArray, h: NDArray, Wh: NDArray, bh: NDArray, skipped: Skipped, y: NDArray, gates: NDArray
) -> None:
    """`inputs` (T, N, 3 H) are the products of the inputs."""
    product, units = np.empty_like(inputs[0]), h.shape[1]
    for t, of_x in enumerate(inputs):
        np.matmul(h, Wh, out=product)
        r, z, n, memory = cut(gates[t], 4)
        sigmoids = gates[t, :, : 2 * units]
        np.add(of_x[:, : 2 * units], product[:, : 2 * units], out=sigmoids)
        sigmoids *= 0.5
        np.tanh(sigmoids, out=sigmoids)
        sigmoids *= 0.5
        sigmoids += 0.5
        np.add(product[:, 2 * units :], bh, out=memory)
        np.multiply(r, memory, out=n)
        n += of_x[:, 2 * units :]
        np.tanh(n, out=n)
        np.subtract(h, n, out=y[t])
        y[t] *= z
        y[t] += n
        keep(y[t], h, skipped, t)
        h = y[t]


@kernel("numpy", "gru_backward")
@in_float32
def gru_backward(
    dy: NDArray,
    x: NDArray,
    h: NDArray,
    Wx: NDArray,
    Wh: NDArray,
    y: NDArray,
    gates: NDArray,
    mask: NDArray | None = None,
) -> tuple[NDArray, NDArray, NDArray, NDArray, NDArray, NDArray]:
    """As `xpdl.ops.recurrent.gru_backward`."""
    if not supports(x, Wx, dy, h, Wh, y, gates, mask=mask):
        return DECLINE
    (dy, y, gates), units = map(time_major, (dy, y, gates)), h.shape[1]
    of_x, of_h = (buffer_pool.empty((*y.shape[:2], 3 * units), y.dtype) for _ in range(2))
    dh, skipped = np.zeros(h.shape, h.dtype), skipped_steps(mask)

    def task(part: slice) -> None:
        forward = h[part], y[:, part], gates[:, part]
        _gru_steps_backward(dy[:, part], *forward, Wh, part_of(skipped, part), of_x[:, part], of_h[:, part], dh[part])

    run_by_sequences(task, h, Wh)
    dx, dWx, db = through_inputs(of_x, x, Wx)
    return dx, dh, dWx, summed_products(h, y, of_h), db, np.add.reduce(of_h[:, :, 2 * units :], axis=(0, 1))


def _gru_steps_backward(
    dy: NDArray,
    h: NDArray,
    y: NDArray,
    gates: NDArray,
    Wh: NDArray,
    skipped: Skipped,
    of_x: NDArray,
    of_h: NDArray,
    dh: NDArray,
) -> None:
    """`dh` becomes the gradient of the state before the first step; `of_x` and `of_h` (T, N, 3 H) those of the products."""
    units, passed = h.shape[1], np.empty_like(dh)
    slopes = np.empty((len(h), 2 * units), h.dtype)
    for t in reversed(range(len(dy))):
        (r, z, n, memory), (dr, dz, dn) = cut(gates[t], 4), cut(of_x[t], 3)
        sigmoids, before = gates[t, :, : 2 * units], y[t - 1] if t else h
        np.subtract(1.0, sigmoids, out=slopes)
        dh += dy[t]
        kept = take_kept(dh, skipped, t)
        np.multiply(n, n, out=dn)
        np.subtract(1.0, dn, out=dn)
        dn *= slopes[:, units:]
        dn *= dh
        slopes *= sigmoids
        np.subtract(before, n, out=dz)
        dz *= dh
        np.multiply(dn, memory, out=dr)
        of_x[t, :, : 2 * units] *= slopes
        of_h[t, :, : 2 * units] = of_x[t, :, : 2 * units]
        np.multiply(dn, r, out=of_h[t, :, 2 * units :])
        np.multiply(dh, z, out=passed)
        np.matmul(of_h[t], Wh.T, out=dh)
        dh += passed
        give_back(dh, kept)
