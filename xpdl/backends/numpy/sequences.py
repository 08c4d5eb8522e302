"""Sequences in time-major memory: products of all steps at once, masks, and the tasks of recurrent kernels."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from xpdl.backends.arrays import NDArray
from xpdl.backends.cpu import buffer_pool, thread_pool
from xpdl.backends.cpu.partition import split
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.numpy.affine import affine, affine_backward
from xpdl.backends.numpy.step_products import StepProduct

# of each step and sequence, whether the step is skipped (T, N, 1); None where none is
Skipped = NDArray | None


def supports(x: NDArray, h: NDArray, Wx: NDArray, Wh: NDArray, *others: NDArray, mask: NDArray | None) -> bool:
    """Return whether `x` (N, T, F), the state `h` (N, H) and all others are float32, or float64, and none is empty."""
    arrays = (x, h, Wx, Wh, *others)
    return (
        x.ndim == 3
        and x.dtype.char in "fd"
        and x.dtype.isnative
        and all(type(a) is np.ndarray and a.dtype == x.dtype and a.size > 0 for a in arrays)
        and x.shape[2] == len(Wx)
        and h.shape == (len(x), len(Wh))
        and (mask is None or (type(mask) is np.ndarray and mask.dtype == np.bool_ and mask.shape == x.shape[:2]))
    )


def time_major(a: NDArray) -> NDArray:
    """(N, T, F) as (T, N, F), contiguous: a view of what `batch_major` returned, else a copy."""
    return np.ascontiguousarray(a.transpose(1, 0, 2))


def batch_major(a: NDArray) -> NDArray:
    """(T, N, F) as (N, T, F), without a copy."""
    return a.transpose(1, 0, 2)


def skipped_steps(mask: NDArray | None) -> Skipped:
    """`mask` (N, T) of the steps that count, inverted and time-major."""
    return None if mask is None else np.logical_not(mask.T[:, :, None])


def part_of(skipped: Skipped, part: slice) -> Skipped:
    """Of some sequences."""
    return None if skipped is None else skipped[:, part]


def keep(new: NDArray, old: NDArray, skipped: Skipped, t: int) -> None:
    """Overwrite `new` by `old` where step `t` is skipped."""
    if skipped is not None:
        np.copyto(new, old, where=skipped[t])


def take_kept(d: NDArray, skipped: Skipped, t: int) -> NDArray | None:
    """Clear the gradient `d` where step `t` is skipped, and return what was there."""
    if skipped is None:
        return None
    kept = np.where(skipped[t], d, d.dtype.type(0))
    np.copyto(d, 0, where=skipped[t])
    return kept


def give_back(d: NDArray, kept: NDArray | None) -> None:
    """Add what `take_kept` returned: the gradient of the state before a step that is skipped."""
    if kept is not None:
        d += kept


def cut(a: NDArray, count: int) -> list[NDArray]:
    """Views of `count` equal parts along the last axis."""
    size = a.shape[-1] // count
    return [a[..., k * size : (k + 1) * size] for k in range(count)]


def products_of_inputs(x: NDArray, Wx: NDArray, b: NDArray) -> NDArray:
    """``x Wx + b`` of all steps (T, N, gates H), in one product."""
    return affine(_rows(time_major(x)), Wx, b).reshape(x.shape[1], x.shape[0], Wx.shape[1])


def through_inputs(da: NDArray, x: NDArray, Wx: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """``dx, dWx, db`` of `products_of_inputs` for `da` (T, N, gates H)."""
    dx, dWx, db = affine_backward(_rows(da), _rows(time_major(x)), Wx)
    assert dx is not None and db is not None
    return batch_major(dx.reshape(*da.shape[:2], x.shape[2])), dWx, db


def inputs_alone(da: NDArray, Wx: NDArray) -> NDArray:
    """``dx`` of `through_inputs`, as in a layer that is frozen."""
    return batch_major(affine(_rows(da), Wx.T).reshape(*da.shape[:2], len(Wx)))


def summed_products(h: NDArray, y: NDArray, da: NDArray) -> NDArray:
    """``dWh``: of the products of each state before a step, `h` and all but the last of `y` (T, N, H), with ``Wh``."""
    before = buffer_pool.empty(y.shape, y.dtype)
    before[0], before[1:] = h, y[:-1]
    # of Wh only the shape counts where no dx is asked for
    Wh = np.broadcast_to(y.dtype.type(0), (y.shape[2], da.shape[2]))
    return affine_backward(_rows(da), _rows(before), Wh, need_dx=False, need_db=False)[1]


def run_by_sequences(task: Callable[[slice, StepProduct], None], h: NDArray, W: NDArray, steps: int) -> None:
    """Do all steps of the sequences of a batch: `task` on parts of it, which threads share, each with products by `W`."""
    count = 1
    if len(h) * W.size >= TUNING.recurrent_shared_products and len(h) >= TUNING.recurrent_two_tasks:
        count = 4 if len(h) >= TUNING.recurrent_four_tasks else 2
    product = StepProduct(W, -(-len(h) // count), steps)
    thread_pool.run([functools.partial(task, part, product) for part in split(len(h), count)])


def _rows(a: NDArray) -> NDArray:
    """(T, N, F), contiguous, as (T N, F)."""
    return a.reshape(-1, a.shape[2])
