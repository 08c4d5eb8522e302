"""Training steps by several ranks: measured here, and predicted for other networks."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

from xpdl.backends import Backend, use
from xpdl.backends.availability import gpu_of_rank
from xpdl.backends.cpu.thread_pool import thread_count
from xpdl.backends.namespaces import on_device_of
from xpdl.bench.distributed_model import ALGORITHMS, Gradient, Link, Step, efficiency, in_buckets, step_seconds
from xpdl.bench.nets import NETS
from xpdl.bench.timing import check_net, prepared, wait
from xpdl.distributed import Communicator
from xpdl.distributed.measuring import SumSpeed, sum_speed
from xpdl.distributed.nccl import NCCLTransport
from xpdl.distributed.shared_memory import SharedMemoryTransport
from xpdl.layers.base import Layer
from xpdl.ops.checks import positive_int
from xpdl.optimizers import Adam
from xpdl.training.data_parallel import DataParallelStep
from xpdl.training.run_state import RunState
from xpdl.training.step import EagerStep

RANKS = 8, 64, 1024
GIGABITS = 1, 10, 100, 400
MICROSECONDS = 2, 10, 50

_STEPS_OF_A_ROUND = 3


@dataclasses.dataclass(frozen=True)
class DistributedFigure:
    """Training steps of one net by ranks.

    Attributes
    ----------
    net, batch_size, ranks, threads
        So many rows and threads of each rank.
    way : str
        Of gradients to the other ranks.
    alone : Step
        A step of rank 0 while the others wait.
    together : Step
        Such a step while all ranks make one, without messages; each of the rank that was slowest.
    sums : SumSpeed
        Of the communicator here.
    seconds, predicted : float
        A step of all ranks, and what the model says.
    efficiencies : dict
        ``"8 ranks, 10 Gb/s, 2 us"`` -> the least and the most of the algorithms.
    """

    net: str
    batch_size: int
    way: str
    ranks: int
    threads: int
    alone: Step
    together: Step
    sums: SumSpeed
    seconds: float
    predicted: float
    efficiencies: dict[str, tuple[float, float]]


def distributed(
    net: str, communicator: Communicator, *, backend: str, batch_size: int = 100, rounds: int = 11
) -> DistributedFigure:
    """Measure steps of a net on all ranks of a communicator, and predict those on other networks.

    Parameters
    ----------
    net : str
        A key of `NETS`.
    communicator : Communicator
        All of its ranks call this.
    backend : str
        Name for `xpdl.use`.
    batch_size : int
        Rows of each rank.
    rounds : int

    Raises
    ------
    ValueError
        If there is no such net.
    """
    check_net(net)
    positive_int(batch_size, "batch_size", "distributed")
    positive_int(rounds, "rounds", "distributed")
    with use(backend, device=gpu_of_rank(backend, communicator.local_rank)) as arrays:
        one, several = (prepared(*NETS[net], batch_size) for _ in range(2))
        with on_device_of(one[1]):
            return _measured(net, communicator, arrays, _OwnStep(*one, communicator.bucket_bytes), several, rounds)


def _measured(
    net: str, communicator: Communicator, backend: Backend, own: _OwnStep, several: tuple[Any, Any, Any], rounds: int
) -> DistributedFigure:
    of_all, transport = _StepOfAll(*several, communicator), communicator.transport_of(backend)
    alone, together, seconds, speeds = [], [], [], []
    for _ in range(rounds + 1):
        communicator.barrier()
        if communicator.is_first:
            alone += [own.measured() for _ in range(_STEPS_OF_A_ROUND)]
        for _ in range(_STEPS_OF_A_ROUND):
            communicator.barrier()
            together.append(own.measured())
        communicator.barrier()
        seconds.append(of_all.seconds())
        speeds.append(sum_speed(communicator, backend))
    # the first round loads, compiles and allocates; all ranks wait for the slowest one in each step
    of_ranks = zip(*communicator.allgather(together[_STEPS_OF_A_ROUND:]), strict=True)
    slowest = _median_step([max(steps, key=lambda step: step.seconds) for steps in of_ranks])
    basis, sums = communicator.bcast((_median_step(alone[_STEPS_OF_A_ROUND:] or together), _median_speed(speeds[1:])))
    basis, slowest = (dataclasses.replace(step, copy_bandwidth=sums.copy_bandwidth) for step in (basis, slowest))
    return DistributedFigure(
        net=net,
        batch_size=len(own.rows[0]),
        way=transport.describe(),
        ranks=communicator.size,
        threads=thread_count(),
        alone=basis,
        together=slowest,
        sums=sums,
        seconds=max(communicator.allgather(statistics.median(seconds[1:]))),
        predicted=step_here(
            slowest,
            communicator.size,
            sums,
            shares_memory=isinstance(transport, SharedMemoryTransport),
            overlaps=isinstance(transport, NCCLTransport),
        ),
        efficiencies=efficiencies(basis),
    )


def step_here(
    together: Step, ranks: int, sums: SumSpeed, *, shares_memory: bool = False, overlaps: bool = False
) -> float:
    """Predict a step of the ranks of one machine, whose processors copy the bytes that a network would carry.

    In memory that they share, they add up all gradients after the backward pass; GPUs do it while it goes on (`overlaps`).
    """
    if shares_memory:
        size = sum(bucket.size for bucket in together.buckets)
        # one message with the losses, one before and one after the sum
        return together.seconds + 1.5 * sums.small_seconds + size / sums.bandwidth
    if overlaps:
        rounds = 2 * max(1, math.ceil(math.log2(ranks)))
        link = Link(2 * (ranks - 1) / ranks * sums.bandwidth, sums.small_seconds / rounds)
        return step_seconds(together, ranks, link, "halving")
    # a sum of 8 bytes is one message to all, that of a bucket two
    link = Link(math.inf, sums.small_seconds / max(1, math.ceil(math.log2(ranks))))
    copy_bandwidth = 1 / (1 / sums.bandwidth + 1 / sums.copy_bandwidth)
    return step_seconds(dataclasses.replace(together, copy_bandwidth=copy_bandwidth), ranks, link, "halving")


def efficiencies(step: Step) -> dict[str, tuple[float, float]]:
    """Predict the efficiency for all of `RANKS`, `GIGABITS` and `MICROSECONDS`: the least and the most of `ALGORITHMS`."""
    found = {}
    for ranks, gigabits, microseconds in itertools.product(RANKS, GIGABITS, MICROSECONDS):
        link = Link(gigabits * 1e9 / 8, microseconds * 1e-6)
        values = [efficiency(step, ranks, link, algorithm) for algorithm in ALGORITHMS]
        found[case(ranks, gigabits, microseconds)] = min(values), max(values)
    return found


def case(ranks: int, gigabits: int, microseconds: int) -> str:
    """Describe ranks and their network."""
    return f"{ranks} ranks, {gigabits} Gb/s, {microseconds} us"


class _OwnStep:
    """Steps of this rank, without messages."""

    def __init__(self, network: Any, x: Any, t: Any, bucket_bytes: int) -> None:
        self.network, self.rows, self.bucket_bytes = network, (x, t), bucket_bytes
        self.step = EagerStep(network, Adam(), None, 1, RunState())

    def measured(self) -> Step:
        """Make a step."""
        gradients: list[Gradient] = []

        def after_backward(name: str, layer: Layer) -> None:
            for _, owner, key in layer.named_grads():
                wait(owner[key])
                gradients.append(Gradient(time.perf_counter() - begin, owner[key].nbytes))

        self.network.after_backward = after_backward
        begin = time.perf_counter()
        self.step(*self.rows)
        wait(next(iter(self.network.params.values())))
        seconds = time.perf_counter() - begin
        return Step(gradients[-1].ready, seconds, in_buckets(gradients, self.bucket_bytes))


class _StepOfAll:
    """Steps of all ranks, which exchange gradients."""

    def __init__(self, network: Any, x: Any, t: Any, communicator: Communicator) -> None:
        self.network, self.rows = network, (x, t)
        begin, size = communicator.rank * len(x), communicator.size * len(x)
        parts = network, Adam(), None, 1, RunState()
        self.step = DataParallelStep(*parts, communicator=communicator, span=lambda _: (begin, begin + len(x), size))

    def seconds(self) -> float:
        """Return the mean of some steps: ranks that wait for each other alternate."""
        begin = time.perf_counter()
        for _ in range(_STEPS_OF_A_ROUND):
            self.step(*self.rows)
        wait(next(iter(self.network.params.values())))
        return (time.perf_counter() - begin) / _STEPS_OF_A_ROUND


def _median_step(steps: Sequence[Step]) -> Step:
    """Return the median of each of the times."""
    buckets = [
        Gradient(statistics.median(bucket.ready for bucket in of_all), of_all[0].size)
        for of_all in zip(*(step.buckets for step in steps), strict=True)
    ]
    ends = statistics.median(step.backward_ends for step in steps)
    return Step(ends, statistics.median(step.seconds for step in steps), buckets)


def _median_speed(speeds: Sequence[SumSpeed]) -> SumSpeed:
    return SumSpeed(*map(statistics.median, zip(*map(dataclasses.astuple, speeds), strict=True)))
