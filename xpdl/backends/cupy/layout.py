"""Memory order of images: that of their axes, or channels-last, (N, H, W, C), under the same visible shape (N, C, H, W).

Kernels of cuDNN for tensor cores read and write channels-last; a plan for another order transposes images before and after.
So convolutions in TF32 and in half precision return channels-last images, and kernels after them keep that order. Every
kernel runs over memory in one order: an operand in the other one is transposed first.
"""

from __future__ import annotations

import math

from xpdl.backends.cupy.launch import BLOCK, contiguous, dtype_name, empty, launch
from xpdl.backends.cupy.sources import TYPES
from xpdl.backends.namespaces import Array
from xpdl.backends.numerics import get_numerics

# As in cuda/layout.cu.
_TILE = 32


def prefers_channels_last(name: str) -> bool:
    """Return whether convolutions of the dtype of that name run on tensor cores, in the precision that is set."""
    return name in ("float16", "bfloat16") or (name == "float32" and get_numerics().precision == "tf32")


def is_channels_last(*arrays: Array | None) -> bool:
    """Return whether one of `arrays` at least lies channels-last, and in no other order: then kernels run in that one."""
    for a in arrays:
        if a is not None and a.ndim == 4 and not a.flags.c_contiguous and a.transpose(0, 2, 3, 1).flags.c_contiguous:
            return True
    return False


def lies_in(a: Array, channels_last: bool) -> bool:
    """Return whether images lie in that order; those with one channel or pixel lie in both."""
    return bool((a.transpose(0, 2, 3, 1) if channels_last else a).flags.c_contiguous)


def in_layout(a: Array, channels_last: bool) -> Array:
    """Return `a` itself if it lies in that order, else a copy that does."""
    if lies_in(a, channels_last):
        return a
    if not channels_last:
        return _transposed(a.transpose(0, 2, 3, 1), 3).reshape(a.shape) if is_channels_last(a) else contiguous(a)
    n, c, h, w = a.shape
    return _transposed(contiguous(a), 2).reshape(n, h, w, c).transpose(0, 3, 1, 2)


def empty_images(shape: tuple[int, ...], dtype: object, channels_last: bool) -> Array:
    """Return a new array of `shape`, (N, C, H, W) where it is to be channels-last."""
    if not channels_last:
        return empty(shape, dtype)
    n, c, h, w = shape
    return empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def _transposed(a: Array, split: int) -> Array:
    """Return contiguous `a` (N, ...) as matrices of the axes before and behind `split`, transposed: (N, columns, rows)."""
    n, rows, columns = a.shape[0], math.prod(a.shape[1:split]), math.prod(a.shape[split:])
    if dtype_name(a.dtype) not in TYPES or not a.size:
        return contiguous(a.reshape(n, rows, columns).transpose(0, 2, 1))
    y = empty((n, columns, rows), a.dtype)
    tiles = n * -(-rows // _TILE) * -(-columns // _TILE)
    args = (a, y, rows, columns)
    launch("layout", "transpose", dtype_name(a.dtype), (tiles,), (_TILE, BLOCK // _TILE), args, a.size)
    return y
