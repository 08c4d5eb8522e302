"""Steps that a GPU repeats as a whole: recorded once, and then started by one launch instead of one for each kernel."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from xpdl.backends import Backend
from xpdl.errors import BackendError

Words = tuple[int, ...]


class Recording(Protocol):
    """A recorded step.

    Attributes
    ----------
    result
        What `body` returned: arrays in it have new values after each repetition.
    numbers : set of str
        The numbers of an optimizer's rule that each repetition is given.
    masks : set of tuple of int
        Streams of the dropout masks that each repetition draws anew.
    """

    result: Any

    @property
    def numbers(self) -> set[str]: ...

    @property
    def masks(self) -> set[Words]: ...

    def launch(self, numbers: Mapping[str, float], counters: Mapping[Words, int]) -> None:
        """Repeat it, on the current stream, with these numbers, and masks from these counters of their streams on."""


class Recorder(Protocol):
    """Records steps on one device."""

    def alike(self) -> AbstractContextManager[None]:
        """Run the kernels of a recorded step inside: results are bitwise identical."""

    def record(self, body: Callable[[], Any]) -> Recording:
        """Call `body` and keep what it asks of the device, which computes nothing yet.

        Every kernel of it must have run before. What it allocates is used again by each repetition.

        Raises
        ------
        RuntimeError
            If it reads values on the host, copies arrays from it, or asks for what cannot be recorded.
        MemoryError
            If the device has not the memory of one more step.
        """


def recorder(backend: Backend) -> Recorder:
    """Return the recorder of steps for the device of `backend`; `BackendError` where there is none."""
    if backend.name != "cupy":
        raise BackendError(
            f"steps are captured on a GPU by CuPy, and the network is of {backend.name}: leave out compile=True, or call "
            'xpdl.use("cupy") before the network is made'
        )
    return importlib.import_module("xpdl.backends.cupy.capture").Recorder(backend.device)
