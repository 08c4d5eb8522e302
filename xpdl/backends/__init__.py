"""Backends: the array library, device and dtype of new arrays. The only package that names array libraries."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from xpdl.backends import availability, conversion, dlpack, namespaces
from xpdl.backends.device_names import device_called
from xpdl.backends.graphs import detached
from xpdl.backends.handle import Handle
from xpdl.backends.namespaces import Array, DType, Namespace, array_namespace, dtype_name, library_name
from xpdl.backends.subclasses import plain
from xpdl.errors import BackendError, DTypeError

# name for users -> the module that makes arrays
_MODULES = {
    "numpy": "numpy",
    "cupy": "cupy",
    "torch": "torch",
    "jax": "jax.numpy",
    "array_api_strict": "array_api_strict",
}
_FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclasses.dataclass(frozen=True)
class Backend:
    """Target of new arrays: an array namespace, one of its devices, and a floating dtype by name."""

    name: str
    xp: Namespace
    device: Any
    dtype: str

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        """Return itself: it never changes, and the module in it cannot be copied."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle it by its names: modules, and devices of JAX, cannot be pickled."""
        return _unpickled, (self.name, str(self.device) if self.name == "jax" else self.device, self.dtype)

    @property
    def float(self) -> DType:
        """The library's own object for `dtype`."""
        return getattr(self.xp, self.dtype)

    def asarray(self, a: Any, dtype: str | DType | None = None) -> Array:
        """`a`, from any library, as an array here; floats take this backend's dtype unless `dtype` is given."""
        xp = self.xp
        if dtype is not None:
            dtype = self._own_dtype(dtype)
        a = detached(plain(a))
        given, own = type(a).__name__, namespaces.is_array(a) and array_namespace(a) is xp
        if not own:
            a = conversion.to_numpy(a)
        if namespaces.is_host(a) and a.dtype.kind not in "biufc":
            raise DTypeError(f"asarray: expected numbers, got {given} of {a.dtype}")
        if dtype is None and namespaces.is_floating(a):
            dtype = self.float
        if not own:
            return conversion.from_numpy(a, xp, self.device, dtype)
        a = xp.asarray(a) if isinstance(a, np.generic) else a
        a = a if dtype is None or a.dtype == dtype else xp.astype(a, dtype)
        return namespaces.to_device(a, self.device)

    def _own_dtype(self, dtype: str | DType) -> DType:
        """This library's dtype of the name of `dtype`, which may be any library's."""
        name = dtype if isinstance(dtype, str) else dtype_name(dtype)
        if name not in self.xp.__array_namespace_info__().dtypes() and not (name in _FLOATS and hasattr(self.xp, name)):
            raise DTypeError(f"asarray: {self.name} has no dtype {name!r}")
        return getattr(self.xp, name)

    @classmethod
    def of(cls, x: Array) -> Backend:
        """The backend that an array `x` belongs to; beside integers, floats have the dtype of `use`."""
        xp = array_namespace(x)
        dtype = dtype_name(x.dtype) if namespaces.is_floating(x) else get_backend().dtype
        return cls(library_name(xp), xp, namespaces.device(x), dtype)


_current: Backend | None = None


def use(
    name: str | ModuleType | Namespace = "auto",
    *,
    device: Any = None,
    dtype: str = "float32",
    threads: int | None = None,
) -> Handle:
    """Choose where new arrays are made: parameters, data sets, batches.

    Existing arrays are untouched: functions and layers follow their inputs.

    Parameters
    ----------
    name : str or module
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"jax"``, ``"array_api_strict"``, the name of any other importable
        module that array-api-compat understands, or such a module itself. ``"auto"`` takes CuPy when a GPU answers and
        otherwise NumPy, and says why in one line on standard error.
    device : optional
        A device of that library or its name, such as ``"cuda:0"`` for torch, and for CuPy also its number; the library's
        default when not given, in CuPy the current device.
    dtype : str
        Floating dtype of new arrays: ``"float32"``, ``"float64"``, ``"float16"`` or ``"bfloat16"``.
    threads : int, optional
        So many threads share the work on NumPy arrays from now on. Otherwise what was chosen before stays, and at first
        ``XPDL_NUM_THREADS`` or the number of processors. Results are bitwise identical for any number.

    Returns
    -------
    handle
        Has ``name xp device dtype``. In a ``with`` statement, it gives the `Backend` and restores the previous one at
        the end of the block.

    Raises
    ------
    BackendError
        If the library cannot be used here. For CuPy the message says whether it is not installed, has no driver, no
        device, or is built for another CUDA version.
    ValueError
        If `threads` is not a positive int.

    Examples
    --------
    >>> with xpdl.use("numpy", dtype="float64"):
    ...     xpdl.asarray([1, 2.5]).dtype
    dtype('float64')
    """
    global _current
    before = _current
    if isinstance(name, str) and name == "auto":
        reason = availability.cupy_problem()
        name = "numpy" if reason else "cupy"
        print(f"xpdl: using {name}: {reason or 'a CUDA device answers'}", file=sys.stderr)
    backend = make_backend(name, device, dtype)
    restore_threads = None if threads is None else _choose_threads(threads)
    _current = backend

    def undo() -> None:
        global _current
        _current = before
        if restore_threads is not None:
            restore_threads()

    return Handle(backend, undo)


