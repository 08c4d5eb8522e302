"""Compiled functions in files, so that a later process need not compile them.

Numba's own cache believes what it reads, keeps an index that two processes may write at the same time, takes another folder
where it may not write to the one it is told, and looks at the file of a function, not of the functions that it calls.
Here a file is the code for one signature, named by all that this code depends on, and with a checksum: a function whose
file is damaged, half written or of another version is compiled anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from xpdl.io.paths import cache_dir

_CHECKSUM = hashlib.sha256


@functools.cache
def folder() -> Path | None:
    """Return the folder of compiled code of these sources, NumPy and Numba; None where none is writable."""
    try:
        root = cache_dir()
        sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    except (OSError, RuntimeError):  # sources that may not be read; a user who is in no list of users, without HOME
        return None
    if not sources:  # in an archive
        return None
    libraries = np.__version__, repr(np.show_config(mode="dicts")), numba.__version__, llvmlite.__version__
    version = hashlib.sha256(repr((*libraries, sys.version_info[:2])).encode())
    for source in sources:
        version.update(source)
    return root / "compiled" / version.hexdigest()[:16]


def writable() -> bool:
    """Return whether a later process will find what this one compiles."""
    here = folder()
    there = next((path for path in (here, *here.parents) if path.exists()), None) if here else None
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)


@functools.cache  # once a process
def announce() -> None:
    """Say on a terminal that kernels are compiled, where nothing is cached yet: it takes seconds, without a sign of life."""
    here = folder()
    try:
        if here is not None and here.is_dir() and any(here.iterdir()):
            return
        if sys.stderr is not None and sys.stderr.isatty():
            unless = "every process does, unless XPDL_CACHE names a folder to write to"
            later = f"later processes find them in {here}" if writable() else unless
            print(f"xpdl: compiling kernels, which takes seconds; {later}", file=sys.stderr, flush=True)
    except (OSError, ValueError):  # no terminal any more, or closed; a folder that nobody may read
        return


class Cache:
    """Cache that Numba asks for a function's code before it compiles; as the classes of `numba.core.caching`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.cache_path = str(folder())

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The compiled function for a signature, or None."""
        target.refresh()
        path = self._path(signature, target.codegen())
        try:
            content = path.read_bytes() if path is not None else b""
        except OSError:  # not compiled yet, or nobody may read it
            content = b""
        size = _CHECKSUM().digest_size
        checksum, code = content[:size], content[size:]
        if _CHECKSUM(code).digest() != checksum:
            announce()
            return None
        return CompileResult._rebuild(target, *pickle.loads(code))

    def save_overload(self, signature: Any, result: Any) -> None:
        """Write a file, where that can be done: a disk may be full, or not be ours."""
        path = self._path(signature, result.codegen)
        if path is None or result.library.has_dynamic_globals:
            return
        code = dumps(result._reduce())
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            # complete before it has its name: other processes read and write here
            part = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
            try:
                part.write_bytes(_CHECKSUM(code).digest() + code)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    def _path(self, signature: Any, codegen: Any) -> Path | None:
        here = folder()
        # the kind of processor, too: a home may be shared between machines
        key = repr((str(signature), codegen.magic_tuple(), _described(self._function)))
        name = f"{self._function.__module__.rpartition('.')[2]}.{self._function.__name__}"
        return here and here / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:24]}"


def _described(value: Any) -> Any:
    """A function's place in the sources, the values it was made with and the numbers it reads; any other value itself."""
    function = getattr(value, "py_func", value)
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(value)
    made_with = [_described(cell.cell_contents) for cell in function.__closure__ or ()]
    # numbers of the module become part of the code; a test may have set others
    numbers = {name: function.__globals__.get(name) for name in code.co_names}
    constants = sorted((name, repr(number)) for name, number in numbers.items() if isinstance(number, (int, float)))
    return function.__module__, function.__qualname__, code.co_firstlineno, made_with, constants
