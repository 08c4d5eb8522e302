"""Ranks on the GPUs that hostcuda emulates, which make progress when they are asked, and NCCL or MPI between them."""

from __future__ import annotations

from typing import Any

import pytest

import xpdl
from tests.distributed import nccl_stand_in
from xpdl.distributed import MPICommunicator, cuda_aware

#: buckets of two layers or three, in most networks
OPTIONS: dict[str, Any] = {"timeout": 60, "bucket_bytes": 200}


def ranks(transport: str, patch: pytest.MonkeyPatch | None = None, **options: Any) -> Any:
    """Return the ranks of ``mpiexec`` for CuPy's arrays, with the stand-in for NCCL where that is asked for."""
    patch = patch or pytest.MonkeyPatch()
    if transport == "nccl":
        install_nccl(patch)
    if transport == "cuda-aware":  # the memory of such a GPU is the host's: any MPI library takes it
        patch.setattr(cuda_aware, "missing", lambda mpi: "")
    return xpdl.distributed.mpi(**{**OPTIONS, "transport": transport, **options})


def install_nccl(patch: pytest.MonkeyPatch) -> None:
    """Let NCCL be the stand-in."""
    nccl_stand_in.install()
    let_gpus_go_on(patch)


def let_gpus_go_on(patch: pytest.MonkeyPatch) -> None:
    """Finish all work of the GPU before a wait for messages, as others may wait for that work meanwhile."""
    import cupy

    wait = MPICommunicator._wait

    def wait_and_work(self: Any, request: Any) -> None:
        cupy.cuda.Device().synchronize()
        wait(self, request)

    patch.setattr(MPICommunicator, "_wait", wait_and_work)
