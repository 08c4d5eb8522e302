"""One at a time: locks that the system takes back from a process that ends, however it does."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
# open lock files of this process
_held: set[IO[bytes]] = set()
_UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextlib.contextmanager
def locked(path: Path, in_use: str | None = None) -> Iterator[None]:
    """Hold the lock of the file `path`, which is made for it and removed again; processes and threads are shut out alike.

    A process that is forked meanwhile does not hold it, and removes nothing. A file that a killed process left is taken
    over. Where the file system has no locks, a warning says so, and there is none.

    Parameters
    ----------
    path : Path
    in_use : str, optional
        The message of an error where another holds it; by default, its end is waited for.

    Raises
    ------
    BlockingIOError
        If another holds it, with the message `in_use`.
    OSError
        If the file cannot be made.
    """
    while True:
        file = path.open("ab")
        _held.add(file)
        try:
            _take(file, in_use)
            # the one before may have removed it meanwhile, so that others come to lock a new one
            if _is_at(file, path):
                break
        except BaseException:
            _close(file)
            raise
        _close(file)
    try:
        yield
    finally:
        # not in a forked process, which has closed it
        if file in _held:
            # still locked, or it would be another's file; Windows removes none that is open
            if sys.platform != "win32":
                _remove(file, path)
            _close(file)
            if sys.platform == "win32":
                with contextlib.suppress(OSError):  # another has opened it
                    path.unlink()


def _close(file: IO[bytes]) -> None:
    _held.discard(file)
    file.close()


def _after_fork() -> None:
    """Leave the locks to the parent: a child that still had the files open would hold them when the parent has ended."""
    while _held:
        _held.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _take(file: IO[bytes], in_use: str | None) -> None:
    while True:
        try:
            if sys.platform == "win32":
                import msvcrt

                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK if in_use else msvcrt.LK_LOCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if in_use else 0))
            return
        except OSError as error:
            if error.errno in _UNKNOWN:
                warnings.warn(
                    f"{file.name}: this file system has no locks; see to it that no other process writes there",
                    stacklevel=4,
                )
                return
            if error.errno not in _TAKEN:
                raise
            if in_use:
                raise BlockingIOError(in_use) from None
            # Windows gives up after ten seconds


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _remove(file: IO[bytes], path: Path) -> None:
    # closing unlocks it; where it stays, as in a folder that was moved away, it does no harm
    with contextlib.suppress(OSError):
        if _is_at(file, path):
            path.unlink()
