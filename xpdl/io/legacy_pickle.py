"""Pickled dicts of arrays, read without running anything that the file asks for.

Pickle calls whatever a file tells it to. The book's companion code keeps trained weights in pickles, so they are read, but
by an unpickler that knows stand-ins for what arrays are made of, and nothing else. It is the one of the standard library
that is written in Python: its memo is a dict and its reads end with the file, so a small file cannot claim much memory.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

HostArray = np.ndarray[Any, Any]


# opcodes of such pickles, without sets, instances and the registry of extensions
_OPCODES = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT LONG BININT BININT1 BININT2 LONG1 LONG4 FLOAT",
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES",
    "BINBYTES8 BYTEARRAY8 TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_TUPLE LIST EMPTY_LIST APPEND APPENDS DICT EMPTY_DICT SETITEM",
    "SETITEMS GLOBAL STACK_GLOBAL REDUCE BUILD GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE",
)


def read(path: Path) -> dict[str, HostArray]:
    """The arrays of a pickled dict; `ValueError` if it is anything else."""
    data = path.read_bytes()
    try:
        content = _ArraysOnly(data).load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError(f"it holds a {type(content).__name__}, not a dict of arrays")
        return {key: _value(key, value) for key, value in content.items()}
    except Exception as error:  # malformed opcodes end in almost any exception
        raise ValueError(f"{path}: is not a readable pickle of a dict of arrays ({str(error)[:300]})") from error


def _value(key: str, value: object) -> HostArray:
    if isinstance(value, _PickledArray):
        return value.array
    if isinstance(value, (int, float, np.number)):
        return np.asarray(value)
    raise pickle.UnpicklingError(f"{key!r} is not an array but a {type(value).__name__}")


class _ArraysOnly(pickle._Unpickler):
    stack: list[Any]
    read: Callable[[int], bytes]
    append: Callable[[Any], None]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = {
        pickle.__dict__[name][0]: pickle._Unpickler.dispatch[pickle.__dict__[name][0]]
        for line in _OPCODES
        for name in line.split()
    }

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self.data = data
        # each byte of an array stands in the file once, and protocols up to 2 make it from a text first: more of them come
        # from one that is read over and over
        self.left = 2 * len(data)

    def find_class(self, module: str, name: str) -> Any:
        make = _STAND_INS.get((module.replace("numpy._core", "numpy.core"), name))
        if make is None:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}; only arrays, dicts, strings and numbers are read"
            )
        return _StandIn(make, self)

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside the file")

    def spend(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise pickle.UnpicklingError("its arrays are larger than the file")

    def load_bytearray8(self) -> None:
        # the library's own reserves what the file claims before it looks whether so much is there
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(min(size, len(self.data)))))

    # the hash of a nested tuple takes time that doubles with each level
    def _only_strings(self, keys: list[Any]) -> None:
        for key in keys:
            if type(key) is not str:
                raise pickle.UnpicklingError(f"a key of its dict is not a string but a {type(key).__name__}")

    def load_setitem(self) -> None:
        self._only_strings(self.stack[-2:-1])
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        self._only_strings(self.stack[::2])
        super().load_setitems()  # type: ignore[misc]

    def load_dict(self) -> None:
        self._only_strings(self.stack[::2])
        super().load_dict()  # type: ignore[misc]

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


class _StandIn:
    """Stand-in for a callable of the file, a new one each time it is named: no change to it lasts."""

    __slots__ = ("make", "reader")

    def __init__(self, make: Callable[..., Any], reader: _ArraysOnly) -> None:
        self.make, self.reader = make, reader

    def __call__(self, *args: Any) -> Any:
        return self.make(self.reader, *args)


class _PickledDType:
    __slots__ = ("dtype",)

    def __init__(self, reader: _ArraysOnly, code: str, *_: Any) -> None:
        if not re.fullmatch(r"[?biuf][0-9]{0,2}", code):
            raise pickle.UnpicklingError(f"its arrays have dtype {code!r}; only numbers are read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _PickledArray:
    __slots__ = ("array", "reader")

    array: HostArray

    def __init__(self, reader: _ArraysOnly, *_: Any) -> None:
        self.reader = reader

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _filled(self.reader, data, dtype, shape, "F" if fortran else "C")


def _filled(
    reader: _ArraysOnly, data: Any, dtype: _PickledDType, shape: tuple[int, ...], order: Literal["C", "F"]
) -> HostArray:
    reader.spend(len(data))
    raw = data.encode("latin1") if isinstance(data, str) else data  # a Python 2 string
    native = dtype.dtype.newbyteorder("=")
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order).astype(native)


def _from_buffer(
    reader: _ArraysOnly, data: Any, dtype: _PickledDType, shape: tuple[int, ...], order: Literal["C", "F"]
) -> _PickledArray:
    pickled = _PickledArray(reader)
    pickled.array = _filled(reader, data, dtype, shape, order)
    return pickled


def _scalar(reader: _ArraysOnly, dtype: _PickledDType, data: Any) -> Any:
    return _filled(reader, data, dtype, (), "C")[()]


def _encode(reader: _ArraysOnly, text: str, encoding: str) -> bytes:
    """Encode bytes as protocols up to 2 do."""
    if type(text) is not str:
        raise pickle.UnpicklingError(f"it encodes a {type(text).__name__}")
    reader.spend(len(text))
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledDType,
    ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("__builtin__", "bytes"): lambda reader: b"",
    ("_codecs", "encode"): _encode,
}
