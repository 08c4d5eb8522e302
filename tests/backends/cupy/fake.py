"""A stand-in for CuPy on the host: arrays that are not NumPy's, kernels that run, and launches that are checked.

It has what xpdl asks of CuPy and is as strict: arrays of NumPy are refused where CuPy refuses them, nothing converts to
NumPy but ``get``, and each launch is checked against the kernel's parameters: their number, kinds and dtypes, the sizes of
grid and block, and that no kernel writes beyond the ends of an array. What a kernel leaves unwritten is NaN.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import operator
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.backends.cupy import fake_capture, host
from xpdl.backends import availability
from xpdl.backends.cupy import cublas, cudnn, launch, products

_GUARD, _POISON = 64, 0xFF

#: (kernel, dtype, wide, grid, block) of every launch
launches: list[tuple[str, str, bool, tuple[int, ...], tuple[int, ...]]] = []
_allowed = {"host reads": True}


class Device:
    """The one device there is."""

    id = 0
    compute_capability = "80"
    #: bytes free, and in all
    mem_info = (1 << 40, 1 << 40)

    def __init__(self, device: Device | int = 0) -> None:
        if device != 0 and not isinstance(device, Device):
            raise fake_capture.CUDARuntimeError(f"cudaErrorInvalidDevice: invalid device ordinal ({device})")

    def synchronize(self) -> None:
        pass

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: Any) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "<CUDA Device 0>"


_DEVICE = Device()


class ndarray:
    """An array of the stand-in: a NumPy array that nobody may take for one."""

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host_array: Any, guard: Any = None) -> None:
        self._a = np.asarray(host_array)
        self._guard = guard  # the whole allocation, where there is a margin around it
        self.device = _DEVICE

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return module

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    @property
    def data(self) -> Any:
        return types.SimpleNamespace(ptr=self._a.ctypes.data, device_id=0)

    @property
    def T(self) -> ndarray:
        return self._like(self._a.T)

    def _like(self, a: Any) -> ndarray:
        return ndarray(a, self._guard)

    def get(self) -> Any:
        _read()
        return self._a.copy()

    def _made(self, compute: Any) -> ndarray:
        found: ndarray = fake_capture.made(compute, self._like, lambda result: [result._a])
        return found

    def to_device(self, device: Any, stream: Any = None) -> ndarray:
        return self

    def __getitem__(self, key: Any) -> ndarray:
        return self._made(lambda: self._a[_unwrapped(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        _unwrapped(value)

        def assign() -> None:
            self._a[_unwrapped(key)] = _unwrapped(value)

        fake_capture.run(assign)

    def __len__(self) -> int:
        return len(self._a)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._a, name)
        if name in ("shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides", "flags"):
            return value
        if name in ("astype", "reshape", "transpose", "copy", "sum", "mean", "max", "min", "view"):
            return lambda *args, **kwargs: self._made(
                lambda: getattr(self._a, name)(*_unwrapped(args), **_unwrapped(kwargs))
            )
        raise AttributeError(f"the stand-in for CuPy has no ndarray.{name}")

    def __repr__(self) -> str:
        return f"array({self._a!r})"


def _add_operators() -> None:
    binary = [
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "and",
        "or",
        "xor",
        "lshift",
        "rshift",
        "matmul",
    ]

    def forward(name: str) -> Any:
        f = getattr(operator, {"and": "and_", "or": "or_"}.get(name, name))
        return lambda self, other: _made(lambda: f(_beside(self._a, other), _unwrapped(other)))

    def reflected(name: str) -> Any:
        f = getattr(operator, {"and": "and_", "or": "or_"}.get(name, name))
        return lambda self, other: _made(lambda: f(_unwrapped(other), _beside(self._a, other)))

    def in_place(name: str) -> Any:
        f = getattr(operator, f"i{name}")

        def method(self: ndarray, other: Any) -> ndarray:
            def change() -> None:
                self._a = f(self._a, _unwrapped(other))

            fake_capture.run(change)
            return self

        return method

    def read(convert: Any) -> Any:
        def method(self: ndarray) -> Any:
            _read()
            return convert(self._a)

        return method

    for name in binary:
        setattr(ndarray, f"__{name}__", forward(name))
        setattr(ndarray, f"__r{name}__", reflected(name))
        setattr(ndarray, f"__i{name}__", in_place(name))
    for name in ["eq", "ne", "lt", "le", "gt", "ge"]:
        setattr(ndarray, f"__{name}__", forward(name))
    for name in ["neg", "pos", "abs", "invert"]:
        f = getattr(operator, name)
        setattr(ndarray, f"__{name}__", lambda self, f=f: _made(lambda: f(self._a)))
    for name, convert in (
        ("float", float),
        ("int", int),
        ("bool", bool),
        ("index", operator.index),
        ("complex", complex),
    ):
        setattr(ndarray, f"__{name}__", read(convert))


def _beside(a: Any, other: Any) -> Any:
    """`a`, which CuPy widens from bfloat16 beside a Python float."""
    return a.astype(np.float32) if type(other) is float and a.dtype.name == "bfloat16" else a


def _made(compute: Any) -> Any:
    return fake_capture.made(compute, _wrapped, _arrays)


def _arrays(result: Any) -> list[Any]:
    parts = result if isinstance(result, (tuple, list)) else [result]
    return [part._a for part in parts if isinstance(part, ndarray)]


def _read() -> None:
    fake_capture.refuse("a value read on the host")
    if not _allowed["host reads"]:
        raise RuntimeError("a value was read on the host: on a GPU this waits for all work before it")


def _wrapped(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(value)
    if isinstance(value, (tuple, list)):
        return type(value)(*map(_wrapped, value)) if hasattr(value, "_fields") else type(value)(map(_wrapped, value))
    return value


def _unwrapped(value: Any) -> Any:
    if isinstance(value, ndarray):
        return value._a
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, (tuple, list)):
        return type(value)(map(_unwrapped, value))
    if isinstance(value, dict):
        return {key: _unwrapped(item) for key, item in value.items() if key != "device"}
    return value


_add_operators()


def _matmul(a: ndarray, b: ndarray, out: ndarray | None = None) -> ndarray:
    if fake_capture.is_recording():
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
    if a.dtype.name == "bfloat16" and max(a.ndim, b.ndim) > 2:
        raise TypeError("data type 'E' not understood")
    # NumPy has no product of bfloat16 and gives float32
    product = np.matmul(_unwrapped(a), _unwrapped(b)).astype(np.result_type(a.dtype, b.dtype))
    if out is None:
        return _wrapped(product)  # type: ignore[no-any-return]
    out[...] = _wrapped(product)
    return out


def _empty(shape: Any, dtype: Any = float, device: Any = None) -> ndarray:
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    whole = np.full(size + 2 * _GUARD, _POISON, np.uint8)
    return fake_capture.keep(ndarray(whole[_GUARD : _GUARD + size].view(dtype).reshape(shape), whole))  # type: ignore[no-any-return]


def _asarray(a: Any, dtype: Any = None, *, device: Any = None, copy: bool | None = None) -> ndarray:
    if isinstance(a, ndarray) and not copy and dtype in (None, a.dtype):
        return a
    found = np.array(a._a if isinstance(a, ndarray) else a, dtype=dtype)
    if found.ndim and not isinstance(a, ndarray):
        fake_capture.refuse("H2D transfers are disallowed")
    result = _empty(found.shape, found.dtype)

    def fill() -> None:
        result._a[...] = a._a if isinstance(a, ndarray) else found

    fake_capture.run(fill)
    return result


def unaligned(a: Any) -> ndarray:
    """A gapless array with the values of `a`, which begins at no multiple of 16 bytes."""
    flat = _asarray(np.concatenate([np.zeros(1, a.dtype), a.ravel()]))[1:]
    assert flat.data.ptr % 16 and flat.flags.c_contiguous
    return flat.reshape(a.shape)  # type: ignore[no-any-return]


class _Info:
    def __getattr__(self, name: str) -> Any:
        of_numpy = getattr(np.__array_namespace_info__(), name)
        return lambda *args, device=None, **kwargs: of_numpy(*args, **kwargs)


class _Memory:
    """Bytes of no array, on no boundary in particular."""

    def __init__(self, size: int) -> None:
        self._bytes = fake_capture.keep(np.empty(size + 1, np.uint8))
        self.ptr = self._bytes.ctypes.data + 1


class RawModule:
    """Compiles by the host's compiler what CuPy would give to NVRTC."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        fake_capture.refuse("a module loaded")
        self._key = host.find(code)

    def get_function(self, name: str) -> Any:
        file, dtype, wide = self._key
        kernel = host.HostKernel(file, dtype, wide, name)

        def call(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
            assert all(type(size) is int and size > 0 for size in (*grid, *block)), (name, grid, block)
            assert grid[0] < 2**31 and all(size < 2**16 for size in grid[1:]), (name, grid)
            assert np.prod(block) <= launch.BLOCK, (name, block)
            assert len(args) == len(kernel.words), f"{name} takes {kernel.words}, got {len(args)}"
            # by value, as they are now
            given = [_argument(name, *pair) for pair in zip(args, kernel.words, strict=True)]

            def start() -> None:
                kernel.run(grid, block, given)
                launches.append((name, dtype, wide, grid, block))
                for a in args:
                    if isinstance(a, ndarray) and a._guard is not None:
                        margins = (a._guard[:_GUARD], a._guard[-_GUARD:])
                        assert all((margin == _POISON).all() for margin in margins), f"{name} wrote beyond an array"

            fake_capture.run(start, args)

        return call


def _argument(name: str, value: Any, word: str) -> Any:
    """A kernel's argument, in the form CuPy gives it, after a check against the parameter."""
    if word[0] == "*":
        if isinstance(value, int):
            assert value == 0, f"{name}: a pointer must be an array, or 0"
            return ctypes.c_void_p(0)
        assert isinstance(value, ndarray), f"{name}: a pointer must be an array, got {type(value).__name__}"
        assert value.dtype.name == word[1:], f"{name}: {value.dtype} where {word} is expected"
        assert value.flags.c_contiguous, f"{name}: an array with gaps"
        return ctypes.c_void_p(value.data.ptr)
    if word.startswith("struct"):
        assert isinstance(value, np.ndarray) and value.size == 1, f"{name}: only arrays of size one go by value"
        assert value.nbytes == int(word[6:]), f"{name}: {value.nbytes} bytes for {word}"
        return ctypes.create_string_buffer(value.tobytes(), value.nbytes)
    assert type(value) is {"int64": int, "float64": float}[word], f"{name}: {value!r} where {word} is expected"
    return ctypes.c_longlong(value) if word == "int64" else ctypes.c_double(value)


class OutOfMemoryError(MemoryError):
    """CuPy's error, of which xpdl looks at the bytes asked for."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")
        self._size = size


class Pool:
    """CuPy's memory pool, of which xpdl asks three numbers."""

    used = unused = limit = 0

    def used_bytes(self) -> int:
        return self.used

    def free_bytes(self) -> int:
        return self.unused

    def get_limit(self) -> int:
        return self.limit

    def free_all_blocks(self) -> None:
        self.unused = 0


class _Module(types.ModuleType):
    """The module ``cupy``: own arrays and kernels, and functions of NumPy on them."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(np, name)
        if isinstance(value, type) or not callable(value):
            return value

        @functools.wraps(value)
        def function(*args: Any, **kwargs: Any) -> Any:
            return _made(lambda: value(*_unwrapped(args), **_unwrapped(kwargs)))

        setattr(self, name, function)
        return function


module = _Module("cupy")
module.ndarray = ndarray  # type: ignore[attr-defined]
module.empty = _empty  # type: ignore[attr-defined]
module.asarray = module.array = _asarray  # type: ignore[attr-defined]
module.isdtype = np.isdtype  # type: ignore[attr-defined]
module.matmul = _matmul  # type: ignore[attr-defined]
module.RawModule = RawModule  # type: ignore[attr-defined]
module.__array_namespace_info__ = _Info  # type: ignore[attr-defined]
module.bool = np.bool_  # type: ignore[attr-defined]
module.cuda = types.SimpleNamespace(  # type: ignore[attr-defined]
    alloc=_Memory,
    device=types.SimpleNamespace(get_device_id=lambda: 0),
    memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    runtime=types.SimpleNamespace(CUDARuntimeError=fake_capture.CUDARuntimeError),
    get_current_stream=fake_capture.current_stream,
    Device=Device,
    Stream=fake_capture.Stream,
    MemoryPool=fake_capture.MemoryPool,
    using_allocator=fake_capture.using_allocator,
)
pool = Pool()
module.get_default_memory_pool = lambda: pool  # type: ignore[attr-defined]
# matrix products are NumPy's, in full precision
module._core = types.SimpleNamespace(set_compute_type=lambda dtype, kind: None)  # type: ignore[attr-defined]
_routines = types.SimpleNamespace(COMPUTE_TYPE_FP32=4, COMPUTE_TYPE_TF32=7)


def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make xpdl take this module for CuPy until the end of a test."""
    # under its own name, array-api-compat would take it for CuPy and ask for more than it has
    monkeypatch.setitem(sys.modules, "stand_in_for_cupy", module)
    monkeypatch.setitem(sys.modules, "stand_in_for_cupy._core._routines_linalg", _routines)
    monkeypatch.setattr(launch, "_LIBRARY", "stand_in_for_cupy")
    monkeypatch.setattr(availability, "cupy_problem", lambda: None)
    monkeypatch.setattr(cudnn, "problem", lambda: "the stand-in has none")
    monkeypatch.setattr(cublas, "problem", lambda: "the stand-in has none")
    for cached in (products._set_precision, launch.cupy, launch.module, launch._function):
        cached.cache_clear()
    launches.clear()
    fake_capture.graphs.clear()
    return module


@contextlib.contextmanager
def no_host_reads() -> Iterator[None]:
    """Inside, a value that is read on the host is an error."""
    _allowed["host reads"] = False
    try:
        yield
    finally:
        _allowed["host reads"] = True
