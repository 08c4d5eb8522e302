"""Atomic writing of files: a reader finds the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from xpdl.io.paths import beside


def write_atomically(
    path: str | os.PathLike[str], data: bytes | bytearray, before_replacing: Callable[[], None] | None = None
) -> None:
    """Make `data` the content of the file `path`; whatever happens meanwhile, the file is the old one or the new one.

    `before_replacing` is called once the new file is on the disk and before it replaces the old one.

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
    """Return whether `path` is there and neither a file nor a folder: ``/dev/stdout``, a pipe."""
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
    for file in path.parent.iterdir():
        # the names of `_new_file_beside`, and shorter ones of earlier versions
        ending = re.search(r"\.[a-z0-9_]{8,16}\.part$", file.name)
        if ending is not None and file == beside(path, ".", ending[0]):
            file.unlink()


def _new_file_beside(path: Path) -> tuple[int, Path]:
    """An open file of a new name in the folder of `path`: a rename is atomic within one file system only.

    It has the rights of an ordinary file, unlike those of `tempfile.mkstemp`, which are for their owner alone; where there
    is a file already, others get no more than that gives them.
    """
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode) & 0o777 | 0o600
    except FileNotFoundError:
        mode = 0o666
    temporary = beside(path, ".", f".{secrets.token_hex(8)}.part")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    return os.open(temporary, flags, mode), temporary
