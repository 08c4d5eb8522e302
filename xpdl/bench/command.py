"""``xpdl bench``: its options, and what it prints."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

from xpdl.bench import gpu_report
from xpdl.bench.device_rates import PEAKS
from xpdl.bench.distributed import distributed
from xpdl.bench.epoch import epoch
from xpdl.bench.explain import explain, explain_text
from xpdl.bench.memory import memory
from xpdl.bench.nets import NETS
from xpdl.bench.profile import profile
from xpdl.bench.scaling import scaling
from xpdl.bench.sequence_nets import SEQUENCE_NETS
from xpdl.bench.step_roofline import ROOFLINE_NETS, step_roofline
from xpdl.bench.tables import distributed_table, environment, memory_table, scaling_table, table
from xpdl.bench.timing import PEER, bench
from xpdl.distributed import Communicator, mpi
from xpdl.distributed.failures import ending_together
from xpdl.io.atomic import write_atomically


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "--model", choices=[*NETS, *SEQUENCE_NETS], nargs="+", default=["SimpleConvNet"], metavar="NAME"
    )
    parser.add_argument("--backend", nargs="+", default=["numpy"], metavar="NAME")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[100], metavar="N")
    parser.add_argument("--task", choices=("train", "predict"), default="train")
    parser.add_argument(
        "--against",
        choices=("torch", "jax"),
        nargs="+",
        default=[],
        help="time the same net in PyTorch, or in plain JAX with optax, in alternating rounds",
    )
    parser.add_argument("--rounds", type=int, default=11, metavar="N")
    parser.add_argument(
        "--processor-time", action="store_true", help="measure the processor time of all threads, on a busy machine"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--profile", action="store_true", help="measure the time of each layer instead")
    instead.add_argument("--memory", action="store_true", help="measure the memory of training instead (Linux)")
    instead.add_argument("--epoch", action="store_true", help="measure a pass over the whole of MNIST instead")
    instead.add_argument(
        "--scaling", action="store_true", help="measure operations on larger batches and images instead; no --model"
    )
    instead.add_argument(
        "--distributed",
        action="store_true",
        help="measure steps by the ranks that mpiexec started instead, and predict those of more ranks on other networks",
    )
    instead.add_argument(
        "--explain",
        nargs="+",
        metavar="MODEL",
        help="say what computes each layer and pass of a training step, and why, instead; a net or the file of a model",
    )
    instead.add_argument(
        "--roofline",
        nargs="+",
        choices=ROOFLINE_NETS,
        metavar="NET",
        help="count bytes and FLOP of a step's kernels on a GPU instead, with or without one",
    )
    instead.add_argument(
        "--gpu-report",
        nargs=argparse.REMAINDER,
        metavar="OPTION",
        help="run the GPU report instead, which all that follows goes to; --gpu-report --help has its options",
    )
    parser.add_argument(
        "--gpu", choices=PEAKS, help="whose peak rates the roofline is of (default: this one's, or H200's)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")


#: the options that each way to measure goes by, besides ``--json``; None is the comparison of steps
USED: dict[str | None, set[str]] = {
    None: {"model", "backend", "batch_size", "task", "against", "rounds", "processor_time"},
    "profile": {"model", "backend", "batch_size"},
    "memory": {"model", "batch_size", "against"},
    "epoch": {"model", "backend", "batch_size", "against"},
    "scaling": {"backend"},
    "distributed": {"model", "backend", "batch_size", "rounds"},
    "explain": {"backend", "batch_size"},
    "roofline": {"batch_size", "gpu"},
    "gpu_report": set(),
}


def run(args: argparse.Namespace) -> int:
    """Measure what the options ask for; 0, or the code of the GPU report."""
    _refuse_unused(args)
    if args.gpu_report is not None:
        return gpu_report.main(args.gpu_report)
    ranks = mpi() if args.distributed else Communicator()
    with ending_together(ranks):
        figures = _figures(args, ranks)
    if not ranks.is_first:
        return 0
    print("; ".join(f"{key} {value}" for key, value in environment().items()))
    if args.json is not None:
        plain = [f if isinstance(f, dict) else dataclasses.asdict(f) for f in figures]
        document = {"environment": environment(), "figures": plain}
        write_atomically(args.json, (json.dumps(document, indent=1) + "\n").encode())
    return 0


def _refuse_unused(args: argparse.Namespace) -> None:
    """Raise `ValueError` for options that the way to measure that was asked for does not look at."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    way = next((way for way in USED if way and getattr(args, way) not in (None, False)), None)
    options = set[str]().union(*USED.values()) | ({"json"} if way == "gpu_report" else set())
    for option in sorted(options - USED[way]):
        if getattr(args, option) != parser.get_default(option):
            instead = f"with {_flag(way)}" if way else "without --roofline"
            raise ValueError(f"{_flag(option)} changes nothing {instead}; leave it out")
    if way is not None and "jax" in args.against:
        raise ValueError(f"{_flag(way)} compares with PyTorch alone, got --against jax")
    if way not in (None, "memory") and (sequences := [name for name in args.model if name in SEQUENCE_NETS]):
        raise ValueError(
            f"{_flag(way)} does not measure nets of sequences, got --model {' '.join(sequences)}; leave it out"
        )
    if way is not None and "backend" in USED[way] and len(args.backend) > 1:
        raise ValueError(f"{_flag(way)} measures one backend, got {', '.join(args.backend)}")


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _figures(args: argparse.Namespace, ranks: Communicator) -> list[Any]:
    """Print the tables, and return what is in them."""
    against_torch, backend = "torch" in args.against, args.backend[0]
    cases = [(name, size) for name in args.explain or args.roofline or args.model for size in args.batch_size]
    figures: list[Any] = []
    if args.profile:
        for name, size in cases:
            print(f"{name}, batch {size}, {backend}: milliseconds forward and backward")
            for layer, forward, backward in profile(name, backend=backend, batch_size=size):
                print(f"{layer:<20} {forward:9.3f} {backward:9.3f}")
                figures.append({"net": name, "batch_size": size, "layer": layer, "ms": [forward, backward]})
    elif args.distributed:
        for name, size in cases:
            figures.append(distributed(name, ranks, backend=backend, batch_size=size, rounds=args.rounds))
            if ranks.is_first:
                print(distributed_table(figures[-1]))
    elif args.explain:
        for name, size in cases:
            choices = explain(name, backend=backend, batch_size=size)
            print(explain_text(name, choices, backend=backend, batch_size=size))
            figures += [{"net": name, "batch_size": size, **choice._asdict()} for choice in choices]
    elif args.memory:
        figures = [memory(name, batch_size=size, against_torch=against_torch) for name, size in cases]
        print(memory_table(figures))
    elif args.epoch:
        for name, size in cases:
            seconds = epoch(name, backend=backend, batch_size=size, against_torch=against_torch)
            print(f"{name}, one epoch of MNIST in batches of {size}: " + _listed(seconds))
            figures.append({"net": name, "batch_size": size, "seconds": seconds})
    elif args.scaling:
        figures = [*scaling(backend=backend)]
        print(scaling_table(figures))
    elif args.roofline:
        for name, size in cases:
            counted = step_roofline(name, size, gpu=args.gpu)
            print(counted.text)
            figures += counted.rows
    else:
        options = {"backends": args.backend, "rounds": args.rounds, "task": args.task, "against_torch": against_torch}
        options |= {"against_jax": "jax" in args.against, "processor_time": args.processor_time}
        figures = [figure for name, size in cases for figure in bench(name, batch_size=size, **options)]
        print(table(figures) + "\n")  # a line that follows at once would be a row of the table in Markdown
        for name, peer in dict.fromkeys((figure.backend, figure.peer) for figure in figures):
            ratios = [figure.ratio for figure in figures if figure.backend == name and figure.ratio is not None]
            if len(ratios) > 1 and not name.startswith(PEER):
                print(f"geometric mean of the ratios to {peer}, {name}: {statistics.geometric_mean(ratios):.2f}")
    return figures


def _listed(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
