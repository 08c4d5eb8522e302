"""``xpdl train``: train a network on digits, another data set, or pictures of one's own."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xpdl import optimizers
from xpdl.cli import sources
from xpdl.cli.given import given, long_name, mark_defaults, options_of, settle
from xpdl.cli.options import add_backend, add_distributed, add_metrics, use
from xpdl.cli.saving import save_all
from xpdl.data import augment
from xpdl.data.pictures import FITS
from xpdl.distributed import Communicator, mpi
from xpdl.distributed.failures import ending_together
from xpdl.distributed.message_passing import launched_ranks
from xpdl.models import MODELS
from xpdl.models.base import Model
from xpdl.optimizers import Optimizer
from xpdl.training import CosineLR, OneCycleLR, Trainer
from xpdl.training.checkpoint.rotation import CheckpointFiles
from xpdl.training.divergence import rise

_PRECISIONS = ("float32", "float16", "bfloat16")
_SCHEDULES: dict[str, Any] = {"one-cycle": OneCycleLR, "cosine": CosineLR, "none": None}
_OUT = Path("runs")
#: options that a run may go on with others of
_FREE = {"backend", "checkpoint_every", "distributed", "no_verify"}
#: options of several ranks alone, which a run may go on without
_OF_RANKS = ("shard_optimizer", "compress", "transport")
#: the defaults of versions that kept no options in their checkpoints
_EARLIER = {"epochs": 20, "batch_size": 32, "schedule": "none"}
#: epochs, rows of a batch, and learning rate of Adam
_OF_SETS, _OF_FOLDERS = (10, 64, 0.008), (30, 16, 0.002)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    yes_or_no = argparse.BooleanOptionalAction
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML with options by their names: epochs = 5")
    parser.add_argument("--model", choices=MODELS, default="SimpleConvNet")
    sources.add_data(parser, "mini", 0.2)
    add_backend(parser)
    parser.add_argument("--epochs", type=int, metavar="N", help="(default: 10, of pictures in a folder 30)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="(default: 64, of pictures in a folder 16)")
    parser.add_argument("--optimizer", default="adam", metavar="NAME", help="sgd, momentum, adam, ... (default: adam)")
    parser.add_argument(
        "--lr",
        type=float,
        metavar="RATE",
        help="learning rate (default: 0.008 for adam, of pictures in a folder 0.002)",
    )
    parser.add_argument(
        "--schedule",
        choices=_SCHEDULES,
        default="one-cycle",
        help="of the learning rate over all epochs, up to --lr and down to 0 by default",
    )
    parser.add_argument("--precision", choices=_PRECISIONS, default="float32", help="of the passes (default: float32)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights, dropout and order (default: 0)")
    parser.add_argument("--drop-last", action=yes_or_no, default=False, help="skip the rows that fill no batch")
    add_metrics(parser)
    add_distributed(parser)
    parser.add_argument(
        "--resume", action="store_true", help="go on with an interrupted run, with its options, where it stopped"
    )
    parser.add_argument(
        "--checkpoint-every", type=int, metavar="N", help="write a checkpoint each N steps (default: each epoch)"
    )
    parser.add_argument("--out", type=Path, default=_OUT, metavar="DIR", help="where to write (default: runs)")
    parser.add_argument(
        "--augment",
        action=yes_or_no,
        default=False,
        help="shift, rotate and scale images at random; all but digits are mirrored, too",
    )
    pictures = parser.add_argument_group("pictures in a folder", "how --data FOLDER becomes rows")
    pictures.add_argument("--size", type=int, default=32, metavar="N", help="height and width in pixels (default: 32)")
    pictures.add_argument("--grey", action=yes_or_no, default=False, help="without colours")
    pictures.add_argument(
        "--fit", choices=FITS, default="crop", help="keep the middle, or all between bars (default: crop)"
    )
    mark_defaults(parser)


def run(args: argparse.Namespace) -> int:
    """Train, and write the network and its history; 1 where they could not be written to the folder asked for."""
    asked = given(args)
    distributed = bool(asked.get("distributed"))
    if not distributed and (alone := [name for name in _OF_RANKS if asked.get(name)]):
        raise ValueError(f"{long_name(alone[0])} is for several ranks; add --distributed, or leave it out")
    if launched_ranks() > 1 and not distributed:
        raise ValueError(
            f"{launched_ranks()} processes would train the same network; --distributed shares it among them"
        )
    ranks = Communicator()
    if distributed:
        ranks = mpi(compression=asked.get("compress"), transport=asked.get("transport") or "auto")
    with ending_together(ranks):
        return _train(args, ranks)


def _train(args: argparse.Namespace, ranks: Communicator) -> int:
    """Train as one of the ranks, of which the first one prints and writes."""
    earlier = _settle_options(args) if ranks.is_first else False
    earlier, options = ranks.bcast((earlier, options_of(args)))
    settle(args, options)
    backend = use(args, ranks.local_rank)
    if ranks.is_first:
        _make_folder(args.out)  # before the work, so that it is not lost afterwards
    schedule, optimizer = _SCHEDULES[args.schedule], _optimizer(args)
    source = sources.load(args, {"size": args.size, "channels": 1 if args.grey else 3, "fit": args.fit})
    network = _new_model(args, source)
    (x, t), (x_test, t_test) = source.train, source.test
    store = checkpoints(args)
    trainer = Trainer(
        network,
        sources.fitting(x, network),
        t,
        sources.fitting(x_test, network),
        t_test,
        epochs=args.epochs,
        mini_batch_size=args.batch_size,
        optimizer=optimizer,
        # all rows to test with, and as many of those to train with
        evaluate_sample_num_per_epoch=None if earlier else x_test.shape[0],
        callbacks=[] if schedule is None else [schedule()],
        augment=_transforms(source) if args.augment else None,
        seed=args.seed,
        drop_last=args.drop_last,
        metrics=args.metrics,
        precision=None if args.precision == "float32" else args.precision,
        checkpoint=store,
        checkpoint_every=args.checkpoint_every,
        communicator=ranks,
        shard_optimizer=args.shard_optimizer,
    )
    if not ranks.is_first:
        with _without_overflow_warnings():
            trainer.train()
        return 0
    passes = "" if trainer.precision is None else f", passes in {trainer.precision.dtype}"
    scheduled = "" if schedule is None else f", {args.schedule}"
    print(
        f"{args.model} on {args.data}: {x.shape[0]} training and {x_test.shape[0]} test images; "
        f"{backend.name}, {backend.dtype}{passes}; {optimizer!r}{scheduled}, batch {args.batch_size}, seed {args.seed}",
        flush=True,
    )
    with store.locked():
        if not args.resume and (old := store.set_aside()) is not None:
            print(f"an earlier run was not finished; its checkpoint is kept as {old}", flush=True)
        store.notes = {} if earlier else _kept(args)
        start = time.perf_counter()
        with _without_overflow_warnings():
            history = trainer.train()
        seconds = time.perf_counter() - start
        writers = {f"{args.model}.safetensors": network.save, f"{args.model}.history.json": history.save}
        folder = save_all(writers, args.out)
        if folder == args.out:
            store.remove()
    model_file, history_file = (folder / name for name in writers)
    print(f"wrote {model_file} and {history_file} after {seconds:.1f} s of training")
    print(f"test accuracy: {history.test_acc_list[-1]:.4f}")
    # the trainer has warned of a loss that rose
    return 0 if folder == args.out and rise(history) is None else 1


@contextlib.contextmanager
def _without_overflow_warnings() -> Iterator[None]:
    """NumPy warns on the way to a loss that is not finite, at which the trainer stops and says where."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def checkpoints(args: argparse.Namespace) -> CheckpointFiles:
    """Return the files that a run writes while it trains."""
    return CheckpointFiles(Path(args.out) / f"{args.model}.checkpoint", max_checkpoints=2)


