"""How functions are compiled: without Python's lock, and kept in a folder, so that a later process finds them compiled.

Loops are written for whoever reads them, and for LLVM, which turns those over neighbouring floats into vector instructions.
A product and a sum may become one instruction that rounds once; nothing else about floating point is relaxed, but in `sums`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
import numba.core.config
import numpy as np

from xpdl.cache import cache_dir

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = {"nogil": True, "error_model": "numpy"}


def compiled(function: F) -> F:
    """A function that Python calls, for the dtypes it is called with."""
    return _compiled(function, {"contract"})


def sums(function: F) -> F:
    """As `compiled`, for one that adds up many values: in an order of the compiler's, so that vectors can be added."""
    return _compiled(function, {"contract", "reassoc"})


def inlined(function: F) -> F:
    """A part of such functions, which becomes part of their code: a call would count references to its arrays."""
    part: F = numba.njit(function, fastmath={"contract"}, forceinline=True, **_OPTIONS)
    return part


def _compiled(function: F, fastmath: set[str]) -> F:
    before = numba.core.config.CACHE_DIR
    try:
        # read when the function is decorated; other users of Numba have their own
        numba.core.config.CACHE_DIR = str(cache_dir() / "compiled" / _version())
        dispatcher: F = numba.njit(function, cache=True, fastmath=fastmath, **_OPTIONS)
    except (OSError, RuntimeError):
        # no folder to write to: compiled anew by each process
        dispatcher = numba.njit(function, fastmath=fastmath, **_OPTIONS)
    finally:
        numba.core.config.CACHE_DIR = before
    return dispatcher


@functools.cache
def _version() -> str:
    """Of all that compiled code depends on: Numba looks at the file of a function alone, not at what it calls."""
    version = hashlib.sha256(repr(np.show_config(mode="dicts")).encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        version.update(path.read_bytes())
    return version.hexdigest()[:16]
