"""``xpdl predict``: classify pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

import xpdl
from xpdl import models
from xpdl.backends import asnumpy
from xpdl.cli.options import add_backend, use
from xpdl.data.images import load_digit
from xpdl.data.pictures import prepared
from xpdl.io.os_errors import in_words
from xpdl.layers import SoftmaxWithLoss
from xpdl.models.base import Model
from xpdl.training import measures

_SHOWN = 3  # classes of a picture, with their probabilities


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("checkpoint", type=Path, help="file of a trained network")
    parser.add_argument("images", type=Path, nargs="+", metavar="image", help="a digit or thing each, PNG or the like")
    parser.add_argument(
        "--sure", type=float, default=0.5, metavar="P", help="'unsure' below this probability of a class (default: 0.5)"
    )
    parser.add_argument("--show", type=Path, metavar="FILE", help="draw what the network saw (needs the extra 'plot')")
    add_backend(parser)


def run(args: argparse.Namespace) -> int:
    """Print the classes of each picture, and return 1 if some cannot be read."""
    use(args)
    if not 0 <= args.sure <= 1:
        raise ValueError(f"--sure must be a probability from 0 to 1, got {args.sure}")
    network = models.load_model(args.checkpoint)
    rows, titles = [], []
    for path in args.images:
        try:
            row = _row(path, network)
        except (ValueError, OSError) as error:
            print(f"xpdl predict: error: {in_words(error)}", file=sys.stderr, flush=True)
            continue
        answer = _answer(_outputs(network, row), network, args.sure)
        print(f"{path}: {answer}", flush=True)
        rows.append(row)
        titles.append(answer.partition(" (")[0])
    if args.show is not None and rows:
        xpdl.plots.images(np.stack(rows), titles=titles).savefig(args.show, dpi=120)
        print(f"wrote {args.show}")
    return 1 if len(rows) < len(args.images) else 0


def _row(path: Path, network: Model) -> Any:
    """Return a picture as the network takes it: as it was prepared for, or as a digit of MNIST."""
    shape = network.input_shape or ()
    row = load_digit(path) if network.preparation is None else prepared(path, network.preparation, "xpdl predict")
    if row.size != np.prod(shape):
        raise ValueError(f"{path}: the network takes rows of shape {shape}, a picture prepared for it has {row.shape}")
    return row.reshape(shape)


def _outputs(network: Model, row: Any) -> Any:
    """Return what the network says of one row: probabilities that fit its loss, or the numbers of a regression."""
    scores = network.predict(xpdl.asarray(row[None]))
    loss = network.last_layer or SoftmaxWithLoss()
    return asnumpy(loss.activation(scores)).reshape(-1)


def _answer(outputs: Any, network: Model, sure: float) -> str:
    """Return the classes that are most likely and their probabilities, or the numbers of a regression."""
    if measures.kind_of(network) == "values":
        return ", ".join(f"{value:.4g}" for value in outputs)
    names = network.class_names or [str(k) for k in range(outputs.size)]
    if outputs.size == 1:  # yes or no
        outputs = np.concatenate([1.0 - outputs, outputs])
        names = network.class_names or ["no", "yes"]
    order = np.argsort(-outputs, kind="stable")
    named = [f"{names[k]} {outputs[k]:.3f}" for k in order[:_SHOWN]]
    if outputs[order[0]] < sure:
        return f"unsure ({', '.join(named)})"
    if network.class_names is None:
        return f"{names[order[0]]} (probability {outputs[order[0]]:.3f})"
    return f"{names[order[0]]} ({', '.join(named)})"
