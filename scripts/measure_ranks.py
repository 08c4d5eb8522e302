"""Ranks of one thread against one process of as many threads: ``measure_ranks.py [--net NAME ...] [--ranks N]``.

Both train the same network by Adam on the same batches, in alternating rounds of one epoch, the other standing still
meanwhile. The time is that of the steps of the slowest rank; the ratio is the throughput of the ranks by the process's.
``XPDL_COMPILED=0`` measures pure NumPy. It takes mpi4py, and mpiexec beside this Python or on the path.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any

from xpdl import Adam, distributed
from xpdl.backends.random import Stream
from xpdl.bench.nets import NETS
from xpdl.distributed import Communicator
from xpdl.training import Callback, Trainer

STEPS = 15


class Stopwatch(Callback):
    """Seconds of the steps of an epoch."""

    def on_epoch_begin(self, trainer: Any, epoch: int) -> None:
        trainer.communicator.barrier()
        self.begin = time.perf_counter()

    def on_test_begin(self, trainer: Any, epoch: int) -> None:
        self.seconds = time.perf_counter() - self.begin


def serve(net: str, batch: int, ranks: int, folder: Path) -> None:
    """Train for an epoch whenever a byte comes from this rank's pipe, and answer with the milliseconds of a step."""
    communicator: Any = distributed.mpi() if ranks > 1 else Communicator()
    build, shape = NETS[net]
    generator = Stream(0, "bench").generator("rows")
    x, t = generator.random((STEPS * batch, *shape), dtype="float32"), generator.integers(0, 10, STEPS * batch)
    watch = Stopwatch()
    options = {"verbose": False, "seed": 0, "callbacks": [watch], "communicator": communicator}
    trainer = Trainer(
        build(), x, t, mini_batch_size=batch, optimizer=Adam(), evaluate_sample_num_per_epoch=1, **options
    )
    name = f"{ranks}.{communicator.rank}"
    with (folder / f"{name}.go").open("rb", buffering=0) as go, (folder / f"{name}.done").open("w") as done:
        while go.read(1):
            trainer.train(1)
            print(1e3 * max(communicator.allgather(watch.seconds)) / STEPS, file=done, flush=True)


class Side:
    """One of the two that are compared, its processes waiting for a round."""

    def __init__(self, net: str, batch: int, ranks: int, threads: int, folder: Path) -> None:
        names = [f"{ranks}.{rank}" for rank in range(ranks)]
        for name in names:
            os.mkfifo(folder / f"{name}.go")
            os.mkfifo(folder / f"{name}.done")
        count = str(threads // ranks)
        environment = {**os.environ, "XPDL_NUM_THREADS": count, "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count}
        child = [sys.executable, __file__, "--net", net, "--batch", str(batch), "--serve", str(ranks), str(folder)]
        beside = Path(sys.executable).with_name("mpiexec")
        launcher = [str(beside) if beside.exists() else shutil.which("mpiexec") or "mpiexec", "-n", str(ranks)]
        self.process = subprocess.Popen(child if ranks == 1 else [*launcher, *child], env=environment)
        self.go: list[IO[bytes]] = [(folder / f"{name}.go").open("wb", buffering=0) for name in names]
        self.done: list[IO[str]] = [(folder / f"{name}.done").open() for name in names]

    def milliseconds(self) -> float:
        """Return those of a step, of a round."""
        for pipe in self.go:
            pipe.write(b"1")
        return max(float(pipe.readline()) for pipe in self.done)

    def end(self) -> None:
        for pipe in self.go:
            pipe.close()
        self.process.wait()


def compare(net: str, batch: int, ranks: int, rounds: int) -> str:
    """Return the line of a table: medians and quartiles of the rounds, but for the first."""
    with tempfile.TemporaryDirectory() as folder:
        sides = [Side(net, batch, count, ranks, Path(folder)) for count in (ranks, 1)]
        times = [[side.milliseconds() for side in sides] for _ in range(rounds + 1)][1:]
        for side in sides:
            side.end()
    by_ranks, by_threads = zip(*times, strict=True)
    ratio = statistics.median(threads / of_ranks for of_ranks, threads in times)
    return f"| {net} | {batch} | {_spread(by_ranks)} | {_spread(by_threads)} | {ratio:.2f} |"


def _spread(times: Any) -> str:
    low, middle, high = statistics.quantiles(times, n=4)
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", choices=NETS, nargs="+", default=["SimpleConvNet", "DeepConvNet"])
    parser.add_argument("--batch", type=int, default=200, help="rows of all ranks (default: 200)")
    parser.add_argument("--ranks", type=int, default=2, help="and threads (default: 2)")
    parser.add_argument("--rounds", type=int, default=21, help="of 15 steps each (default: 21)")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.net[0], args.batch, int(args.serve[0]), Path(args.serve[1]))
        return
    print(f"| net | batch | ms a step, {args.ranks} ranks (quartiles) | {args.ranks} threads | throughput |")
    print("|---|---:|---:|---:|---:|")
    for net in args.net:
        print(compare(net, args.batch, args.ranks, args.rounds), flush=True)


if __name__ == "__main__":
    main()
