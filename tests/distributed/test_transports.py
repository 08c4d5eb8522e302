"""The choice of the way that a GPU's arrays take, by what the ranks have; see test_nccl.py for what is sent."""

from __future__ import annotations

import dataclasses
import importlib
import re
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import xpdl
from xpdl.distributed import Communicator, choice, cuda_aware, nccl
from xpdl.distributed.choice import Site, why_no_nccl, why_not_cuda_aware
from xpdl.distributed.compression import FORMS, Form
from xpdl.distributed.cuda_aware import CUDAAwareTransport
from xpdl.distributed.nccl import NCCLTransport
from xpdl.distributed.transports import HostTransport

SITES = [Site("node1", f"0{rank}", f"0000:0{rank}:00", "2.25.1", "", "") for rank in range(3)]


class Ranks(Communicator):
    """Ranks of which each knows what all have; this is rank 0."""

    def __init__(self, sites: list[Site], transport: str, way: Any = "") -> None:
        self.size, self.transport, self.sites, self.way = len(sites), transport, sites, way
        self.mpi: Any = None
        self.compression: str | None = None

    def allgather(self, value: Any) -> list[Any]:
        return self.sites


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({2: {"nccl": "", "no_nccl": "CuPy finds no NCCL library"}}, "no NCCL on rank 2: CuPy finds no NCCL library"),
        ({1: {"nccl": "2.18.1"}}, "rank 1 has NCCL 2.18.1, rank 0 2.25.1"),
        # containers have machine names of their own
        (
            {2: {"uuid": "00", "machine": "other"}},
            "NCCL needs a GPU for each rank, and ranks 0 and 2 share one, 0000:02:00 of other: ",
        ),
        # parts of one GPU have UUIDs of their own
        (
            {1: {"bus": "0000:02:00"}},
            "NCCL needs a GPU for each rank, and ranks 1 and 2 share one, 0000:02:00 of node1: ",
        ),
        ({1: {"machine": "node2", "bus": "0000:00:00"}}, ""),
    ],
)
def test_nccl_needs_one_version_and_a_gpu_for_each_rank(changes: dict[int, dict[str, str]], reason: str) -> None:
    sites = [site._replace(**changes.get(rank, {})) for rank, site in enumerate(SITES)]
    found = why_no_nccl(sites)
    assert found.startswith(reason) and bool(found) == bool(reason)


def test_all_ranks_need_an_mpi_library_that_takes_device_memory() -> None:
    assert why_not_cuda_aware(SITES) == ""
    sites = [SITES[0], SITES[1]._replace(no_cuda_aware="the MPI library takes no device memory"), SITES[2]]
    assert why_not_cuda_aware(sites) == "rank 1: the MPI library takes no device memory"


#: (transport, NCCL there, it starts, CUDA-aware MPI there) -> the way and why, or the error
WAYS = [
    ("auto", True, True, True, "nccl"),
    ("auto", True, True, False, "nccl"),
    ("nccl", True, True, False, "nccl"),
    ("auto", False, True, True, "cuda-aware (no NCCL on rank 0: none)"),
    ("auto", True, False, True, "cuda-aware (it does not start)"),
    ("cuda-aware", True, True, True, "cuda-aware ()"),
    ("auto", False, True, False, "staged through pinned memory of the host (no NCCL on rank 0: none; rank 0: no)"),
    ("auto", True, False, False, "staged through pinned memory of the host (it does not start; rank 0: no)"),
    ("staged", True, True, True, "staged through pinned memory of the host (as asked for)"),
    ("nccl", False, True, True, "mpi: transport='nccl' cannot be used: no NCCL on rank 0: none; leave it out"),
    ("nccl", True, False, True, "mpi: transport='nccl' cannot be used: it does not start; leave it out"),
    ("cuda-aware", True, True, False, "mpi: transport='cuda-aware' cannot be used: rank 0: no; leave it out"),
]


@pytest.mark.parametrize(("transport", "has_nccl", "starts", "aware", "expected"), WAYS)
def test_way_is_the_first_that_can_be_used_and_says_why(
    monkeypatch: pytest.MonkeyPatch, transport: str, has_nccl: bool, starts: bool, aware: bool, expected: str
) -> None:
    change = {"nccl": "2.25.1" if has_nccl else "", "no_nccl": "" if has_nccl else "none"}
    ranks = Ranks([site._replace(no_cuda_aware="" if aware else "no", **change) for site in SITES], transport)
    started = types.SimpleNamespace(describe=lambda: "nccl")
    monkeypatch.setattr(choice, "gpu_messages", lambda backend: object())
    monkeypatch.setattr(choice, "site", lambda mpi, gpu, backend: SITES[0])
    monkeypatch.setattr(nccl, "connected", lambda ranks, backend, form: started if starts else "it does not start")
    monkeypatch.setattr(
        cuda_aware,
        "CUDAAwareTransport",
        lambda ranks, backend, form, reason: types.SimpleNamespace(describe=lambda: f"cuda-aware ({reason})"),
    )
    backend = dataclasses.replace(xpdl.get_backend(), name="cupy")
    if expected.startswith("mpi:"):
        with pytest.raises(ValueError) as error:
            choice.connect(ranks, backend)
        assert str(error.value).startswith(expected)
    else:
        assert choice.connect(ranks, backend).describe() == expected


