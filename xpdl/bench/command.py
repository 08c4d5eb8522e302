"""The command ``xpdl bench``: its options, and the tables that it prints."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any

from xpdl import bench
from xpdl.storage import write_atomically


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of the command."""
    parser.add_argument("--model", choices=bench.NETS, nargs="+", default=["SimpleConvNet"], metavar="NAME")
    parser.add_argument("--backend", nargs="+", default=["numpy"], metavar="NAME")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[100], metavar="N")
    parser.add_argument("--task", choices=("train", "predict"), default="train")
    parser.add_argument("--against", choices=("torch",), help="time the same net in PyTorch, in alternating rounds")
    parser.add_argument("--rounds", type=int, default=11, metavar="N")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--profile", action="store_true", help="measure the time of each layer instead")
    instead.add_argument("--memory", action="store_true", help="measure the memory of training instead (Linux)")
    instead.add_argument("--epoch", action="store_true", help="measure a pass over the whole of MNIST instead")
    instead.add_argument(
        "--scaling", action="store_true", help="measure operations on larger batches and images instead; no --model"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")


def run(args: argparse.Namespace) -> None:
    """Measure what `args` asks for and print it."""
    against_torch, backend = args.against == "torch", args.backend[0]
    cases = [(name, size) for name in args.model for size in args.batch_size]
    figures: list[Any]
    if args.profile:
        figures = []
        for name, size in cases:
            print(f"{name}, batch {size}, {backend}: milliseconds forward and backward")
            for layer, forward, backward in bench.profile(name, backend=backend, batch_size=size):
                print(f"{layer:<20} {forward:9.3f} {backward:9.3f}")
                figures.append({"net": name, "batch_size": size, "layer": layer, "ms": [forward, backward]})
    elif args.memory:
        figures = [bench.memory(name, batch_size=size, against_torch=against_torch) for name, size in cases]
        print(bench.memory_table(figures))
    elif args.epoch:
        figures = []
        for name, size in cases:
            seconds = bench.epoch(name, backend=backend, batch_size=size, against_torch=against_torch)
            print(f"{name}, one epoch of MNIST in batches of {size}: " + _listed(seconds))
            figures.append({"net": name, "batch_size": size, "seconds": seconds})
    elif args.scaling:
        figures = [*bench.scaling(backend=backend)]
        print(bench.growth_table(figures))
    else:
        options = {"backends": args.backend, "rounds": args.rounds, "task": args.task, "against_torch": against_torch}
        figures = [figure for name, size in cases for figure in bench.bench(name, batch_size=size, **options)]
        print(bench.table(figures))
        ratios = [figure.ratio for figure in figures if figure.ratio is not None and "torch" not in figure.backend]
        if len(ratios) > 1:
            print(f"geometric mean of the ratios to PyTorch: {statistics.geometric_mean(ratios):.2f}")
    print("; ".join(f"{key} {value}" for key, value in bench.environment().items()))
    if args.json is not None:
        plain = [f if isinstance(f, dict) else dataclasses.asdict(f) for f in figures]
        document = {"environment": bench.environment(), "figures": plain}
        write_atomically(args.json, (json.dumps(document, indent=1) + "\n").encode())


def _listed(seconds: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
