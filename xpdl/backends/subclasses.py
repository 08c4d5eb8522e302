"""Subclasses of NumPy's array whose operators do something else: matrices and masked arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def refuse_other_arithmetic(arrays: list[Any], prefix: str) -> None:
    """`TypeError` for subclasses of NumPy's array whose operators do something else."""
    for a in arrays:
        if isinstance(a, np.ma.MaskedArray):
            raise TypeError(
                f"{prefix}expected arrays, got a masked array; give missing values a number with .filled(0.0)"
            )
        if isinstance(a, np.matrix):
            raise TypeError(f"{prefix}expected arrays, got a matrix of NumPy; make an array of it with np.asarray(...)")


def plain(a: Any, owner: str = "asarray") -> Any:
    """A matrix, or a masked array without masked values, as an array; anything else as it is."""
    if isinstance(a, np.ma.MaskedArray) and np.ma.is_masked(a):
        raise TypeError(f"{owner}: some values of this array are masked; give them a number with .filled(0.0)")
    return np.asarray(a) if isinstance(a, (np.matrix, np.ma.MaskedArray)) else a


def array_cure(value: object) -> str:
    """Return the end of a message about `value`, which is no array."""
    return "encode a text with xpdl.Vocabulary" if isinstance(value, str) else "make one with xpdl.asarray(...)"


def ids_cure(array: Any) -> str:
    """Return the end of a message about an array that holds no integers, where ids are needed."""
    if getattr(array.dtype, "kind", "f") in "OSTU":
        return "encode texts with xpdl.Vocabulary"
    return "cast them with xpdl.asarray(x, dtype='int64')"
