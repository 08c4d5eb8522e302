"""Claims about NCCL's calls and results, checked by all: ``mpiexec -n 3 python -m tests.distributed.nccl_claims [NAME...]``.

On hostcuda, with HOSTCUDA_ASYNC=1 and the stand-in for NCCL. With the name ``faults``, each of `FAULTS` is planted, and the
claim that it is about must fail. Ranks that find something wrong do so where all others are, too.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.distributed import emulated_gpus
from tests.distributed.equal_to_one_process import T, X
from tests.distributed.nccl_faults import FAULTS, planted
from tests.distributed.nccl_stand_in import calls
from xpdl.backends.registry import without
from xpdl.distributed.buckets import Buckets
from xpdl.distributed.compression import FORMS
from xpdl.distributed.nccl import NCCLTransport
from xpdl.layers import Affine, SoftmaxWithLoss, Tanh
from xpdl.models import Sequential
from xpdl.training import Trainer

Check = Callable[[Any], None]
CLAIMS: dict[str, Check] = {}


def claim(check: Check) -> Check:
    CLAIMS[check.__name__] = check
    return check


def transport(ranks: Any) -> NCCLTransport:
    found = ranks.transport_of(xpdl.get_backend())
    assert isinstance(found, NCCLTransport)
    return found


def compressing(ranks: Any) -> NCCLTransport:
    """Return the way of compressed gradients by the communicator that is there."""
    return NCCLTransport(
        xpdl.get_backend(), transport(ranks)._collectives, ranks.watchdog.watch, "2.25.1", FORMS["float16"]
    )


def terms(ranks: Any, size: int, dtype: str) -> list[np.ndarray]:
    """Return the vectors of all ranks."""
    return [(np.random.default_rng(rank).normal(size=size) * 100).astype(dtype) for rank in range(ranks.size)]


def on_gpu(a: np.ndarray) -> Any:
    """Return an array whose values the computation's stream has yet to make."""
    return xpdl.asarray(a, dtype=a.dtype.name) * xpdl.asarray(np.ones((), a.dtype), dtype=a.dtype.name)


def filled(way: NCCLTransport, a: np.ndarray) -> Any:
    buffer = way.buffer(a.size, a.dtype)
    buffer.put(0, on_gpu(a))
    return buffer.values


def named(begin: int) -> list[tuple[str, int, str]]:
    return [(call.name, call.count, call.dtype) for call in calls[begin:]]


#: values in the buckets of the gradients of `network`, of at least 64 bytes: biases come before weights
BUCKETS = [3 + 5 * 3, 5 + 8 * 5, 8, 6 * 8]


def network() -> Sequential:
    layers = Affine(units=8), Tanh(), Affine(units=5), Tanh(), Affine(units=3)
    made = Sequential(*layers, loss=SoftmaxWithLoss, seed=1)
    made.build((6,))
    return made


def trained(ranks: Any, made: Any, **options: Any) -> Trainer:
    options = {"mini_batch_size": len(T), "epochs": 1, "seed": 3, "verbose": False, "optimizer": "adam", **options}
    trainer = Trainer(made, X, T, communicator=ranks, **options)
    trainer.train()
    return trainer


