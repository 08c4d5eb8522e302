"""CuPy's array namespace as the Array API standard has it: what array-api-compat leaves to CuPy is mended here.

CuPy creates arrays on the current device alone, its dtype functions refuse bfloat16, and some functions of array-api-compat
read values on the host, where a GPU would be waited for.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xpdl.backends.arrays import Array, DType
from xpdl.backends.cupy.launch import cupy, supports

_CREATION = ("arange", "asarray", "empty", "eye", "full", "linspace", "ones", "zeros")
_LIKE = ("empty_like", "full_like", "ones_like", "zeros_like")
# Functions of arrays and Python numbers whose result has the dtype of the arrays.
_BESIDE_NUMBERS = ("add", "divide", "maximum", "minimum", "multiply", "pow", "subtract", "where")
# The product that `matmul` of the namespace is made by, once kernels are imported.
_matmul: list[Callable[[Array, Array], Array]] = []
# The same of `concat` and `stack`.
_join: list[Callable[[list[Array], int], Array | None]] = []
_BFLOAT16_KINDS = ("real floating", "numeric")


def multiplies(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Make the products of the namespace by the decorated function, which takes matrices or stacks of them of one dtype."""
    _matmul[:] = [function]
    return function


def joins(function: Callable[[list[Array], int], Array | None]) -> Callable[[list[Array], int], Array | None]:
    """Join arrays of the namespace by the decorated function where it gives an array."""
    _join[:] = [function]
    return function


def _keeps_bfloat16(function: Any) -> Any:
    """`function`, whose result is bfloat16 where all of its floating arrays are; CuPy widens it beside a Python number."""

    @functools.wraps(function)
    def keeps_bfloat16(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        dtypes = {a.dtype for a in args if isinstance(a, type(result)) and a.dtype.kind not in "biu"}
        if result.dtype in dtypes or {dtype.name for dtype in dtypes} != {"bfloat16"}:
            return result
        return result.astype(dtypes.pop(), copy=False)

    return keeps_bfloat16


class CupyNamespace:
    """All of `xp`, CuPy's namespace by array-api-compat, with another form of the functions defined here.

    Creation functions put arrays on the `device` that they are given, an int or a device. Results have the dtype of their
    array arguments in bfloat16 as well, which CuPy widens to float32 beside a Python number. Functions run on the device of
    their arrays, which the decorator `on_its_device` sees to; operators, which are CuPy's own, on the current one.
    """

    def __init__(self, xp: Any, on_its_device: Callable[[Any], Any]) -> None:
        self._xp = xp
        self._on_its_device = on_its_device
        self.__name__ = xp.__name__
        for name in _CREATION:
            setattr(self, name, self._on_device(getattr(xp, name)))
        for name in _LIKE:
            setattr(self, name, self._like(getattr(xp, name)))
        for name in ("clip", "concat", "matmul", "sign", "stack"):
            setattr(self, name, on_its_device(getattr(self, name)))

    def __getattr__(self, name: str) -> Any:
        value = _bfloat16() if name == "bfloat16" else getattr(self._xp, name)
        if name in _BESIDE_NUMBERS:
            value = _keeps_bfloat16(value)
        if callable(value) and not isinstance(value, type) and not name.startswith("_"):
            value = self._on_its_device(value)
        # found without this method from now on
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._xp), *super().__dir__()})

    def __repr__(self) -> str:
        return f"<namespace of {self.__name__}>"

    def _on_device(self, create: Any) -> Any:
        @functools.wraps(create)
        def created(*args: Any, device: Any = None, **kwargs: Any) -> Array:
            if device is None and not (args and isinstance(args[0], cupy().ndarray)):
                return create(*args, **kwargs)
            with self.cuda.Device(device) if device is not None else args[0].device:
                return create(*args, **kwargs)

        return created

    def _like(self, create: Any) -> Any:
        on_device = self._on_device(create)

        @functools.wraps(create)
        def created(x: Array, /, *args: Any, device: Any = None, **kwargs: Any) -> Array:
            return on_device(x, *args, device=x.device if device is None else device, **kwargs)

        return created

    def isdtype(self, dtype: DType, kind: Any) -> bool:
        """As NumPy's, which refuses dtypes that are not its own."""
        if getattr(dtype, "name", None) != "bfloat16":
            return bool(self._xp.isdtype(dtype, kind))
        kinds = kind if isinstance(kind, tuple) else (kind,)
        return any(k in _BFLOAT16_KINDS if isinstance(k, str) else k == dtype for k in kinds)

    def finfo(self, type: DType | Array, /) -> Any:
        dtype = getattr(type, "dtype", type)
        name = getattr(dtype, "name", None)
        return importlib.import_module("ml_dtypes").finfo(dtype) if name == "bfloat16" else self._xp.finfo(dtype)

    def matmul(self, a: Array, b: Array, /) -> Array:
        """As `xp.matmul`, in the precision that is set; CuPy's own cannot be part of a step that is recorded."""
        are_alike = supports(a, b) and a.ndim == b.ndim in (2, 3) and a.shape[:-2] == b.shape[:-2]
        if not _matmul or not are_alike or a.shape[-1] != b.shape[-2]:
            return self._xp.matmul(a, b)
        return _matmul[0](a, b)

    def concat(self, arrays: Sequence[Array], /, *, axis: int | None = 0) -> Array:
        """As `xp.concat`, by one launch where it can be."""
        parts = list(arrays)
        if _join and axis is not None and parts:
            y = _join[0](parts, axis + parts[0].ndim if axis < 0 else axis)
            if y is not None:
                return y
        return self._xp.concat(parts, axis=axis)

    def stack(self, arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
        """As `xp.stack`, which joins arrays with one axis more."""
        parts = list(arrays)
        if not parts or any(a.shape != parts[0].shape for a in parts) or not -1 <= axis <= parts[0].ndim:
            return self._xp.stack(parts, axis=axis)
        axis = parts[0].ndim if axis == -1 else axis
        return self.concat([cupy().expand_dims(a, axis) for a in parts], axis=axis)

    def clip(self, x: Array, /, min: Any = None, max: Any = None) -> Array:
        """As `xp.clip`, which goes by boolean masks and reads four numbers on the host."""
        if self.isdtype(x.dtype, "integral"):
            # beyond these no value is, and a bound need not fit the dtype
            info = self.iinfo(x.dtype)
            min = None if isinstance(min, int) and min <= info.min else min
            max = None if isinstance(max, int) and max >= info.max else max
        clipped = x if min is None else self.maximum(x, min)
        clipped = clipped if max is None else self.minimum(clipped, max)
        return clipped.copy() if clipped is x else clipped.astype(x.dtype, copy=False)

    def sign(self, x: Array, /) -> Array:
        """As `xp.sign`, which goes by a boolean mask; NaN where `x` is."""
        sign = cupy().sign(x)
        return self.where(self.isnan(x), x, sign) if self.isdtype(x.dtype, "real floating") else sign


def _bfloat16() -> Any:
    try:
        return np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    except ImportError as error:
        raise AttributeError("cupy has bfloat16 from ml_dtypes, which is not installed") from error
