"""``xpdl train``: train a network on digits, another data set, or pictures of one's own."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from xpdl import optimizers
from xpdl.cli import sources
from xpdl.cli.options import add_backend, add_metrics, use
from xpdl.data import augment
from xpdl.data.pictures import FITS
from xpdl.models import MODELS, Sequential
from xpdl.training import Trainer
from xpdl.training.checkpoint.rotation import CheckpointFiles

_PRECISIONS = ("float32", "float16", "bfloat16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--model", choices=MODELS, default="SimpleConvNet")
    sources.add_data(parser)
    add_backend(parser)
    parser.add_argument("--epochs", type=int, default=20, metavar="N")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N")
    parser.add_argument("--optimizer", default="adam", metavar="NAME", help="sgd, momentum, adam, ... (default: adam)")
    parser.add_argument(
        "--lr", type=float, metavar="RATE", help="learning rate (default: 0.002 for adam, else the optimizer's)"
    )
    parser.add_argument("--precision", choices=_PRECISIONS, default="float32", help="of the passes (default: float32)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights, dropout and order (default: 0)")
    parser.add_argument("--drop-last", action="store_true", help="skip the rows of an epoch that fill no batch")
    add_metrics(parser)
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run where it stopped")
    parser.add_argument(
        "--checkpoint-every", type=int, metavar="N", help="write a checkpoint each N steps (default: each epoch)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="where to write (default: runs)")
    parser.add_argument(
        "--augment", action="store_true", help="shift, rotate and scale images at random, and mirror things"
    )
    pictures = parser.add_argument_group("pictures in a folder", "how --data FOLDER becomes rows")
    pictures.add_argument("--size", type=int, default=32, metavar="N", help="height and width in pixels (default: 32)")
    pictures.add_argument("--grey", action="store_true", help="without colours")
    pictures.add_argument(
        "--fit", choices=FITS, default="crop", help="keep the middle, or all between bars (default: crop)"
    )


def run(args: argparse.Namespace) -> None:
    """Train, and write the network and its history."""
    backend = use(args)
    _make_folder(args.out)  # before the work, so that it is not lost afterwards
    rate = 0.002 if args.lr is None and args.optimizer.lower() == "adam" else args.lr
    optimizer = optimizers.get(args.optimizer, **({} if rate is None else {"lr": rate}))
    source = sources.load(args, {"size": args.size, "channels": 1 if args.grey else 3, "fit": args.fit})
    network = _new_model(args.model, source, args.seed)
    (x, t), (x_test, t_test) = source.train, source.test
    store = checkpoints(args)
    if args.resume and not store.exist():
        raise FileNotFoundError(f"{store.path}: there is no interrupted run to go on with; leave out --resume")
    trainer = Trainer(
        network,
        sources.fitting(x, network),
        t,
        sources.fitting(x_test, network),
        t_test,
        epochs=args.epochs,
        mini_batch_size=args.batch_size,
        optimizer=optimizer,
        augment=_transforms(source) if args.augment else None,
        seed=args.seed,
        drop_last=args.drop_last,
        metrics=args.metrics,
        precision=None if args.precision == "float32" else args.precision,
        checkpoint=store,
        checkpoint_every=args.checkpoint_every,
    )
    passes = "" if trainer.precision is None else f", passes in {trainer.precision.dtype}"
    print(
        f"{args.model} on {args.data}: {x.shape[0]} training and {x_test.shape[0]} test images; "
        f"{backend.name}, {backend.dtype}{passes}; {optimizer!r}, batch {args.batch_size}, seed {args.seed}",
        flush=True,
    )
    with store.locked():
        if not args.resume and (old := store.set_aside()) is not None:
            print(f"an earlier run was not finished; its checkpoint is kept as {old}", flush=True)
        start = time.perf_counter()
        with warnings.catch_warnings():
            # NumPy warns of overflow on the way to a loss that is not finite, at which the trainer stops and says where
            warnings.simplefilter("ignore", RuntimeWarning)
            warnings.showwarning = _show_warning
            history = trainer.train()
        seconds = time.perf_counter() - start
        model_file, history_file = args.out / f"{args.model}.safetensors", args.out / f"{args.model}.history.json"
        network.save(model_file)
        history.save(history_file)
        store.remove()
    print(f"wrote {model_file} and {history_file} after {seconds:.1f} s of training")
    print(f"test accuracy: {history.test_acc_list[-1]:.4f}")


def checkpoints(args: argparse.Namespace) -> CheckpointFiles:
    """Return the files that a run writes while it trains."""
    return CheckpointFiles(Path(args.out) / f"{args.model}.checkpoint", max_checkpoints=2)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"{out}: is not a folder, nor can be; choose another with --out") from None
    if not os.access(out, os.W_OK):
        raise PermissionError(f"{out}: no permission to write there; choose another folder with --out")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning in one line, without the place in this library that the user has not written."""
    print(f"xpdl train: warning: {message}", file=sys.stderr, flush=True)


def _new_model(name: str, source: sources.Source, seed: int) -> Sequential:
    """Make a model of that name for the images and classes of a source."""
    shape = tuple(source.train[0].shape[1:])
    classes = 10 if source.class_names is None else len(source.class_names)
    rows = {"input_size": math.prod(shape), "output_size": classes}
    arguments: dict[str, dict[str, Any]] = {
        "TwoLayerNet": {**rows, "hidden_size": 50},
        "MultiLayerNet": {**rows, "hidden_size_list": [100, 100]},
        "MultiLayerNetExtend": {**rows, "hidden_size_list": [100, 100], "use_batchnorm": True},
    }
    model = MODELS[name](**arguments.get(name, {"input_dim": shape, "output_size": classes}), seed=seed)
    model.class_names, model.preparation = source.class_names, source.preparation
    return model


def _transforms(source: sources.Source) -> list[augment.Transform]:
    """Return the augmentation of ``--augment``: digits are not mirrored."""
    transforms: list[augment.Transform] = [augment.Shift(2), augment.Rotate(10), augment.Scale(0.9, 1.1)]
    return transforms if source.class_names is None else [augment.Flip(), *transforms]
