"""Launches of CUDA kernels by name: everything here that CuPy is asked for, besides array functions."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np

from xpdl.backends import registry
from xpdl.backends.arrays import Array
from xpdl.backends.cupy import sources, trace

P = ParamSpec("P")
R = TypeVar("R")

#: threads of a block; kernels have shared memory for so many
BLOCK = 256
# More blocks than any GPU runs at once; threads go on in strides of the grid.
_MOST_BLOCKS = 1 << 16
# Beyond it, an index and a stride added to it may not fit 32 bits.
_NARROW = 1 << 30
# Structures kept for the shapes seen last.
_MOST_STRUCTS = 4096


_LIBRARY = "cupy"


@functools.cache
def cupy() -> Any:
    """The module, imported when the first of its arrays is here."""
    return importlib.import_module(_LIBRARY)


def submodule(name: str) -> Any:
    """A module of CuPy by its name within it."""
    return importlib.import_module(f"{_LIBRARY}.{name}")


def kernel(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register the decorated function as CuPy's kernel for the op `name`; it runs on the device of the first argument."""

    def register(function: Callable[P, R]) -> Callable[P, R]:
        first = next(iter(inspect.signature(function).parameters))

        @functools.wraps(function)
        def on_its_device(*args: P.args, **kwargs: P.kwargs) -> R:
            decides: Any = args[0] if args else kwargs[first]
            array = decides[0] if isinstance(decides, list) else decides
            if array.data.device_id == cupy().cuda.device.get_device_id():
                return function(*args, **kwargs)
            with array.device:
                return function(*args, **kwargs)

        return registry.kernel("cupy", name)(on_its_device)

    return register


@functools.cache
def module(file: str, dtype: str, wide: bool) -> Any:
    """The compiled kernels of a file; CuPy loads them on each device they are launched on, and keeps them on disk."""
    return cupy().RawModule(code=sources.source(file, dtype, wide), options=sources.OPTIONS)


@functools.cache
def _function(file: str, name: str, dtype: str, wide: bool) -> Any:
    return module(file, dtype, wide).get_function(name)


def launch(
    file: str, name: str, dtype: str, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], largest: int
) -> None:
    """Start a kernel on the current stream.

    Parameters
    ----------
    file, name, dtype : str
        Which kernel, in which instance.
    grid, block : tuple of ints
    args : tuple
        CuPy arrays (given as pointers), ints (int64), floats (double), raw bytes from `struct` or `by_value`, and 0 for
        a null pointer.
    largest : int
        No index in the kernel exceeds this.
    """
    if trace.calls is not None:
        trace.record_launch(file, name, dtype, args)
    _function(file, name, dtype, largest >= _NARROW)(grid, block, args)


def launch_elementwise(file: str, name: str, dtype: str, size: int, *args: Any, largest: int = 0) -> None:
    """Start a kernel whose threads share the numbers below `size`, its last argument."""
    blocks = min(-(-size // BLOCK), _MOST_BLOCKS)
    launch(file, name, dtype, (blocks,), (BLOCK,), (*args, size), max(size, largest))


@functools.lru_cache(maxsize=_MOST_STRUCTS)
def struct(names: str, *values: int) -> Any:
    """A structure of the int64 fields `names`, to pass by value; one array for each set of values, read-only."""
    assert len(names.split()) == len(values), (names, values)
    fields = by_value(np.array(values, np.int64))
    fields.flags.writeable = False
    return fields


def by_value(fields: np.ndarray[Any, Any]) -> Any:
    """A view of all of `fields` as one element of raw bytes, to pass by value.

    CuPy reads the address from ``__array_interface__``, which takes under 1 us for raw bytes, and 3 to 40 us for a
    structured dtype, whose description NumPy builds in Python.
    """
    return fields.view(raw_bytes(fields.nbytes))


@functools.cache
def raw_bytes(size: int) -> np.dtype[Any]:
    """The dtype of `size` bytes without a meaning."""
    return np.dtype(f"V{size}")


@functools.cache
def dtype_name(dtype: Any) -> str:
    """Name of a dtype, cached: NumPy composes it at each access, which takes a microsecond."""
    return str(dtype.name)


def supports(*arrays: Array | None) -> bool:
    """Return whether all are CuPy's, on one device, of one dtype that kernels have, and none is empty."""
    first: Array = arrays[0]
    if not same_device(first, *arrays):  # the generic op says what does not fit together
        return False
    dtype = first.dtype
    if dtype_name(dtype) not in sources.TYPES:
        return False
    for a in arrays:  # noqa: SIM110 - a generator takes three times as long, here and below
        if a is not None and (a.dtype != dtype or not a.size):
            return False
    return True


def same_device(first: Array, *arrays: Array | None) -> bool:
    """Return whether all are CuPy's and on the device of `first`."""
    own = cupy().ndarray
    if not isinstance(first, own):
        return False
    device_id = first.data.device_id
    for a in arrays:  # noqa: SIM110
        if a is not None and not (isinstance(a, own) and a.data.device_id == device_id):
            return False
    return True


def contiguous(a: Array) -> Array:
    """Return `a` itself if it is C-contiguous, else a copy that is."""
    return a if a.flags.c_contiguous else cupy().ascontiguousarray(a)


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    return cupy().empty(shape, dtype=dtype)


def computing_dtype(dtype: Any) -> str:
    """The dtype of sums."""
    return "float64" if dtype_name(dtype) == "float64" else "float32"
