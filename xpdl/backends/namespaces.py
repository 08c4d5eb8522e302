"""Library, device and dtype of an array. The only module that imports array_api_compat."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import array_api_compat
import numpy as np

from xpdl.backends.arrays import Array as Array
from xpdl.backends.arrays import DType as DType
from xpdl.backends.arrays import Namespace as Namespace
from xpdl.backends.graphs import detached, is_frozen, is_traced, no_graph
from xpdl.backends.subclasses import array_cure, refuse_other_arithmetic
from xpdl.errors import MixedArraysError

P = ParamSpec("P")
R = TypeVar("R")

# Types of arrays -> their namespace. What array-api-compat finds out in 7 us for two arrays is looked up in 0.5.
_CUPY: dict[type, Namespace] = {}
_TORCH: dict[type, Namespace] = {}
_KNOWN: dict[type, Namespace] = {}  # of both, and arrays of JAX that are not traced
_MIX_CURE = "move one with xpdl.asarray(...) or the layer or model with .to(...)"


@functools.cache
def library_name(xp: Namespace) -> str:
    """The name users type for a namespace: ``"numpy"``, ``"torch"``, ``"jax"``, ``"array_api_strict"``..."""
    return str(xp.__name__).removeprefix("array_api_compat.").split(".")[0]


def array_namespace(*arrays: Array | None, owner: str = "") -> Namespace:
    """The one namespace of all `arrays` (``None`` and Python numbers are passed over).

    Raises `MixedArraysError` when they belong to different libraries or lie on different devices, and `TypeError` when
    something is no array; `owner` names the layer or function in the message.
    """
    # the common cases at a tenth of the cost: this runs several times in every layer
    for a in arrays:
        if type(a) is not np.ndarray and a is not None:
            break
    else:
        if arrays and arrays[0] is not None:
            return numpy_namespace()
    known = _KNOWN.get(type(arrays[0])) if arrays else None
    if known is not None and (len(arrays) == 1 or _beside(*arrays)):
        return known
    found = [a for a in arrays if not (a is None or (isinstance(a, (int, float)) and not isinstance(a, np.generic)))]
    prefix = f"{owner}: " if owner else ""
    refuse_other_arithmetic(found, prefix)
    try:
        xp = array_api_compat.array_namespace(*found)
    except TypeError as error:
        odd = [a for a in found if not array_api_compat.is_array_api_obj(a)]
        if odd or not found:
            came = type(odd[0]).__name__ if odd else "no array at all"
            cure = array_cure(odd[0] if odd else None)
            raise TypeError(f"{prefix}expected arrays, got {came}; {cure}") from error
        names = sorted({library_name(array_api_compat.array_namespace(a)) for a in found})
        raise MixedArraysError(f"{prefix}arrays of {' and '.join(names)} are mixed; {_MIX_CURE}") from error
    if len(found) > 1 and not array_api_compat.is_numpy_namespace(xp):
        first = device(found[0])
        for a in found[1:]:
            other = device(a)
            # a traced array of JAX has no device
            if first is not None and other is not None and other != first:
                raise MixedArraysError(f"{prefix}arrays on devices {first} and {other} are mixed; {_MIX_CURE}")
    xp = conformant(xp)
    kinds = {"cupy": (_CUPY, _KNOWN), "torch": (_TORCH, _KNOWN), "jax": (_KNOWN,)}.get(library_name(xp), ())
    for known in kinds:
        known.update((type(a), xp) for a in found if not is_traced(a))
    return xp


@functools.cache  # not at import: this loads all of NumPy, numpy.f2py and numpy.testing among it
def numpy_namespace() -> Namespace:
    """Return the namespace of NumPy's arrays."""
    return array_api_compat.array_namespace(np.empty(0))


