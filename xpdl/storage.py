"""Arrays in files: written whole or not at all, and read only if nothing in them has changed."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from xpdl.version import __version__

#: of the files `write_tensors` makes; a reader refuses what is newer than itself
FORMAT_VERSION = 1

HostArray = np.ndarray[Any, Any]


def write_atomically(path: str | os.PathLike[str], data: bytes | bytearray) -> None:
    """Make `data` the content of the file `path`; whatever happens meanwhile, the file is the old one or the new one.

    Raises
    ------
    OSError
        If it cannot be written: no such folder, no permission, disk full.
    """
    path = Path(os.path.realpath(path))  # through a link, to the file it names
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; make it first")
    # beside the target: a rename is atomic within one file system only
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files for their owner alone; a saved model is an ordinary file
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None:
            # a full disk comes without a name, and nobody has heard of the temporary file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_tensors(
    path: str | os.PathLike[str], arrays: Mapping[str, HostArray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named host arrays to a safetensors file, atomically, with a checksum of them and of `metadata`."""
    stored = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    header = {
        **(metadata or {}),
        "format": "xpdl",
        "format_version": str(FORMAT_VERSION),
        "xpdl_version": __version__,
    }
    header["sha256"] = _checksum(stored, header)
    write_atomically(path, safetensors_bytes(stored, header))


def load_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, HostArray], dict[str, str]]:
    """Named arrays and metadata of a safetensors file, or the arrays of a pickled dict as the book's code writes it.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is neither of these, is damaged, or is of a later format than this version reads. Damage is noticed in files
        of `write_tensors`, by their checksum; other writers' files have none.
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(9)
    # a safetensors file starts with the size of its JSON header, in 8 bytes whose upper ones are zeros; a pickled dict with
    # its protocol, or in the text protocols with the opcode of a dict
    if not start.endswith(b"\0{") and start[:1] in (b"\x80", b"(", b"}"):
        return _read_pickle(path), {}
    return _read_safetensors(path)


def _read_safetensors(path: Path) -> tuple[dict[str, HostArray], dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: is not a readable safetensors file, or a damaged one ({error})") from error
    # any one of the keys shows whose file it is, so that damage to another does not switch the check off
    if metadata.get("format") == "xpdl" or {"sha256", "format_version", "xpdl_version"} & metadata.keys():
        _verify(path, arrays, metadata)
    return arrays, metadata


def _verify(path: Path, arrays: dict[str, HostArray], metadata: dict[str, str]) -> None:
    expected = metadata.pop("sha256", None)
    if _checksum(arrays, metadata) != expected:
        raise ValueError(f"{path}: is damaged: its content does not match its checksum; take another copy of the file")
    if int(metadata["format_version"]) > FORMAT_VERSION:
        raise ValueError(
            f"{path}: was written by xpdl {metadata['xpdl_version']} in format {metadata['format_version']}, and this "
            f"xpdl reads formats up to {FORMAT_VERSION}; install a newer one"
        )


def _checksum(arrays: Mapping[str, HostArray], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for key in sorted(metadata):
        digest.update(repr((key, metadata[key])).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(repr((name, array.dtype.str, arrays[name].shape)).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# Pickle calls whatever a file tells it to. The book's companion code keeps trained weights in pickles, so they are read, but
# by an unpickler that knows stand-ins for what arrays are made of, and nothing else. It is the one of the standard library
# that is written in Python: its memo is a dict and its reads end with the file, so a small file cannot claim much memory.


def _read_pickle(path: Path) -> dict[str, HostArray]:
    try:
        content = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError(f"it holds a {type(content).__name__}, not a dict of arrays")
        return {_key(key): _value(key, value) for key, value in content.items()}
    except Exception as error:  # malformed opcodes end in almost any exception
        raise ValueError(f"{path}: is not a readable pickle of a dict of arrays ({error})") from error


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise pickle.UnpicklingError(f"its key {key!r} is not a string")
    return key


def _value(key: object, value: object) -> HostArray:
    if isinstance(value, _PickledArray):
        return value.array
    if isinstance(value, (int, float, np.number)):
        return np.asarray(value)
    raise pickle.UnpicklingError(f"{key!r} is not an array but a {type(value).__name__}")


class _ArraysOnly(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        make = _STAND_INS.get((module.replace("numpy._core", "numpy.core"), name))
        if make is None:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}; only arrays, dicts, strings and numbers are read"
            )
        return _StandIn(make)

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside the file")


class _StandIn:
    """What a file may call, one for each time it is named: nothing it does to it lasts."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def __call__(self, *args: Any) -> Any:
        return self.make(*args)


class _PickledDType:
    __slots__ = ("dtype",)

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r"[?biuf][0-9]{0,2}", code):
            raise pickle.UnpicklingError(f"its arrays have dtype {code!r}; only numbers are read")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _PickledArray:
    __slots__ = ("array",)

    array: HostArray

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _filled(data, dtype, shape, "F" if fortran else "C")


def _filled(data: Any, dtype: _PickledDType, shape: tuple[int, ...], order: Literal["C", "F"]) -> HostArray:
    raw = data.encode("latin1") if isinstance(data, str) else data  # a Python 2 string
    native = dtype.dtype.newbyteorder("=")
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order).astype(native)


def _from_buffer(data: Any, dtype: _PickledDType, shape: tuple[int, ...], order: Literal["C", "F"]) -> _PickledArray:
    pickled = _PickledArray()
    pickled.array = _filled(data, dtype, shape, order)
    return pickled


def _scalar(dtype: _PickledDType, data: Any) -> Any:
    return _filled(data, dtype, (), "C")[()]


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): lambda *_: _PickledArray(),
    ("numpy", "dtype"): _PickledDType,
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _PickledArray(),
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    # how protocols up to 2 write bytes
    ("__builtin__", "bytes"): lambda: b"",
    ("_codecs", "encode"): lambda text, encoding: str(text).encode("latin1"),
}
