"""Untrusted ONNX files: the graph and its constants, in memory bounded by the size of the files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, numpy_helper

from xpdl.io.atomic import is_special

HostArray = np.ndarray[Any, Any]

_MOST_BYTES = 2**31 - 1  # protobuf reads no larger message
# constants of a file and what is computed from them, beside their size in the file: each is read, transposed and copied
_TIMES, _FREE = 6, 2**24
_ITEM_SIZES = {
    TensorProto.FLOAT: 4,
    TensorProto.DOUBLE: 8,
    TensorProto.FLOAT16: 2,
    TensorProto.BFLOAT16: 2,
    TensorProto.INT8: 1,
    TensorProto.UINT8: 1,
    TensorProto.INT16: 2,
    TensorProto.INT32: 4,
    TensorProto.INT64: 8,
    TensorProto.BOOL: 1,
}
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)


class Damaged(Exception):
    """A file that is no ONNX file, or one that contradicts itself."""


class Unmapped(Exception):
    """Something in a valid file for which xpdl has no layer: the reason, and perhaps a cure."""

    def __init__(self, reason: str, cure: str = "") -> None:
        super().__init__(reason)
        self.reason, self.cure = reason, cure


def read_model(path: Path) -> ModelProto:
    """Parse a file; `Damaged` where it is none."""
    if is_special(path):
        raise Damaged("it is a device or a pipe")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > _MOST_BYTES:
            raise Damaged(f"it has {size:,} bytes, and one of more than 2 GiB keeps its tensors in other files")
        data = file.read(size)
    proto = ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise Damaged(str(error)) from None
    if not proto.HasField("graph"):
        raise Damaged("there is no graph in it")
    return proto


class Memory:
    """Bytes that the constants of a file may take, in proportion to the bytes that were read."""

    def __init__(self, size: int) -> None:
        self._left = _TIMES * size + _FREE
        self._files: set[Path] = set()

    def add_file(self, path: Path, size: int) -> None:
        """Allow for a further file; once, however often it is named."""
        if path not in self._files:
            self._files.add(path)
            self._left += _TIMES * size

    def take(self, size: int) -> None:
        """Count bytes before they are allocated."""
        self._left -= size
        if self._left < 0:
            raise Damaged("its constants take more memory than the size of the file accounts for")


class Constants:
    """Tensors of a file as arrays, each read when it is used.

    Parameters
    ----------
    folder : Path
        Of the file; external data lie in it.
    memory : Memory
    tensors : iterable of onnx.TensorProto
        The initializers.
    """

    def __init__(self, folder: Path, memory: Memory, tensors: Iterable[TensorProto]) -> None:
        self.memory = memory
        self._folder = folder
        self._tensors = {tensor.name: tensor for tensor in tensors}
        self._read: dict[str, HostArray] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> HostArray:
        if name not in self._read:
            self._read[name] = self.array(self._tensors[name])
        return self._read[name]

    def array(self, tensor: TensorProto) -> HostArray:
        """Return the values of a tensor; read-only."""
        dims = tuple(tensor.dims)
        if any(size < 0 for size in dims):
            raise Damaged(f"the tensor {short(tensor.name)} has the shape {dims[:8]}")
        if tensor.data_type not in _ITEM_SIZES:
            raise Unmapped(f"the tensor {short(tensor.name)} is of type {type_name(tensor.data_type)}")
        size = math.prod(dims) * _ITEM_SIZES[tensor.data_type]
        if tensor.data_location == TensorProto.EXTERNAL:
            tensor = self._external(tensor, size)
        if tensor.HasField("raw_data") and len(tensor.raw_data) != size:
            raise Damaged(f"the tensor {short(tensor.name)} of shape {dims[:8]} has {len(tensor.raw_data):,} bytes")
        self.memory.take(size)
        try:
            array: HostArray = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, OverflowError) as error:
            raise Damaged(f"the tensor {short(tensor.name)}: {error}") from None
        return array

    def _external(self, tensor: TensorProto, size: int) -> TensorProto:
        """Return a copy that has the bytes in it."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        what = f"the tensor {short(tensor.name)} in {short(entries.get('location', ''))}"
        path = self._inside(entries.get("location", ""), what)
        try:
            offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(size)))
        except ValueError:
            raise Damaged(f"{what}: offset and length are no numbers") from None
        with path.open("rb") as file:
            whole = os.fstat(file.fileno()).st_size
            if length != size or offset < 0 or offset + size > whole:
                raise Damaged(f"{what}: {size:,} bytes from {offset:,} on are not in a file of {whole:,}")
            self.memory.add_file(path, whole)
            self.memory.take(size)
            file.seek(offset)
            raw = file.read(size)
        return TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type, raw_data=raw)

    def _inside(self, location: str, what: str) -> Path:
        """Return the path of a regular file in the folder, also after all links."""
        folder = self._folder.resolve()
        try:
            path = (folder / location).resolve()
            is_file = path.is_file()
        except (OSError, ValueError, RuntimeError):  # a name too long or with a zero in it, links in a circle
            raise Damaged(f"{what}: no such file") from None
        if Path(location).is_absolute() or folder not in path.parents:
            raise Damaged(f"{what}: external data must lie in the folder of the file, {folder}")
        if not is_file:
            raise Damaged(f"{what}: no such file in {folder}; keep it beside the ONNX file")
        return path


def type_name(data_type: int) -> str:
    """Return the name of a type of tensors."""
    known = data_type in TensorProto.DataType.values()
    return TensorProto.DataType.Name(data_type).lower() if known else f"{data_type}, which there is not"


def short(name: str) -> str:
    """Return a name of a file for a message: quoted, and cut."""
    return repr(name if len(name) <= 60 else f"{name[:57]}...")
