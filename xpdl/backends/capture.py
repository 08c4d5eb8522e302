"""Steps that are compiled as a whole: a GPU repeats what it recorded, by one launch; JAX compiles what it traced."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

from xpdl.backends import Backend
from xpdl.errors import BackendError

Words = tuple[int, ...]

# library -> the module whose function ``compiler(device)`` compiles its steps
_MODULES = {"cupy": "xpdl.backends.cupy.capture", "jax": "xpdl.backends.jax.compiler"}


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

    traces_steps: Literal[False]
    #: steps that are made before one is recorded
    warm_up: int

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


class Compiled(Protocol):
    """A function that was compiled; see `xpdl.backends.jax.compiler.Compiled`."""

    @property
    def traces(self) -> int: ...

    def trace(self, *arguments: Any) -> None:
        """Call the function with stand-ins for these arguments."""

    def __call__(self, *arguments: Any) -> Any:
        """Compute it."""


class Compiler(Protocol):
    """Compiles steps as functions of all that they change."""

    traces_steps: Literal[True]
    warm_up: int

    def alike(self) -> AbstractContextManager[None]:
        """Run the kernels of a compiled step inside."""

    def compiled(self, body: Callable[..., Any]) -> Compiled:
        """Return a function that was not traced yet."""


def compiler_for(backend: Backend, owner: str) -> Recorder | Compiler:
    """Return what records or compiles steps for the device of `backend`.

    Raises
    ------
    BackendError
        If the library does neither.
    """
    if backend.name not in _MODULES:
        raise BackendError(
            f"{owner}: steps are compiled with CuPy (a CUDA graph) and with JAX (jax.jit), and the network is of "
            f'{backend.name}: leave out compile=True, or call xpdl.use("cupy") or xpdl.use("jax") before the network is made'
        )
    return importlib.import_module(_MODULES[backend.name]).compiler(backend.device)