def is_resumable(args: argparse.Namespace) -> bool:
    """Return whether ``--resume`` would find a run."""
    return isinstance(args.model, str) and checkpoints(args).exist()


def _settle_options(args: argparse.Namespace) -> bool:
    """Fill in the options that are not given; return whether a run of an earlier version goes on, which kept none.

    Raises
    ------
    ValueError
        If those given contradict the run that goes on, or it is not clear which that is.
    FileNotFoundError
        If there is none.
    """
    asked = given(args)
    if not asked.get("resume"):
        settle(args, asked)
        return False
    args.out = asked.get("out", _OUT)
    args.model = asked.get("model") or _interrupted_model(args.out)
    store = checkpoints(args)
    if not store.exist():
        raise FileNotFoundError(f"{store.path}: there is no interrupted run to go on with; leave out --resume")
    kept = store.read_notes()
    free = _FREE if kept.get("schedule") != "none" else {*_FREE, "epochs"}
    other = [name for name, value in kept.items() if name in asked and name not in free and asked[name] != value]
    if other:
        differences = "; ".join(f"{name.replace('_', ' ')} {kept[name]} there, {asked[name]} here" for name in other)
        raise ValueError(
            f"{store.path}: belongs to another run ({differences}); leave out {', '.join(map(long_name, other))} to go on "
            "with it, or --resume to begin anew"
        )
    settle(args, {**(kept or _EARLIER), **asked})
    if not kept and args.lr is None and args.optimizer.lower() == "adam":
        args.lr = 0.002
    return not kept


