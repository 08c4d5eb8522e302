"""Rows of arrays by their numbers."""

from __future__ import annotations

from xpdl.backends.arrays import Array
from xpdl.backends.namespaces import array_namespace, dtype_name, library_name

# integers for which PyTorch has an index, and no `take`
_WITHOUT_TAKE = ("uint16", "uint32", "uint64")


def rows_at(a: Array, numbers: Array) -> Array:
    """Return the rows of `a` with these numbers (N,), of any library, in the dtype of `a`."""
    xp = array_namespace(a)
    if library_name(xp) == "torch" and dtype_name(a.dtype) in _WITHOUT_TAKE:
        return a[numbers]
    return xp.take(a, numbers, axis=0)
