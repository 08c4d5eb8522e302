"""Named arrays in safetensors files, with a checksum."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save as safetensors_bytes

from xpdl.io import legacy_pickle
from xpdl.io.atomic import write_atomically
from xpdl.version import __version__

#: of the files `write_tensors` makes; a reader refuses what is newer than itself
FORMAT_VERSION = 1
# a file begins with the size of its header
_SIZE = 8
_MOST_HEADER = 100_000_000
_SMALLER_HEADER = "; names, and what describes the arrays, such as a vocabulary, must be smaller"
_METADATA = "__metadata__"

HostArray = np.ndarray[Any, Any]


class DamagedFileError(ValueError):
    """A file that is not, or no longer, what a writer of this library made."""


def write_tensors(
    path: str | os.PathLike[str],
    arrays: Mapping[str, HostArray],
    metadata: Mapping[str, str] | None = None,
    before_replacing: Callable[[], None] | None = None,
) -> None:
    """Write named host arrays to a safetensors file, atomically, with a checksum of them and of `metadata`.

    `before_replacing` is as for `write_atomically`.
    """
    stored = _as_stored(arrays, path)
    header = {
        **(metadata or {}),
        "format": "xpdl",
        "format_version": str(FORMAT_VERSION),
        "xpdl_version": __version__,
    }
    header["sha256"] = _checksum(stored, header)
    write_atomically(path, _serialized(stored, header, path), before_replacing)


def write_plain_tensors(
    path: str | os.PathLike[str], arrays: Mapping[str, HostArray], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file for another library's reader, atomically, without a checksum."""
    stored = _as_stored(arrays, path)
    write_atomically(path, _serialized(stored, metadata, path))


def _serialized(stored: Mapping[str, HostArray], metadata: Mapping[str, str], path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file.

    Raises
    ------
    ValueError
        If no reader would take it: its header, all names and `metadata`, is larger than that of any safetensors file.
    """
    try:
        content: bytes = safetensors_bytes(dict(stored), dict(metadata))
    except SafetensorError as error:
        raise ValueError(f"{path}: cannot be a safetensors file ({error}){_SMALLER_HEADER}") from error
    if int.from_bytes(content[:_SIZE], "little") > _MOST_HEADER:  # which writers before 0.7 do not see
        raise ValueError(f"{path}: its header would have more than {_MOST_HEADER:,} bytes{_SMALLER_HEADER}")
    return content


def _as_stored(arrays: Mapping[str, HostArray], path: str | os.PathLike[str]) -> dict[str, HostArray]:
    """Return contiguous arrays in the native byte order, as a reader gets them, and so as their checksum is taken.

    Raises
    ------
    TypeError
        If a dtype is none of the format.
    ValueError
        If a name is that of the description there.
    """
    stored = {}
    if _METADATA in arrays:
        raise ValueError(
            f"{path}: {_METADATA} cannot be the name of an array in a safetensors file; give it another one"
        )
    for name, array in arrays.items():
        if array.dtype.kind not in "biufcV" or array.itemsize > 8:  # bfloat16 is of the kind V
            raise TypeError(
                f"{path}: {name} is {array.dtype}, and safetensors files hold numbers of at most 64 bits; cast it, for "
                "example to float64"
            )
        native = array.dtype.newbyteorder("=")
        stored[name] = np.ascontiguousarray(array, native).reshape(array.shape)
    return stored


# first bytes -> the format of files that are whole, but another library's
_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive, such as a .pth of PyTorch, an .npz or a .keras file",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, as Keras writes",
    b"\x93NUMPY": "an array in NumPy's format",
    b"\x1f\x8b": "compressed by gzip",
}


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
        return legacy_pickle.read(path), {}
    if path.suffix.lower() == ".onnx":
        raise ValueError(f"{path}: is an ONNX file by its name; xpdl.onnx.load reads it")
    for magic, what in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise ValueError(
                f"{path}: is {what}, not safetensors or a pickled dict of arrays; convert it where it was made: the "
                "safetensors package saves a state dict of PyTorch, which xpdl.load_pytorch reads"
            )
    return _read_safetensors(path)


def _read_safetensors(path: Path) -> tuple[dict[str, HostArray], dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            half = [name for name in file.keys() if file.get_slice(name).get_dtype() == "BF16"]  # noqa: SIM118  no dict
            arrays = {name: file.get_tensor(name) for name in file.keys() if name not in half}  # noqa: SIM118
        if half:
            arrays.update(_bfloat16(path, set(half)))
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedFileError(f"{path}: is not a readable safetensors file, or a damaged one ({error})") from error
    # any one of the keys shows whose file it is, so that damage to another does not switch the check off
    if metadata.get("format") == "xpdl" or {"sha256", "format_version", "xpdl_version"} & metadata.keys():
        _verify(path, arrays, metadata)
    return arrays, metadata


def _bfloat16(path: Path, names: set[str]) -> dict[str, HostArray]:
    """Tensors in bfloat16, which NumPy has not, as float32: the same values, whose lower 16 bits are zeros."""
    found = {}
    for name, tensor in deserialize(path.read_bytes()):  # type: ignore[no-untyped-call]
        if name in names:
            bits = np.frombuffer(tensor["data"], "<u2").astype(np.uint32) << 16
            found[name] = bits.view(np.float32).reshape(tensor["shape"])
    return found


def _verify(path: Path, arrays: dict[str, HostArray], metadata: dict[str, str]) -> None:
    expected = metadata.pop("sha256", None)
    if _checksum(arrays, metadata) != expected:
        raise DamagedFileError(
            f"{path}: is damaged: its content does not match its checksum; take another copy of the file"
        )
    version = metadata.get("format_version", "")
    if not re.fullmatch("[0-9]{1,9}", version):
        raise ValueError(f"{path}: its format is {version[:100]!r}, which is no number; take another copy of the file")
    if int(version) > FORMAT_VERSION:
        raise ValueError(
            f"{path}: was written by xpdl {metadata.get('xpdl_version')} in format {version}, and this "
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
