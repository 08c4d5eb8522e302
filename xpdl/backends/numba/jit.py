"""Compilation by Numba: without the GIL, and cached in a folder for later processes.

Loops are written for the reader, and for LLVM, which turns those over neighbouring floats into vector instructions.
A product and a sum may become one instruction that rounds once; `reduction` alone relaxes more of floating point.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core.compiler_lock import global_compiler_lock

from xpdl.backends.numba.cache import Cache

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = {"nogil": True, "error_model": "numpy"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that Python calls, for the dtypes it is called with."""
    dispatcher = numba.njit(function, fastmath={"contract"}, **_OPTIONS)
    dispatcher._cache = Cache(function)
    return dispatcher


def inline(function: F) -> F:
    """A part of such functions, which becomes part of their code: a call would count references to its arrays.

    So do parts of arrays that one of several branches is given: let it be given them by branches outside of it.
    """
    return _inline(function, {"contract"})


def reduction(function: F) -> F:
    """As `inline`, for what adds up many values: in an order of the compiler's, so that vectors can be added."""
    return _inline(function, {"contract", "reassoc"})


def _inline(function: F, fastmath: set[str]) -> F:
    return numba.njit(function, fastmath=fastmath, forceinline=True, **_OPTIONS)


if hasattr(os, "register_at_fork"):
    # a child process that was made while another thread compiles would wait for that one for ever
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )
