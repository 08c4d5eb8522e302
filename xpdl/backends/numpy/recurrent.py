"""The simple recurrent layer step by step into preallocated time-major arrays, with one product for the inputs of all steps.

Memory is in the order (T, N, ...), so that what a step reads and writes is contiguous, and the products that belong to no
single step are ordinary matrix products; results are views of it as (N, T, ...). Sequences do not depend on each other:
where the products of a step are worth it, threads share the sequences of a batch, without a wait between steps.
"""

from __future__ import annotations

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import buffer_pool
from xpdl.backends.numpy.float16 import in_float32
from xpdl.backends.numpy.sequences import (
    Skipped,
    batch_major,
    give_back,
    inputs_alone,
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
from xpdl.backends.numpy.step_products import StepProduct
from xpdl.backends.registry import DECLINE, kernel


@kernel("numpy", "rnn")
@in_float32
def rnn(x: NDArray, h: NDArray, Wx: NDArray, Wh: NDArray, b: NDArray, mask: NDArray | None = None) -> NDArray:
    """As `xpdl.ops.recurrent.rnn`."""
    if not supports(x, h, Wx, Wh, b, mask=mask):
        return DECLINE
    y, skipped = products_of_inputs(x, Wx, b), skipped_steps(mask)

    def task(part: slice, product: StepProduct) -> None:
        _rnn_steps(product, y[:, part], h[part], part_of(skipped, part))

    run_by_sequences(task, h, Wh, len(y))
    return batch_major(y)


def _rnn_steps(product: StepProduct, y: NDArray, h: NDArray, skipped: Skipped) -> None:
    """`y` (T, N, H) holds the products of the inputs and becomes the states."""
    of_h = np.empty_like(h)
    for t, new in enumerate(y):
        product(h, of_h)
        new += of_h
        np.tanh(new, out=new)
        keep(new, h, skipped, t)
        h = new


@kernel("numpy", "rnn_backward")
@in_float32
def rnn_backward(
    dy: NDArray,
    x: NDArray,
    h: NDArray,
    Wx: NDArray,
    Wh: NDArray,
    y: NDArray,
    mask: NDArray | None = None,
    *,
    need_dW: bool = True,
) -> tuple[NDArray, NDArray, NDArray | None, NDArray | None, NDArray | None]:
    """As `xpdl.ops.recurrent.rnn_backward`."""
    if not supports(x, h, Wx, Wh, dy, y, mask=mask):
        return DECLINE
    y, skipped = time_major(y), skipped_steps(mask)
    da, dh = buffer_pool.empty(y.shape, y.dtype), np.zeros(h.shape, h.dtype)

    def task(part: slice, product: StepProduct) -> None:
        _rnn_steps_backward(product, dy[part], y[:, part], part_of(skipped, part), da[:, part], dh[part])

    run_by_sequences(task, h, Wh.T, len(y))
    if not need_dW:
        return inputs_alone(da, Wx), dh, None, None, None
    dx, dWx, db = through_inputs(da, x, Wx)
    return dx, dh, dWx, summed_products(h, y, da), db


def _rnn_steps_backward(
    product: StepProduct, dy: NDArray, y: NDArray, skipped: Skipped, da: NDArray, dh: NDArray
) -> None:
    """`dh` becomes the gradient of the state before the first step, and `da` (T, N, H) that of the products."""
    slope = np.empty_like(dh)
    for t in reversed(range(len(da))):
        dh += dy[:, t]
        kept = take_kept(dh, skipped, t)
        np.multiply(y[t], y[t], out=slope)
        np.subtract(1.0, slope, out=slope)
        np.multiply(dh, slope, out=da[t])
        product(da[t], dh)
        give_back(dh, kept)
