"""Files of a trained network, which a full disk does not lose."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from xpdl.io.os_errors import in_words

Write = Callable[[Path], None]


def save_all(writers: Mapping[str, Write], folder: Path) -> Path:
    """Write files by name to `folder`, or else to a new folder elsewhere, with a warning, and return the folder.

    Raises
    ------
    OSError
        If they can be written nowhere.
    """
    try:
        _write(writers, folder)
        return folder
    except OSError as error:
        reason = in_words(error)
    for other in _other_folders():
        with contextlib.suppress(OSError):
            made = Path(tempfile.mkdtemp(prefix="xpdl-", dir=other))
            try:
                _write(writers, made)
            except OSError:
                _remove(made)
                raise
            print(f"xpdl train: warning: {reason}; the network is in {made}", file=sys.stderr, flush=True)
            return made
    raise OSError(f"{reason}; it could be written nowhere else either: --resume does, once there is room")


def _write(writers: Mapping[str, Write], folder: Path) -> None:
    for name, write in writers.items():
        write(folder / name)


def _other_folders() -> Iterator[Path]:
    """Places where there may be room: each is of the user, or kept in memory."""
    yield Path.cwd()
    with contextlib.suppress(RuntimeError):  # nobody has a home here
        yield Path.home()
    yield Path(tempfile.gettempdir())
    yield Path("/dev/shm")


def _remove(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
