"""The choice of the way that arrays of a GPU take to other ranks, by what all ranks have."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any, NamedTuple

from xpdl.backends import Backend
from xpdl.backends.namespaces import is_host
from xpdl.backends.staging import gpu_messages
from xpdl.distributed import cuda_aware, nccl
from xpdl.distributed.compression import FORMS
from xpdl.distributed.shared_memory import SharedMemoryTransport, can_share
from xpdl.distributed.transports import HostTransport, Transport

#: values of the option `transport`
TRANSPORTS = ("auto", "nccl", "cuda-aware", "staged")


class Site(NamedTuple):
    """The GPU of a rank, and what there is to reach it.

    Attributes
    ----------
    machine, uuid, bus : str
        Of the GPU: its machine, its UUID, its place on the PCI bus there.
    nccl, no_nccl : str
        The version of NCCL, or why there is none.
    no_cuda_aware : str
        Why the MPI library does not take device memory, "" where it does.
    """

    machine: str
    uuid: str
    bus: str
    nccl: str
    no_nccl: str
    no_cuda_aware: str


def connect(ranks: Any, backend: Backend) -> Transport:
    """Return the way of a backend's arrays to the other ranks, by the option `transport`; all ranks call it together.

    Parameters
    ----------
    ranks : MPICommunicator
    backend : Backend

    Raises
    ------
    ValueError
        On all ranks, if the way that was asked for is none here.
    """
    gpu, wanted, form = gpu_messages(backend), ranks.transport, FORMS[ranks.compression]
    if gpu is None:
        if wanted != "auto":
            raise ValueError(
                f"mpi: transport={wanted!r} is a way of CuPy's arrays, got arrays of {backend.name}; leave it out"
            )
        shares = ranks.on_one_machine and ranks.compression is None and is_host(backend.asarray([0.0]))
        return SharedMemoryTransport(ranks, backend) if shares and can_share(ranks) else HostTransport(ranks, backend)
    if wanted == "staged":
        return HostTransport(ranks, backend, "as asked for")
    sites = ranks.allgather(site(ranks.mpi, gpu, backend))
    reasons = []
    if wanted in ("auto", "nccl"):
        made = why_no_nccl(sites) or nccl.connected(ranks, backend, form)
        if not isinstance(made, str):
            return made
        reasons.append(made)
    if wanted in ("auto", "cuda-aware"):
        reason = why_not_cuda_aware(sites)
        if not reason:
            return cuda_aware.CUDAAwareTransport(ranks, backend, form, "; ".join(reasons))
        reasons.append(reason)
    if wanted != "auto":
        raise ValueError(f"mpi: transport={wanted!r} cannot be used: {reasons[0]}; leave it out to take another way")
    return HostTransport(ranks, backend, "; ".join(reasons))


def site(mpi: Any, gpu: Any, backend: Backend) -> Site:
    """Describe this rank's GPU."""
    uuid, bus = gpu.gpu_id(backend.device)
    version, no_nccl = gpu.availability()
    return Site(platform.node(), uuid, bus, version, no_nccl, cuda_aware.missing(mpi))


def why_no_nccl(sites: Sequence[Site]) -> str:
    """Return why the ranks cannot use NCCL, "" where they can."""
    for rank, own in enumerate(sites):
        if own.no_nccl:
            return f"no NCCL on rank {rank}: {own.no_nccl}"
        if own.nccl != sites[0].nccl:
            return f"rank {rank} has NCCL {own.nccl}, rank 0 {sites[0].nccl}"
        for other, before in enumerate(sites[:rank]):
            if own.uuid == before.uuid or (own.machine, own.bus) == (before.machine, before.bus):
                return (
                    f"NCCL needs a GPU for each rank, and ranks {other} and {rank} share one, {own.bus} of {own.machine}: "
                    "xpdl.use(..., device=communicator.local_rank) gives each its own"
                )
    return ""


def why_not_cuda_aware(sites: Sequence[Site]) -> str:
    """Return why the MPI library does not take device memory, "" where it does on all ranks."""
    return next((f"rank {rank}: {own.no_cuda_aware}" for rank, own in enumerate(sites) if own.no_cuda_aware), "")
