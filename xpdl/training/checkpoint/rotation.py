"""The files of a run: the newest checkpoint, and those before it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xpdl.io import atomic, json_text, tensors
from xpdl.io.file_lock import locked
from xpdl.io.os_errors import in_words
from xpdl.io.paths import beside
from xpdl.training.checkpoint.format import load, save
from xpdl.training.messages import warn
from xpdl.training.run_state import Run, RunState


class CheckpointFiles:
    """Writes the newest checkpoint to one path, and keeps those before it beside it, as ``PATH.1``, ``PATH.2`` and so on.

    Parameters
    ----------
    path : path
    max_checkpoints : int
        So many files are kept.

    Attributes
    ----------
    notes : dict
        Plain values of the program that trains, which are written into each file; see `read_notes`.
    """

    def __init__(self, path: str | os.PathLike[str], max_checkpoints: int) -> None:
        self.path, self.max_checkpoints = Path(path), max_checkpoints
        self.notes: dict[str, Any] = {}
        # a damaged file is written over: in the place of an older one it would be of no use
        self._newest_is_whole = False
        self._holder: int | None = None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes and trainers from the files; once held, it may be entered again.

        Raises
        ------
        BlockingIOError
            If another does.
        OSError
            If nothing can be written there.
        """
        if self._holder == os.getpid():
            yield
            return
        atomic.prepare_to_write(self.path)
        real = Path(os.path.realpath(self.path))
        in_use = f"{self.path}: another run is training with this checkpoint; wait until it ends, or write elsewhere"
        with locked(beside(real, ".", ".lock"), in_use):
            atomic.remove_partial(self.path)
            self._holder = os.getpid()
            try:
                yield
            finally:
                self._holder = None

    def exist(self) -> bool:
        """Return whether there is a checkpoint to resume from."""
        return any(path.exists() for path in self._paths())

    def write(self, run: Run, state: RunState) -> bool:
        """Write one. Where that fails, as on a full disk, warn and answer False: the files there are remain as they are.

        Raises
        ------
        RuntimeError
            In a process that was forked from the one that holds the files.
        """
        if self._holder not in (None, os.getpid()):
            raise RuntimeError(
                f"{self.path}: a forked process cannot go on with its parent's training, which writes there"
            )
        try:
            save(run, state, self.path, before_replacing=self._rotate, notes=self.notes)
        except OSError as error:
            warn(f"no checkpoint was written after step {state.step}: {in_words(error)}")
            return False
        self._newest_is_whole = True
        return True

    def read(self, run: Run, state: RunState) -> Path:
        """Load the newest whole one into `run` and `state`, with a warning for each that is not, and name it.

        Raises
        ------
        ValueError
            If none is whole, or one is of another run, a later format, or no checkpoint at all.
        OSError
            If none can be read.
        """
        failures: list[Exception] = []
        for path in filter(Path.exists, self._paths()):
            try:
                load(run, state, path)
            except (tensors.DamagedFileError, OSError) as error:
                failures.append(error)
                continue
            for failure in failures:
                warn(f"{failure}; going on from {path}")
            self._newest_is_whole = path == self.path
            return path
        raise failures[0]

    def read_notes(self) -> dict[str, Any]:
        """Return the `notes` in the newest file that is whole; none of a file of an earlier version."""
        for path in filter(Path.exists, self._paths()):
            with contextlib.suppress(ValueError, OSError):  # `read` says what is wrong with it
                return dict(json_text.loads(tensors.load_arrays(path)[1].get("notes", "{}")))
        return {}

    def set_aside(self) -> Path | None:
        """Rename all of them after ``PATH.old``, in the place of what lies there, and give that name; None without any."""
        if not self.exist():
            return None
        old = CheckpointFiles(beside(self.path, "", ".old"), self.max_checkpoints)
        old.remove()
        for number, path in enumerate(self._paths()):
            if path.exists():
                os.replace(path, old._before(number) if number else old.path)
        return old.path

    def remove(self) -> None:
        """Remove all of them."""
        for path in self._paths():
            path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        """List the files from the newest on, as far as they are in a row; the newest may be missing, see `_rotate`."""
        paths = [self.path, self._before(1)]
        while (further := self._before(len(paths))).exists():
            paths.append(further)
        return paths

    def _before(self, number: int) -> Path:
        return beside(self.path, "", f".{number}")

    def _rotate(self) -> None:
        """Make room at `path`. Killed between two of these, a run has its newest file under the next name."""
        if not self._newest_is_whole:
            return
        for number in range(self.max_checkpoints - 1, 0, -1):
            older = self.path if number == 1 else self._before(number - 1)
            if older.exists():
                os.replace(older, self._before(number))
