"""Wrong orders of the work on a GPU and the messages of MPI."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

FAULTS = [
    "messages do not wait for the lane",
    "messages do not wait for the computation",
    "buffers do not wait for copies",
]


@contextlib.contextmanager
def planted(what: str) -> Iterator[None]:
    """Do something wrong inside."""
    from xpdl.backends.cupy import lane
    from xpdl.distributed import cuda_aware

    @contextlib.contextmanager
    def no_wait(self: cuda_aware.OnDevice) -> Iterator[None]:
        with self.lane.alone():
            yield

    owner: Any
    owner, name, instead = {
        "messages do not wait for the lane": (cuda_aware.OnDevice, "working", no_wait),
        "messages do not wait for the computation": (lane.Lane, "wait_for_compute", lambda self: None),
        "buffers do not wait for copies": (lane.SyncedBuffer, "wait", lambda self: None),
    }[what]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, instead)
        yield