def _beside(first: Array, *others: Array | None) -> bool:
    """Return whether `others` are of the library of `first`, which is known, and on its device; ``None`` is passed over."""
    kind = type(first)
    if kind not in _CUPY:
        place, kinds = first.device, _TORCH if kind in _TORCH else (kind,)
        for a in others:  # noqa: SIM110 - a generator takes three times as long
            if a is not None and (type(a) not in kinds or a.device != place):
                return False
        return True
    device_id = first.data.device_id
    for a in others:  # noqa: SIM110 - a generator takes three times as long
        if a is not None and (type(a) is not kind or a.data.device_id != device_id):
            return False
    return True


@functools.cache
def conformant(xp: Namespace) -> Namespace:
    """`xp`, or for CuPy a namespace that is closer to the standard."""
    if library_name(xp) != "cupy":
        return xp
    closer = importlib.import_module("xpdl.backends.cupy.namespace").CupyNamespace
    return xp if isinstance(xp, closer) else closer(xp, on_its_device)


def device(x: Array) -> Any:
    """The device of `x`, in its library's own form."""
    return x.device if type(x) in _KNOWN else array_api_compat.device(x)


_ON_ANY_DEVICE: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()


def on_device_of(x: Any) -> contextlib.AbstractContextManager[Any]:
    """A context in which the device of `x` is the current one.

    CuPy alone asks for it: its operators and functions run on the current device of the thread, whichever their arguments
    are on. Of other libraries, and of what is no array, nothing is changed.
    """
    kind = type(x)
    if kind is np.ndarray or kind in _TORCH or not (kind in _CUPY or array_api_compat.is_cupy_array(x)):
        return _ON_ANY_DEVICE
    current = (_CUPY.get(type(x)) or array_namespace(x)).cuda.device.get_device_id()
    own: contextlib.AbstractContextManager[Any] = x.device
    return _ON_ANY_DEVICE if x.data.device_id == current else own


def on_its_device(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: `function` runs on the device of its first array argument, or of the first array of a list."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        value: Any
        for value in args:
            kind = type(value)
            if kind is np.ndarray or (kind in _KNOWN and kind not in _CUPY):  # on the device of their arguments
                return function(*args, **kwargs)
            if kind in _CUPY:
                if value.data.device_id == _CUPY[kind].cuda.device.get_device_id():
                    return function(*args, **kwargs)
                break
            if kind is list or kind is tuple:
                break
        for value in (*args, *kwargs.values()):
            first = value[0] if isinstance(value, (list, tuple)) and value else value
            if is_array(first):
                with on_device_of(first):
                    return function(*args, **kwargs)
        return function(*args, **kwargs)

    return run


def same_device(a: Array, b: Array) -> bool:
    """Return whether two arrays are of one library and lie on one device."""
    if type(a) is np.ndarray and type(b) is np.ndarray:
        return True
    if type(a) in _KNOWN and _beside(a, b):
        return True
    return array_namespace(a) is array_namespace(b) and bool(device(a) == device(b))


def to_device(x: Array, device: Any) -> Array:
    """`x` on `device` of its own library."""
    if array_api_compat.device(x) == device:
        return x
    if array_api_compat.is_cupy_array(x):
        return importlib.import_module("xpdl.backends.cupy.transfer").moved(x, device)
    return array_api_compat.to_device(x, device)


def is_array(x: object) -> bool:
    return type(x) is np.ndarray or type(x) in _KNOWN or bool(array_api_compat.is_array_api_obj(x))


def is_host(x: Array) -> bool:
    """Return whether reading a value of `x` costs nothing: true of NumPy arrays only."""
    return type(x) is np.ndarray or (type(x) not in _KNOWN and bool(array_api_compat.is_numpy_array(x)))


def is_floating_beside(x: Any, *others: Any) -> bool:
    """Return whether `x` is floating and `others` are of its library and device; ``None`` is passed over.

    It is quick, for what is looked at in every step: False where only a longer look can tell, as of arrays that JAX traces.
    """
    kind = type(x)
    if kind is not np.ndarray:
        return kind in _KNOWN and _is_float(x) and _beside(x, *others)
    if x.dtype.kind != "f":
        return False
    for a in others:  # noqa: SIM110 - a generator takes three times as long
        if type(a) is not np.ndarray and a is not None:
            return False
    return True


def floats_alike(first: Any, *others: Any) -> bool:
    """Return whether all are arrays of one floating dtype, shape and device; quick, as `is_floating_beside`."""
    kind = type(first)
    if not (kind is np.ndarray or kind in _KNOWN) or not _is_float(first):
        return False
    dtype, shape = first.dtype, first.shape
    kinds = _TORCH if kind in _TORCH else (kind,)
    for a in others:
        if type(a) not in kinds or a.dtype != dtype or a.shape != shape:
            return False
    return kind is np.ndarray or _beside(first, *others)


def _is_float(x: Array) -> bool:
    """Return whether an array of NumPy or a known kind has a usual floating dtype."""
    return (x.dtype.is_floating_point and x.dtype.itemsize > 1) if type(x) in _TORCH else x.dtype.kind == "f"


def is_writable(x: Array) -> bool:
    """Return whether ``x[...] = value`` works: false for JAX, read-only NumPy arrays, NumPy scalars and frozen tensors."""
    if isinstance(x, np.generic):
        return False
    if type(x) in _TORCH:
        return not is_frozen(x)
    return type(x) in _CUPY or bool(array_api_compat.is_writeable_array(x))


def is_floating(x: Array) -> bool:
    if type(x) is np.ndarray:  # at a twentieth of the cost, as in `array_namespace`
        return bool(x.dtype.kind == "f")
    if type(x) in _KNOWN and _is_float(x):
        return True
    return bool(array_namespace(x).isdtype(x.dtype, "real floating"))


def dtype_name(dtype: DType) -> str:
    """``"float32"`` for any library's float32."""
    name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype)
    return str(name).split(".")[-1]


