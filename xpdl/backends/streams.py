"""The device and stream that a thread works on, for another thread to work on them, too."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from xpdl.backends import availability


def of_this_thread() -> contextlib.AbstractContextManager[Any]:
    """A context for another thread, with the current device and stream of this one.

    CuPy keeps them for each thread, and arrays made on one stream are not ready on another. Of other libraries, nothing is
    changed.
    """
    cupy = sys.modules.get("cupy")
    if cupy is None or availability.cupy_problem():
        return contextlib.nullcontext()
    return _entered(cupy.cuda.Device(), cupy.cuda.get_current_stream())


@contextlib.contextmanager
def _entered(device: Any, stream: Any) -> Iterator[None]:
    with device, stream:
        yield
