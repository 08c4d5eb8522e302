"""Arrays in files: written whole or not at all, and read only if nothing in them has changed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save as safetensors_bytes

from xpdl import pickles
from xpdl.version import __version__

#: of the files `write_tensors` makes; a reader refuses what is newer than itself
FORMAT_VERSION = 1

HostArray = np.ndarray[Any, Any]


class DamagedFileError(ValueError):
    """A file that is not, or no longer, what a writer of this library made."""


def write_atomically(
    path: str | os.PathLike[str], data: bytes | bytearray, before_replacing: Callable[[], None] | None = None
) -> None:
    """Make `data` the content of the file `path`; whatever happens meanwhile, the file is the old one or the new one.

    `before_replacing` is called once the new file is on the disk and before it takes the place of the old one.

    Raises
    ------
    OSError
        If it cannot be written: no such folder, no permission, disk full.
    """
    path = Path(os.path.realpath(path))  # through a link, to the file it names
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; make it first")
    if is_special(path):
        raise OSError(errno.EINVAL, "is a device or a pipe, which a new file would replace; name a file", str(path))
    handle, temporary = _new_file_beside(path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if before_replacing is not None:
            before_replacing()
        os.replace(temporary, path)
    except BaseException as error:
        # interrupted just after it took the other's place, it is no longer under this name
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None:
            # a full disk comes without a name, and nobody has heard of the temporary file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    sync_folder(path.parent)


def append(path: str | os.PathLike[str], data: bytes, *, sync: bool = False) -> None:
    """Add `data` to the end of the file `path`, all of it or nothing: what a full disk took of it is removed again.

    Parameters
    ----------
    path : path
        Made where it does not exist. A pipe that nobody reads is an error.
    data : bytes
    sync : bool
        Return only when it is on the disk.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags, 0o666)
    try:
        size = os.fstat(handle).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(handle, rest) :]
            if sync:
                os.fsync(handle)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, size)
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(handle)


def is_special(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is there and neither a file nor a folder: ``/dev/stdout``, a pipe."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Wait until the names in a folder are on the disk: a file that was renamed there has its new name for good.

    Where the file system cannot do that for folders, or this one may not be opened, nothing is waited for.
    """
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders, and keeps their names itself
        return
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):
            raise


def prepare_to_write(path: str | os.PathLike[str]) -> None:
    """Try whether `write_atomically` can make the file `path`.

    Raises
    ------
    OSError
        If it cannot: the path is a folder, its own folder does not exist, or nothing can be written there.
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; make it first")
    if is_special(path):
        raise OSError(errno.EINVAL, "is a device or a pipe, which a new file would replace; name a file", str(path))
    handle, temporary = _new_file_beside(path)
    os.close(handle)
    os.unlink(temporary)


def remove_partial(path: str | os.PathLike[str]) -> None:
    """Remove what `write_atomically` left beside `path` where it was killed; nobody may be writing there."""
    path = Path(os.path.realpath(path))
    # the names of `_new_file_beside`
    partial = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8,16}}\.part")
    for file in path.parent.iterdir():
        if partial.fullmatch(file.name):
            file.unlink()


def _new_file_beside(path: Path) -> tuple[int, Path]:
    """An open file of a new name in the folder of `path`: a rename is atomic within one file system only.

    It has the rights of an ordinary file, unlike those of `tempfile.mkstemp`, which are for their owner alone.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    return os.open(temporary, flags, 0o666), temporary


def write_tensors(
    path: str | os.PathLike[str],
    arrays: Mapping[str, HostArray],
    metadata: Mapping[str, str] | None = None,
    before_replacing: Callable[[], None] | None = None,
) -> None:
    """Write named host arrays to a safetensors file, atomically, with a checksum of them and of `metadata`.

    `before_replacing` is as for `write_atomically`.
    """
    stored = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    header = {
        **(metadata or {}),
        "format": "xpdl",
        "format_version": str(FORMAT_VERSION),
        "xpdl_version": __version__,
    }
    header["sha256"] = _checksum(stored, header)
    write_atomically(path, safetensors_bytes(stored, header), before_replacing)


def write_plain_tensors(
    path: str | os.PathLike[str], arrays: Mapping[str, HostArray], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file for another library's reader, atomically, without a checksum."""
    stored = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    write_atomically(path, safetensors_bytes(stored, dict(metadata)))


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
        return pickles.read(path), {}
    for magic, what in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise ValueError(
                f"{path}: is {what}, not safetensors or a pickled dict of arrays; convert it where it was made: the "
                "safetensors package saves a state dict of PyTorch"
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