#: half precision, by name: sums stop growing, squares overflow or vanish, and usual values of eps are 0 in them.
HALVES = ("float16", "bfloat16")


def is_half(x: object) -> bool:
    """Return whether `x` is stored in half precision, float16 or bfloat16."""
    if type(x) is np.ndarray:
        return bool(x.dtype.char == "e")  # in either order of bytes
    dtype = getattr(x, "dtype", None)
    if type(x) in _KNOWN and dtype.itemsize != 2:  # type: ignore[union-attr]
        return False
    return dtype is not None and dtype_name(dtype) in HALVES


def wide_dtype(x: Array) -> DType:
    """The dtype to compute statistics and updates in: float32 for half precision, else that of `x`."""
    return array_namespace(x).float32 if is_half(x) else x.dtype


def widened(x: Array) -> Array:
    """`x` itself, or in float32 where it is stored in half precision."""
    kind = type(x)
    if kind is np.ndarray and x.dtype.char != "e":  # the common cases without a call
        return x
    if (kind in _KNOWN and x.dtype.itemsize != 2) or not is_half(x):
        return x
    xp = array_namespace(x)
    return xp.astype(x, xp.float32)


def rounded_to(dtype: DType, x: Array) -> Array:
    """`x` itself, or rounded to another floating dtype; what is too large for that becomes infinite."""
    if x.dtype == dtype:
        return x
    with overflow_expected():  # NumPy warns of casts, where other libraries do not
        return array_namespace(x).astype(x, dtype)


@contextlib.contextmanager
def overflow_expected() -> Iterator[None]:
    """Inside, NumPy is silent about infinities and what becomes of them, as other libraries are."""
    with np.errstate(over="ignore", invalid="ignore"):
        yield


def write(old: Array, new: Array) -> Array:
    """Give `old` the values of `new`: in place where the library can, else return `new` for the caller to rebind."""
    new = rounded_to(old.dtype, new)
    if not is_writable(old):
        return new
    with on_device_of(old), no_graph(old):
        old[...] = new
    return old


def copied(a: Array) -> Array:
    """A copy of the values of an array, in its library and on its device."""
    return array_namespace(a).asarray(detached(a), copy=True)
