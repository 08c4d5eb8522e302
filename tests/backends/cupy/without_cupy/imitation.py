"""An imitation of CuPy over NumPy arrays, on which the CUDA kernels run where the wheel of CuPy does not.

The tests of the GPU backend rest on the real CuPy, by tests/hostcuda or on a GPU, which says more. This is for machines
without either, such as macOS, ARM, or a Python that CuPy has no wheel for: there, too, every instance of every kernel is
compared with its op, and the arguments of launches with the parameters of kernels. It has what
`tests.backends.cupy.every_kernel` asks for, and nothing else.
"""

from __future__ import annotations

import ctypes
import functools
import operator
import sys
import types
from typing import Any

import numpy as np
import pytest

from tests.backends.cupy.without_cupy import compiler
from xpdl.backends.cupy import cublas, cudnn, launch, products

_NAME = "imitation_of_cupy"


class Device:
    """The one device there is."""

    id = 0

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device)

    __hash__ = None  # type: ignore[assignment]


class ndarray:
    """An array that NumPy does not take for one of its own."""

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]
    device = Device()

    def __init__(self, values: Any) -> None:
        self._a = np.asarray(values)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return module

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self._a.ctypes.data, device_id=0)

    def get(self) -> Any:
        return self._a.copy()

    def __getitem__(self, key: Any) -> ndarray:
        return ndarray(self._a[_unwrapped(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._a[_unwrapped(key)] = _unwrapped(value)

    def __len__(self) -> int:
        return len(self._a)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._a, name)
        return _function(value) if callable(value) else _wrapped(value)


def _wrapped(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(value)
    return type(value)(map(_wrapped, value)) if type(value) in (tuple, list) else value


def _unwrapped(value: Any) -> Any:
    if isinstance(value, ndarray):
        return value._a
    return type(value)(map(_unwrapped, value)) if type(value) in (tuple, list) else value


def _function(function: Any) -> Any:
    @functools.wraps(function)
    def of_arrays(*args: Any, device: Any = None, **kwargs: Any) -> Any:
        return _wrapped(function(*map(_unwrapped, args), **{name: _unwrapped(a) for name, a in kwargs.items()}))

    return of_arrays


for _name in ("add", "sub", "mul", "truediv", "and_", "eq", "ge", "invert"):
    setattr(ndarray, f"__{_name.strip('_')}__", _function(getattr(operator, _name)))


def _matmul(a: ndarray, b: ndarray, out: ndarray | None = None) -> ndarray:
    # NumPy has no product of bfloat16 and gives float32
    product = ndarray(np.matmul(a._a, b._a).astype(a.dtype))
    if out is None:
        return product
    out[...] = product
    return out


def _empty(shape: Any, dtype: Any = float, device: Any = None) -> ndarray:
    """Memory of NaN: what a kernel leaves unwritten shows."""
    empty = np.empty(shape, dtype)
    empty.view(np.uint8 if empty.ndim else empty.dtype)[...] = 0xFF if empty.ndim else np.nan
    return ndarray(empty)


class RawModule:
    """Compiles by g++ what CuPy would give to NVRTC."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        self._key = compiler.find(code)

    def get_function(self, name: str) -> Any:
        kernel = compiler.Kernel(*self._key, name)

        def call(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
            assert len(args) == len(kernel.words), f"{name} takes {kernel.words}, got {len(args)}"
            kernel.run(grid, block, [_argument(name, *pair) for pair in zip(args, kernel.words, strict=True)])

        return call


def _argument(name: str, value: Any, word: str) -> Any:
    """A kernel's argument as a value of ctypes, after a check of its type."""
    if word[0] == "*":
        is_null = isinstance(value, int) and value == 0
        # or channels-last
        dense = is_null or value.flags.c_contiguous or value.transpose(0, 2, 3, 1).flags.c_contiguous
        assert is_null or (value.dtype.name == word[1:] and dense), f"{name}: no {word}"
        return ctypes.c_void_p(0 if is_null else value.data.ptr)
    if word.startswith("struct"):
        assert value.size == 1 and value.nbytes == int(word[6:]), f"{name}: {value.nbytes} bytes for {word}"
        return ctypes.create_string_buffer(value.tobytes(), value.nbytes)
    assert type(value) is {"int64": int, "float64": float}[word], f"{name}: {value!r} where {word} is expected"
    return ctypes.c_longlong(value) if word == "int64" else ctypes.c_double(value)


class _Module(types.ModuleType):
    """Functions of NumPy on the arrays of here, besides those that are defined here."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(np, name)
        return value if isinstance(value, type) or not callable(value) else _function(value)


module: Any = _Module("cupy")
module.ndarray, module.RawModule = ndarray, RawModule
module.empty, module.matmul = _empty, _matmul
module.asarray = _function(np.array)
module.isdtype, module.bool = np.isdtype, np.bool_
module.__array_namespace_info__ = np.__array_namespace_info__
module.cuda = types.SimpleNamespace(Device=lambda device: device, device=types.SimpleNamespace(get_device_id=lambda: 0))


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make xpdl take the imitation for CuPy until the end of a test."""
    # under its own name, array-api-compat would take it for CuPy and ask for more than it has
    monkeypatch.setitem(sys.modules, _NAME, module)
    monkeypatch.setattr(launch, "_LIBRARY", _NAME)
    monkeypatch.setattr(products, "_set_precision", lambda precision: None)
    for library in (cudnn, cublas):
        monkeypatch.setattr(library, "problem", lambda: "the imitation has none")
    for name in ("cupy", "module", "_function"):
        cached = getattr(launch, name)
        monkeypatch.setattr(launch, name, functools.cache(cached.__wrapped__))
