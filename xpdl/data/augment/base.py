"""Base classes of all transforms of images."""

from __future__ import annotations

import math
import numbers
from typing import Any, ClassVar

import numpy as np

from xpdl.backends.conversion import from_numpy
from xpdl.backends.namespaces import (
    Array,
    DType,
    Namespace,
    array_namespace,
    device,
    dtype_name,
    on_device_of,
)
from xpdl.backends.random import Stream
from xpdl.data.compose import given_stream
from xpdl.ops.checks import require_floating, require_rank


class Transform:
    """A random change of images; a subclass says in `apply` which.

    Call it as ``transform(x)`` or ``transform(x, stream)``.

    Parameters
    ----------
    x : array (N, C, H, W)
        Not modified. Transforms that compute with values want a floating dtype, those that only move or erase pixels
        take any.
    stream : Stream, optional
        What is drawn depends on it alone: `Batches` gives one for each batch, and ``Stream(seed)`` of
        `xpdl.backends.random` is one. By default, a fresh one follows `xpdl.seed`.

    Returns
    -------
    array (N, C, H, W)
        Of the library, device and dtype of `x`.

    Raises
    ------
    ShapeError
        If `x` has another rank.
    DTypeError
        If values are to be computed and `x` is not floating.
    TypeError
        If `x` is no array or `stream` no `Stream`.
    """

    takes_stream: ClassVar[bool] = True
    computes: ClassVar[bool] = True  # True if values are computed, rather than moved or erased

    def __call__(self, x: Array, stream: Stream | None = None) -> Array:
        owner = type(self).__name__
        array_namespace(x, owner=owner)
        stream = given_stream(stream, owner)
        require_rank(x, 4, owner, "images (N, C, H, W) (data sets: flatten=False)")
        if self.computes:
            require_floating(x, owner)
        with on_device_of(x):
            return self.apply(x, stream)

    def apply(self, x: Array, stream: Stream) -> Array:
        """The changed images; `x` and `stream` have been checked."""
        raise NotImplementedError(f"{type(self).__name__} has no method apply(x, stream)")

    def generator(self, stream: Stream, what: str) -> np.random.Generator:
        """The source of the draws called `what`: those of two kinds of transforms share nothing."""
        return stream.generator(f"{type(self).__name__}.{what}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


def number(value: Any, name: str, owner: str, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a finite float in ``[low, high]``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{owner}: {name} must be a number, got {value!r}")
    try:
        result = float(value)
    except OverflowError:  # of an int
        result = math.inf
    if not (math.isfinite(result) and low <= result <= high):
        least = f" of at least {low:g}" if math.isfinite(low) else ""
        most = f" of at most {high:g}" if math.isfinite(high) else ""
        raise ValueError(
            f"{owner}: {name} must be a finite number{least}{' and' * bool(least and most)}{most}, got {value!r}"
        )
    return result


def ordered(low: float, high: float, owner: str) -> None:
    if low > high:
        raise ValueError(f"{owner}: low must not exceed high, got low={low:g}, high={high:g}")


def working_dtype(xp: Namespace, x: Array) -> DType:
    """The dtype to compute coordinates and blends in: half precision cannot tell pixels of large images apart."""
    return xp.float64 if dtype_name(x.dtype) == "float64" else xp.float32


def beside(values: np.ndarray[Any, Any], x: Array, dtype: DType | None = None) -> Array:
    """Copy values drawn on the host to the library and the device of `x`."""
    return from_numpy(values, array_namespace(x), device(x), dtype)