def _interrupted_model(out: Path) -> str:
    """Return the model of the only interrupted run in a folder."""
    found = [name for name in MODELS if CheckpointFiles(out / f"{name}.checkpoint", max_checkpoints=2).exist()]
    if not found:
        raise FileNotFoundError(f"{out}: there is no interrupted run to go on with; leave out --resume")
    if len(found) > 1:
        raise ValueError(f"{out}: has interrupted runs of {', '.join(found)}; name one with --model")
    return found[0]


def _kept(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that a run keeps in its checkpoints, for ``--resume``."""
    others = ("resume", "out", "distributed", *_OF_RANKS)
    return {name: value for name, value in options_of(args).items() if name not in others}


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"{out}: is not a folder, nor can be; choose another with --out") from None
    if not os.access(out, os.W_OK):
        raise PermissionError(f"{out}: no permission to write there; choose another folder with --out")


def _optimizer(args: argparse.Namespace) -> Optimizer:
    """Make the optimizer, and fill in what depends on the data: folders have fewer rows than data sets."""
    epochs, batch_size, rate = _OF_SETS if args.data in sources.SETS else _OF_FOLDERS
    args.epochs = epochs if args.epochs is None else args.epochs
    args.batch_size = batch_size if args.batch_size is None else args.batch_size
    if args.lr is None and args.optimizer.lower() == "adam":
        args.lr = rate
    optimizer = optimizers.get(args.optimizer, **({} if args.lr is None else {"lr": args.lr}))
    args.lr = optimizer.lr
    return optimizer


def _new_model(args: argparse.Namespace, source: sources.Source) -> Model:
    """Make the model for the images and classes of a source."""
    name = args.model
    shape = tuple(source.train[0].shape[1:])
    classes = 10 if source.class_names is None else len(source.class_names)
    rows = {"input_size": math.prod(shape), "output_size": classes}
    arguments: dict[str, dict[str, Any]] = {
        "TwoLayerNet": {**rows, "hidden_size": 50},
        "MultiLayerNet": {**rows, "hidden_size_list": [100, 100]},
        "MultiLayerNetExtend": {**rows, "hidden_size_list": [100, 100], "use_batchnorm": True},
    }
    model = MODELS[name](**arguments.get(name, {"input_dim": shape, "output_size": classes}), seed=args.seed)
    model.class_names, model.preparation = source.class_names, source.preparation
    model.origin = {"data": args.data}
    if source.preparation is not None:
        model.origin.update(test_share=args.test_share, seed=args.seed)
    return model


def _transforms(source: sources.Source) -> list[augment.Transform]:
    """Return the augmentation of ``--augment``: digits are not mirrored."""
    transforms: list[augment.Transform] = [augment.Shift(2), augment.Rotate(10), augment.Scale(0.9, 1.1)]
    return transforms if source.class_names is None else [augment.Flip(), *transforms]
