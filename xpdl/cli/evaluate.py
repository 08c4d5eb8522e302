"""``xpdl evaluate``: measure a trained network."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpdl import models
from xpdl.cli import sources
from xpdl.cli.given import long_name
from xpdl.cli.options import add_backend, add_metrics, newest, use
from xpdl.training import evaluate, measures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("checkpoint", type=Path, nargs="?", help="its file (default: the newest in runs/)")
    add_metrics(parser)
    sources.add_data(parser, None, None)
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of the split of a folder (default: that of the training)"
    )
    add_backend(parser)


def run(args: argparse.Namespace) -> None:
    """Print measures of the rows to test with."""
    use(args)
    path = args.checkpoint or newest()
    network = models.load_model(path)
    asked = args.data is not None
    _settle_data(args, network.origin or {})
    if not asked and args.data not in sources.SETS and not Path(args.data).is_dir():
        raise ValueError(f"{path}: was trained on the folder {args.data}, which is not here; name it with --data")
    source = sources.load(args, network.preparation or {})
    if source.class_names != network.class_names and (network.class_names or source.preparation):
        raise ValueError(
            f"{path}: tells {_listed(network.class_names)} apart, --data {args.data} has {_listed(source.class_names)}; "
            "name the data it was trained for"
        )
    x, t = source.test
    print(f"{path} on {args.data}: {x.shape[0]} test images")
    metrics = measures.resolve([name for name in args.metrics if name != "loss"], network, "--metrics")
    kinds = ["acc", *(["loss"] if "loss" in args.metrics else [])]
    for name, value in evaluate.evaluate(network, sources.fitting(x, network), t, kinds, metrics).items():
        print(f"test {'accuracy' if name == 'acc' else name}: {value:.4f}")


def _settle_data(args: argparse.Namespace, origin: Mapping[str, Any]) -> None:
    """Take the data and its split from the training, unless others are asked for."""
    for name, otherwise in (("data", "mini"), ("test_share", 0.2), ("seed", 0)):
        asked, trained = getattr(args, name), origin.get(name, otherwise)
        if asked is None:
            setattr(args, name, trained)
        elif name != "data" and name in origin and asked != trained:
            warnings.warn(
                f"the network was trained with {long_name(name)} {trained}; with {asked}, pictures that it has seen are "
                "among those to test with",
                stacklevel=2,
            )


def _listed(class_names: list[str] | None) -> str:
    return "digits" if class_names is None else ", ".join(class_names)