@claim
def sums_are_those_of_the_terms_and_the_same_on_all_ranks(ranks: Any) -> None:
    way, found = transport(ranks), []
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5), ("int32", 0.0), ("float16", 2.0**-10)):
        for size in (1, 5, 40_001):
            every = terms(ranks, size, dtype)
            total = xpdl.asnumpy(way.start_sum(filled(way, every[ranks.rank]))() * 1)[:size]
            part = xpdl.asnumpy(way.start_sum(filled(way, every[ranks.rank]), scattered=True)() * 1)
            found.append((tolerance, every, total, part))
    # all ranks are here, whatever they have found
    digests = ranks.allgather([total.tobytes() for _, _, total, _ in found])
    assert all(own == digests[0] for own in digests)
    for tolerance, every, total, part in found:
        assert total.dtype == every[0].dtype
        exact = np.sum([term.astype(np.float64) for term in every], axis=0)
        bound = tolerance * np.sum(np.abs(every), axis=0, dtype=np.float64)
        assert (np.abs(total - exact) <= bound).all(), (total.dtype, total.size)
        length = -(-total.size // ranks.size)
        own = total[ranks.rank * length : (ranks.rank + 1) * length]
        assert part.size == length
        np.testing.assert_array_equal(part[: own.size], own)


@claim
def half_precision_is_added_up_in_float32_in_the_order_of_the_ranks(ranks: Any) -> None:
    way, every = transport(ranks), terms(ranks, 1000, "float16")
    wide = every[0].astype(np.float32)
    for term in every[1:]:
        wide = wide + term
    begin = len(calls)
    total = way.start_sum(filled(way, every[ranks.rank]))()
    np.testing.assert_array_equal(xpdl.asnumpy(total)[:1000], wide.astype(np.float16))
    length = -(-1000 // ranks.size) * 2
    others = [rank for rank in range(ranks.size) if rank != ranks.rank]
    sent = [(name, length, "uint8") for _ in others for name in ("send", "recv")]
    assert named(begin) == [*sent, ("allGather", length, "uint8")]
    assert [call.peer for call in calls[begin:-1]] == [rank for rank in others for _ in range(2)]
    assert len({call.group for call in calls[begin:-1]}) == 1 and calls[-1].group != calls[begin].group


@claim
def dtypes_that_nccl_has_no_sums_of_are_exchanged(ranks: Any) -> None:
    xp, begin = xpdl.get_backend().xp, len(calls)
    arrays = on_gpu(np.arange(100.0) / 7 + ranks.rank).astype(xp.bfloat16), xp.full(3, ranks.rank, dtype=xp.int16)
    halves = ranks.allgather(xpdl.asnumpy(arrays[0].astype(xp.float32)))
    sums = ranks.allreduce(arrays)
    expected = xp.asarray(sum(halves)).astype(xp.bfloat16)
    assert sums[0].dtype == xp.bfloat16 and bool((sums[0] == expected).all())
    assert sums[1].dtype == xp.int16 and sums[1].tolist() == [sum(range(ranks.size))] * 3
    assert {call.dtype for call in calls[begin:]} == {"uint8"}


@claim
def compressed_sums_are_within_the_bound_and_the_same_on_all_ranks(ranks: Any) -> None:
    way = compressing(ranks)
    for scattered in (False, True):
        every = terms(ranks, 3_001, "float64")
        begin = len(calls)
        total = xpdl.asnumpy(way.start_sum(filled(way, every[ranks.rank]), scattered=scattered)() * 1)
        assert {kind for _, _, kind in named(begin)} == {"uint8"}
        length = -(-3_001 // ranks.size)
        assert {count for _, count, _ in named(begin)} == {4 + 2 * length}
        span = slice(ranks.rank * length, min((ranks.rank + 1) * length, 3_001)) if scattered else slice(0, 3_001)
        exact, sizes = (np.sum(a, axis=0)[span] for a in (every, np.abs(every)))
        bound = 2.0**-11 * (sizes + np.abs(exact)) * 1.001 + 2.0**-38 * np.abs(every).max() * ranks.size
        assert (np.abs(total[: exact.size] - exact) <= bound).all() and (total[: exact.size] != exact).any()
        assert scattered or len(set(ranks.allgather(total.tobytes()))) == 1


@claim
def arrays_of_several_kinds_are_added_up_together(ranks: Any) -> None:
    arrays = [np.full((2, 3), 1.5 + ranks.rank), np.ones((), np.float32), np.zeros((0, 4)), np.full(3, ranks.rank)]
    begin = len(calls)
    sums = ranks.allreduce([on_gpu(a) for a in arrays])
    assert [(s.shape, s.dtype) for s in sums] == [(a.shape, a.dtype) for a in arrays]
    total = sum(range(ranks.size))
    assert sums[0].tolist() == [[1.5 * ranks.size + total] * 3] * 2 and sums[3].tolist() == [total] * 3
    assert float(sums[1]) == ranks.size
    assert named(begin) == [("allReduce", 6, "float64"), ("allReduce", 1, "float32"), ("allReduce", 3, "int64")]


@claim
def buckets_go_during_the_backward_pass_the_last_layer_first(ranks: Any) -> None:
    made = network()
    steps: list[tuple[int, int]] = []
    first: Any = made.layers["Affine1"]
    backward = first.backward_parameters

    def noted(dout: Any) -> None:
        before = len(calls)
        backward(dout)
        steps.append((before, len(calls)))

    first.backward_parameters = noted
    trained(ranks, made, epochs=2)
    # the first step has no layout yet; in the second, those of two layers are begun before the first layer's are computed
    before, _ = steps[1]
    padded = [-(-count // ranks.size) * ranks.size for count in BUCKETS]
    begun = [call for call in calls[steps[0][0] : before] if call.dtype == "float64" and call.name == "allReduce"]
    assert [call.count for call in begun] == [*padded, *padded[:2]], begun
    import cupy

    assert {call.stream for call in calls} == {transport(ranks)._lane.stream.ptr}
    assert cupy.cuda.get_current_stream().ptr not in {call.stream for call in calls}


@claim
def parts_of_the_sums_and_of_the_parameters_are_moved_with_a_share_of_the_state(ranks: Any) -> None:
    begin = len(calls)
    trained(ranks, network(), shard_optimizer=True)
    lengths = [-(-count // ranks.size) for count in BUCKETS]
    moved = [(call.name, call.count, call.dtype) for call in calls[begin:] if call.name != "broadcast"]
    assert moved == [
        *(("reduceScatter", length, "float64") for length in lengths),
        *(("allGather", 8 * length, "uint8") for length in lengths),
    ]
    assert len({call.group for call in calls[-len(lengths) :]}) == 1


@claim
def weights_of_rank_0_are_broadcast_in_one_group(ranks: Any) -> None:
    made = Sequential(Affine(units=4), Tanh(), Affine(units=3), loss=SoftmaxWithLoss, seed=ranks.rank)
    made.build((6,))
    before = ranks.bcast({name: xpdl.asnumpy(p).tobytes() for name, p in made.params.items()})
    begin = len(calls)
    trained(ranks, made, optimizer="SGD", optimizer_param={"lr": 0.0})
    found = [call for call in calls[begin:] if call.name == "broadcast"]
    groups = {call.group for call in found}
    assert sorted(call.count for call in found) == sorted(map(len, before.values()))
    assert len(groups) == 1 and -1 not in groups
    assert {name: xpdl.asnumpy(p).tobytes() for name, p in made.params.items()} == before


@claim
def small_values_of_the_host_go_by_mpi(ranks: Any) -> None:
    begin = len(calls)
    assert ranks.allgather(ranks.rank) == list(range(ranks.size)) and ranks.bcast(ranks.rank) == 0
    assert ranks.allreduce([np.ones(3)])[0].tolist() == [float(ranks.size)] * 3
    assert calls[begin:] == []


@claim
def the_line_says_which_way_and_why(ranks: Any) -> None:
    assert transport(ranks).describe() == "added up by NCCL 2.25.1 (each rank has a GPU of its own)"


def problem_of(check: Check, ranks: Any) -> str:
    """Return what is wrong on this rank."""
    try:
        with without("numba"):
            check(ranks)
    except Exception:
        return f"{check.__name__}, rank {ranks.rank}:\n{traceback.format_exc()}"
    return ""


def main(names: list[str]) -> int:
    ranks = emulated_gpus.ranks("nccl", bucket_bytes=64)
    xpdl.use("cupy", device=ranks.local_rank, dtype="float64")
    xpdl.get_backend().device.use()
    if names == ["other order"]:  # ends all ranks
        lay_out = Buckets._lay_out
        if ranks.rank == 1:
            pytest.MonkeyPatch().setattr(
                Buckets, "_lay_out", lambda self, arrays: lay_out(self, dict(reversed(arrays.items())))
            )
        trained(ranks, network())
        return 0
    failed = 0
    for what, check, patch in _tasks(names):
        with patch:
            problems = list(filter(None, ranks.allgather(problem_of(check, ranks))))
        wrong = bool(problems) != (what in FAULTS)
        failed += wrong
        if ranks.is_first:
            print(*(problems if wrong else []), f"{what}: {'failed' if wrong else 'ok'}", sep="\n", flush=True)
    return int(failed > 0)


def _tasks(names: list[str]) -> Iterator[tuple[str, Check, Any]]:
    if names != ["faults"]:
        yield from ((name, CLAIMS[name], contextlib.nullcontext()) for name in names or CLAIMS)
        return
    for what, check in FAULTS.items():
        yield what, CLAIMS[check], planted(what)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
