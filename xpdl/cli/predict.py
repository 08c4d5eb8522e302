"""``xpdl predict``: classify pictures."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import xpdl
from xpdl import models
from xpdl.backends import asnumpy
from xpdl.cli.options import add_backend, newest, use
from xpdl.data.folder import SUFFIXES, pictures_in
from xpdl.data.images import load_digit
from xpdl.data.pictures import prepared
from xpdl.io.os_errors import in_words
from xpdl.layers import SoftmaxWithLoss
from xpdl.models.base import Model
from xpdl.training import measures

_SHOWN = 3  # classes of a picture, with their probabilities


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="[MODEL] IMAGE",
        help="file of a trained network (default: the newest in runs/), then pictures, or folders of them",
    )
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
    model, images = _model_and_images(args.files)
    _require_new(args.show, [model, *images])
    network = models.load_model(model)
    rows, titles = [], []
    for path in images:
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
    return 1 if len(rows) < len(images) else 0


def _model_and_images(files: Sequence[Path]) -> tuple[Path, list[Path]]:
    """Return the file of the network and the pictures, those in folders too."""
    is_picture = files[0].is_dir() or files[0].suffix.lower() in SUFFIXES
    model, named = (newest(), files) if is_picture else (files[0], files[1:])
    images = [one for file in named for one in (pictures_in(file) if file.is_dir() else [file])]
    if not images:
        where = f" in {named[0]}" if named else f"; xpdl predict {model} PICTURE recognises one"
        raise ValueError(f"there is no picture{where}")
    return model, images


def _require_new(shown: Path | None, files: Sequence[Path]) -> None:
    """Refuse to draw over a file that is read."""
    if shown is not None and shown.exists() and any(file.exists() and os.path.samefile(shown, file) for file in files):
        raise ValueError(f"--show {shown}: is one of the files to read; name another to draw to")


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