def _choose_threads(count: int) -> Callable[[], Any]:
    """Have the NumPy kernels use so many threads; what is returned undoes it."""
    # here: kernels are loaded when they are first needed
    pool = importlib.import_module("xpdl.backends.cpu.thread_pool")
    return functools.partial(pool.choose, pool.choose(count))


def make_backend(name: str | ModuleType | Namespace, device: Any = None, dtype: str = "float32") -> Backend:
    """The `Backend` that `use` would choose, without choosing it."""
    dtype = dtype if isinstance(dtype, str) else dtype_name(dtype)
    if dtype not in _FLOATS:
        raise BackendError(f"use: dtype must be one of {', '.join(_FLOATS)}, got {dtype!r}")
    module = _import(name) if isinstance(name, str) else name
    if not hasattr(module, "__name__"):
        raise BackendError(f"use: expected the name of a library or its module, got {name!r}")
    library = library_name(module)
    if library == "cupy" and (reason := availability.cupy_problem()):
        raise BackendError(f"use('cupy'): {reason}")
    if library == "jax" and not hasattr(module, "asarray"):
        module = _import("jax")
    try:
        xp = array_namespace(module.asarray([0.0]))
    except (AttributeError, TypeError) as error:
        raise BackendError(
            f"use({library!r}): {error}; it must be a module that array-api-compat understands"
        ) from error
    if not hasattr(xp, dtype):
        raise BackendError(f"use({library!r}): this library has no dtype {dtype}")
    if library == "jax" and dtype == "float64" and "float64" not in xp.__array_namespace_info__().dtypes():
        raise BackendError("use('jax'): float64 is off; call jax.config.update('jax_enable_x64', True) first")
    # an actual array shows what flags and capabilities would only promise
    try:
        probe = xp.zeros((1,), dtype=getattr(xp, dtype), device=device_called(library, xp, device))
    except (ValueError, RuntimeError, TypeError, AttributeError, AssertionError, IndexError) as error:
        raise BackendError(f"use({library!r}): device {device!r} or dtype {dtype} does not work: {error}") from error
    if dtype_name(probe.dtype) != dtype:
        raise BackendError(f"use({library!r}): asked for {dtype}, got {dtype_name(probe.dtype)}")
    return Backend(library, xp, namespaces.device(probe), dtype)


def _unpickled(name: str, device: Any, dtype: str) -> Backend:
    return dataclasses.replace(make_backend(name, device), dtype=dtype)


def _import(name: str) -> Any:
    module = _MODULES.get(name, name)
    if name == "cupy" and (reason := availability.cupy_problem()):
        raise BackendError(f"use('cupy'): {reason}")
    try:
        return importlib.import_module(module)
    except (ImportError, OSError, ValueError, TypeError) as error:  # not there, broken, or no name of a module
        known = ", ".join(["auto", *_MODULES])
        raise BackendError(
            f"use({name!r}): cannot import {module} ({error}); install it, or choose one of {known}"
        ) from error


def get_backend() -> Backend:
    """Return the backend of new arrays: it has ``name``, ``xp``, ``device`` and ``dtype``.

    Before the first `use`, the environment variable ``XPDL_BACKEND`` decides, and without it NumPy.
    """
    global _current
    if _current is None:
        named = os.environ.get("XPDL_BACKEND") or "numpy"
        try:
            use(named)
        except BackendError as error:
            raise BackendError(f"XPDL_BACKEND={named}: {error}") from error
    assert _current is not None
    return _current


def available_backends() -> dict[str, str]:
    """Each library known by name -> ``"ok"``, or the reason why it cannot be used here."""
    answers = {}
    for name in _MODULES:
        try:
            make_backend(name)
            answers[name] = "ok"
        except BackendError as error:
            answers[name] = str(error).removeprefix(f"use({name!r}): ")
    return answers


def asarray(a: Any, dtype: str | DType | None = None, device: Any = None, *, copy: bool | None = None) -> Array:
    """Make an array of the backend in use from a list, a number or any library's array.

    Parameters
    ----------
    a
        What to convert. Floating values take the backend's dtype unless `dtype` says otherwise; integers and booleans
        keep theirs. Arrays of an unknown library need ``__dlpack__`` or ``__array__``.
    dtype : str or dtype, optional
    device : optional
        A device of the backend's library other than the one in use.
    copy : bool, optional
        By default, what is an array of this library, device and dtype is returned as it is, and all else is copied. True
        always copies. False never does: arrays of other libraries are taken by DLPack, and share their memory.

    Raises
    ------
    ValueError
        If ``copy=False`` and library, device or dtype need a copy; says which.
    """
    backend = get_backend()
    if device is not None:
        backend = make_backend(backend.xp, device, backend.dtype)
    if not (copy is None or isinstance(copy, bool)):
        raise TypeError(f"asarray: copy must be True, False or None, got {copy!r}")
    if copy is False:
        wanted = None if dtype is None else dtype_name(backend._own_dtype(dtype))
        return dlpack.shared(detached(plain(a)), backend.xp, backend.device, wanted, backend.dtype)
    made = backend.asarray(a, dtype)
    return namespaces.copied(made) if copy and made is a else made


def asnumpy(a: Any) -> np.ndarray[Any, Any]:
    """A NumPy copy of any library's array, wherever it lies; bfloat16, which NumPy lacks, becomes float32.

    Raises
    ------
    TypeError
        If some values of a masked array are masked.
    """
    return conversion.to_numpy(plain(a, "asnumpy"))
