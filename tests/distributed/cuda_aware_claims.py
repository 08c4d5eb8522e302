"""Sums by CUDA-aware MPI, checked by all ranks: ``mpiexec -n 3 python -m tests.distributed.cuda_aware_claims [FAULT]``.

On hostcuda, with HOSTCUDA_ASYNC=1 and HOSTCUDA_PROTECT=none, where any MPI library can read the memory of a GPU.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import numpy as np

import xpdl
from tests.distributed import emulated_gpus
from tests.distributed.cuda_aware_faults import planted
from xpdl.distributed.compression import FORMS
from xpdl.distributed.cuda_aware import CUDAAwareTransport


def terms(ranks: Any, size: int, dtype: str) -> list[np.ndarray]:
    """Return the vectors of all ranks."""
    return [(np.random.default_rng(rank).normal(size=size) * 100).astype(dtype) for rank in range(ranks.size)]


def filled(way: Any, a: np.ndarray) -> Any:
    """Return the buffer of a vector, whose values the computation's stream has yet to make."""
    buffer = way.buffer(a.size, a.dtype)
    buffer.put(0, xpdl.asarray(a, dtype=a.dtype.name) * xpdl.asarray(np.ones((), a.dtype), dtype=a.dtype.name))
    return buffer


def started(way: Any, a: np.ndarray, **options: Any) -> Any:
    buffer = filled(way, a)
    buffer.wait()
    return way.start_sum(buffer.values, **options)


def wrong_sums(ranks: Any, way: CUDAAwareTransport, exponent: float) -> list[str]:
    """Compare sums with those of the terms, of as many as there are under way together."""
    wrong: list[str] = []
    sizes = [1, 5, 40_001, 3_000]
    for dtype in ("float64", "float32", "float16"):
        every = [terms(ranks, size, dtype) for size in sizes]
        waits = [started(way, own[ranks.rank], scattered=size == 3_000) for size, own in zip(sizes, every, strict=True)]
        for size, own, wait in zip(sizes, every, waits, strict=True):
            total = xpdl.asnumpy(wait() * 1)
            digests = ranks.allgather(total[:size].tobytes())
            exact = np.sum([term.astype(np.float64) for term in own], axis=0)
            if size == 3_000:
                length = -(-size // ranks.size)
                exact = exact[ranks.rank * length : (ranks.rank + 1) * length]
            bound = max(2.0**exponent, {"float64": 1e-15, "float32": 1e-6, "float16": 2.0**-10}[dtype])
            bound *= 3 * np.max(np.sum(np.abs(own), axis=0, dtype=np.float64))
            if total.dtype != dtype or not (np.abs(total[: exact.size] - exact) <= bound).all():
                wrong.append(f"rank {ranks.rank}: a sum of {size} {dtype}")
            elif size != 3_000 and len(set(digests)) > 1:
                wrong.append(f"a sum of {size} {dtype} is not the same on all ranks")
    return wrong


def wrong_copies(ranks: Any, way: CUDAAwareTransport) -> list[str]:
    """Compare joined parts, broadcast arrays and sums of several arrays with what they are to be."""
    part = filled(way, np.full(1_000, 1.0 + ranks.rank)).values[:1_000]
    (whole,) = way.joined([part])
    a = xpdl.asarray(np.full((30, 40), 5.0 + ranks.rank)) * 2.0
    (first,) = way.broadcast([a.T])
    sums = ranks.allreduce([a * 1.0, xpdl.asarray(np.arange(3))])
    found = {
        "joined": (xpdl.asnumpy(whole), np.repeat(1.0 + np.arange(ranks.size), 1_000)),
        "broadcast": (xpdl.asnumpy(first), np.full((40, 30), 10.0)),
        "sum of arrays": (xpdl.asnumpy(sums[0]), np.full((30, 40), 2 * sum(5.0 + np.arange(ranks.size)))),
        "sum of integers": (xpdl.asnumpy(sums[1]), ranks.size * np.arange(3)),
    }
    return [f"rank {ranks.rank}: {what}" for what, (got, want) in found.items() if not np.array_equal(got, want)]


def main(fault: str | None = None) -> int:
    ranks = emulated_gpus.ranks("cuda-aware")
    xpdl.use("cupy", device=ranks.local_rank, dtype="float64")
    xpdl.get_backend().device.use()
    way = ranks.transport_of(xpdl.get_backend())
    assert isinstance(way, CUDAAwareTransport), way
    with planted(fault) if fault else contextlib.nullcontext():
        wrong = wrong_sums(ranks, way, -60) + wrong_copies(ranks, way)
        wrong += wrong_sums(ranks, CUDAAwareTransport(ranks, xpdl.get_backend(), FORMS["float16"], ""), -11)
    every = [text for own in ranks.allgather(wrong) for text in own]
    if ranks.is_first:
        print(way.describe(), *every, f"{len(every)} wrong", sep="\n")
    return int(bool(every))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