LIBRARIES = ["numpy", *(pytest.param(name, marks=pytest.mark.needs(name)) for name in ("torch", "jax"))]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("transport", choice.TRANSPORTS)
def test_ways_of_a_gpu_are_refused_for_arrays_of_the_host(transport: str, library: str) -> None:
    with xpdl.use(library) as backend:
        ranks = Ranks(SITES, transport)
        if transport == "auto":
            assert isinstance(choice.connect(ranks, backend), HostTransport)
        else:
            says = f"mpi: transport='{transport}' is a way of CuPy's arrays, got arrays of {library}; leave it out"
            with pytest.raises(ValueError, match=re.escape(says)):
                choice.connect(ranks, backend)


def cuda_aware_way(form: Form) -> CUDAAwareTransport:
    way = CUDAAwareTransport.__new__(CUDAAwareTransport)
    way._form, way._reason = form, ""
    return way


def nccl_way(form: Form) -> NCCLTransport:
    way = NCCLTransport.__new__(NCCLTransport)
    way._form, way._version = form, "2.25.1"
    return way


@pytest.mark.parametrize(
    ("described", "words"),
    [
        pytest.param(lambda form: cuda_aware_way(form).describe(), "added up by CUDA-aware MPI", id="cuda-aware"),
        pytest.param(
            lambda form: nccl_way(form).describe(),
            "added up by NCCL 2.25.1{} (each rank has a GPU of its own)",
            id="nccl",
        ),
    ],
)
def test_descriptions_of_ways_between_gpus_say_whether_gradients_are_rounded(
    described: Callable[[Form], str], words: str
) -> None:
    words = words if "{}" in words else words + "{}"
    assert described(FORMS[None]) == words.format("")
    assert described(FORMS["float16"]) == words.format(", rounded to float16")


@pytest.mark.parametrize(
    ("library", "words"), [("numpy", "sent in messages"), ("cupy", "staged through pinned memory of the host")]
)
def test_descriptions_of_ways_through_the_host_say_whether_gradients_are_rounded(library: str, words: str) -> None:
    backend = dataclasses.replace(xpdl.get_backend(), name=library)
    ranks = Ranks(SITES, "auto")
    assert HostTransport(ranks, backend).describe() == words
    ranks.compression = "float16"
    assert HostTransport(ranks, backend, "why").describe() == f"{words}, rounded to float16 (why)"


def test_unknown_transport_is_refused() -> None:
    with pytest.raises(
        ValueError, match="mpi: transport must be one of 'auto', 'nccl', 'cuda-aware', 'staged', got 'tcp'"
    ):
        xpdl.distributed.mpi(transport="tcp")


@pytest.mark.parametrize(
    ("kinds", "function", "cray", "missing"),
    [
        ("mpi,system,cuda:device", None, "", ""),
        ("mpi,system,cuda", 0, "", ""),
        ("mpi,system", 1, "", ""),
        (None, 1, "", ""),
        (None, None, "1", ""),
        ("mpi,system", 0, "", "the MPI library takes no device memory (MPIX_Query_cuda_support)"),
        (None, None, "0", "the MPI library does not say that it takes device memory"),
        ("mpi,system,rocm", None, "", "the MPI library does not say that it takes device memory"),
    ],
)
def test_cuda_aware_mpi_is_recognised_by_its_own_answers(
    monkeypatch: pytest.MonkeyPatch, kinds: str | None, function: int | None, cray: str, missing: str
) -> None:
    library = (
        types.SimpleNamespace() if function is None else types.SimpleNamespace(MPIX_Query_cuda_support=lambda: function)
    )
    monkeypatch.setattr(cuda_aware.ctypes, "CDLL", lambda path: library)
    monkeypatch.setenv("MPICH_GPU_SUPPORT_ENABLED", cray)
    info = types.SimpleNamespace(Get=lambda name: kinds if name == "mpi_memory_alloc_kinds" else None)
    world = types.SimpleNamespace(Get_info=lambda: info)
    assert cuda_aware.missing(types.SimpleNamespace(COMM_WORLD=world, __file__="MPI.so")) == missing


@pytest.mark.needs("mpi4py")
def test_mpich_of_pypi_takes_no_device_memory() -> None:
    assert cuda_aware.missing(importlib.import_module("mpi4py.MPI")).startswith("the MPI library ")


def test_a_world_of_one_adds_up_without_messages() -> None:
    way = Communicator().transport_of(xpdl.get_backend())
    (total,) = way.allreduce([np.arange(3.0)])
    assert total.tolist() == [0.0, 1.0, 2.0] and way.broadcast([total])[0].tolist() == [0.0, 1.0, 2.0]
    assert way.start_sum(total)().tolist() == [0.0, 1.0, 2.0]
