"""Kernels compiled by Numba, where the extra ``compiled`` is installed; without it NumPy's functions do the same work.

A task of a kernel is here one call that releases the GIL until it ends. NumPy takes the GIL back after each of its
functions, and two threads that work on small arrays wait for each other there as long as they work. Loops also read
what they need once, where NumPy's functions pass over memory once each.

What the kernels share, how they cut work into tasks and what memory they use, stays where it is for both: a module of
`xpdl.backends.numpy` asks here for the tasks it would else make from NumPy's functions.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import warnings
from typing import Any

import numpy as np

Host = np.ndarray[Any, Any]

# What functions are compiled for: Numba refuses half precision, and floats of another machine's order of bytes.
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class NoProducts(ImportError):
    """NumPy's BLAS cannot be called from compiled code; functions without products of matrices are compiled nevertheless."""


def kernels(name: str) -> Any:
    """The module of this package of that name, or None where it cannot be compiled."""
    # asked at every call of a kernel, so kept
    return _loaded(name) if problem() is None else None


@functools.cache
def problem() -> str | None:
    """Why nothing is compiled, in a few words; None if kernels are."""
    # set but empty means not set
    asked = os.environ.get("XPDL_COMPILED") or "1"
    if asked not in ("0", "1"):
        raise ValueError(f"XPDL_COMPILED must be 0 or 1, got {asked!r}")
    if asked == "0":
        return "switched off by XPDL_COMPILED=0"
    if importlib.util.find_spec("numba") is None:
        return 'Numba is not installed; pip install "xpdl[compiled]"'
    try:
        importlib.import_module("xpdl.backends.numba.jit")
    # an installed Numba may refuse the NumPy or the Python beside it in many ways
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        warnings.warn(f"kernels are not compiled, NumPy alone is slower: {reason}", RuntimeWarning, stacklevel=2)
        return reason
    if importlib.import_module("numba").config.DISABLE_JIT:
        return "switched off by NUMBA_DISABLE_JIT=1"
    return None


def read_only(a: Host) -> Host:
    """A view to read from, without gaps: functions are compiled for these alone, whether or not `a` can be written to."""
    view = np.ascontiguousarray(a).view()
    view.flags.writeable = False
    return view


def state() -> str:
    """Whether kernels are compiled, by what, and where they are kept, or why not; for people to read."""
    if (reason := problem()) is not None:
        return f"NumPy's functions; {reason}"
    numba, cache = (importlib.import_module(name) for name in ("numba", "xpdl.backends.numba.cache"))
    where = cache.folder()
    kept = f"kept in {where}" if cache.writable() else f"not kept, as {where or 'a cache folder'} cannot be written to"
    products = (
        "" if kernels("blas") else "; those with products of matrices are NumPy's, which is without OpenBLAS here"
    )
    return f"compiled by Numba {numba.__version__}, {kept}{products}"


def in_use() -> str:
    """What the kernels of this process were so far: small nets do not ask for compiled ones."""
    if not _loaded.cache_info().currsize:
        return "NumPy's functions"
    return f"compiled by Numba {importlib.import_module('numba').__version__}"


@functools.cache
def _loaded(name: str) -> Any:
    try:
        return importlib.import_module(f"xpdl.backends.numba.{name}")
    except NoProducts:
        return None
