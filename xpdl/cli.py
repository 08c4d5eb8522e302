"""The command line: what works here, training, and using what was trained."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import xpdl
from xpdl import data, models, optimizers
from xpdl.backends import Backend, asnumpy
from xpdl.backends.device_info import details
from xpdl.bench import command as bench_command
from xpdl.data.images import load_digit
from xpdl.functional import softmax
from xpdl.models import MODELS
from xpdl.training import Trainer, evaluate, measures
from xpdl.training.checkpoint.rotation import CheckpointFiles

_DATA: dict[str, Any] = {
    "mini": data.load_mini_mnist,
    "mnist": data.load_mnist,
    "fashion-mnist": data.load_fashion_mnist,
}
_PRECISIONS = ("float32", "float16", "bfloat16")
_WRONG_INPUT = (ValueError, TypeError, OSError, ArithmeticError, ImportError, xpdl.BackendError)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; {self.prog} --help says what there is\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for wrong input with one line that says what, 130 for ctrl-C.

    The GPU report has codes of its own, see `xpdl.bench.gpu_report.main`.
    """
    args = _parser().parse_args(argv)
    try:
        code: int = args.run(args) or 0
        if sys.stdout is not None:  # closed by whoever started this
            sys.stdout.flush()
    except BrokenPipeError:
        # whoever read the output has seen enough
        _drop_stuck_output()
        return 1
    except KeyboardInterrupt:
        if args.debug:
            raise
        resumable = args.command == "train" and _checkpoints(args).exist()
        resume = "; --resume goes on from there" if resumable else ""
        print(f"interrupted{resume}", file=sys.stderr)
        return 130
    except _WRONG_INPUT as error:
        if args.debug:
            raise
        print(f"xpdl {args.command}: error: {' '.join(str(error).split())}", file=sys.stderr)
        _drop_stuck_output()
        return 2
    return code


def _drop_stuck_output() -> None:
    """Where standard output takes no more, drop what is left: closing it would fail once more at exit."""
    if sys.stdout is None:  # closed by whoever started this
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="xpdl", description="Deep learning on plain arrays.")
    parser.add_argument("--version", action="version", version=f"xpdl {xpdl.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        added.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return added

    command("info", _info, "Which array libraries work here, and why the others do not.")

    train = command(
        "train", _train, "Train a network on handwritten digits; without arguments, a conv net on 6,000 of them."
    )
    train.add_argument("--model", choices=MODELS, default="SimpleConvNet")
    _add_data(train)
    _add_backend(train)
    train.add_argument("--epochs", type=int, default=20, metavar="N")
    train.add_argument("--batch-size", type=int, default=32, metavar="N")
    train.add_argument("--optimizer", default="adam", metavar="NAME", help="sgd, momentum, adam, ... (default: adam)")
    train.add_argument(
        "--lr", type=float, metavar="RATE", help="learning rate (default: 0.002 for adam, else the optimizer's)"
    )
    train.add_argument("--precision", choices=_PRECISIONS, default="float32", help="of the passes (default: float32)")
    train.add_argument("--seed", type=int, default=0, metavar="N", help="of weights, dropout and order (default: 0)")
    train.add_argument("--drop-last", action="store_true", help="skip the rows of an epoch that fill no batch")
    _add_metrics(train)
    train.add_argument("--resume", action="store_true", help="go on with an interrupted run where it stopped")
    train.add_argument(
        "--checkpoint-every", type=int, metavar="N", help="write a checkpoint each N steps (default: each epoch)"
    )
    train.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="where to write (default: runs)")

    evaluate = command("evaluate", _evaluate, "Test accuracy of a trained network.")
    evaluate.add_argument("checkpoint", type=Path, nargs="?", help="its file (default: the newest in runs/)")
    _add_metrics(evaluate)
    _add_data(evaluate)
    _add_backend(evaluate)

    predict = command("predict", _predict, "Recognise digits in pictures (needs the extra 'images').")
    predict.add_argument("checkpoint", type=Path, help="file of a trained network")
    predict.add_argument("images", type=Path, nargs="+", metavar="image", help="one digit each, PNG or the like")
    _add_backend(predict)
    bench_command.add_arguments(command("bench", bench_command.run, "Time training steps, here and against PyTorch."))
    return parser


def _add_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metrics",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAME,...",
        help="more to measure: f1, precision_macro, top_5_accuracy, roc_auc, ...",
    )


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", choices=_DATA, default="mini", help="mini: in the package; others: in XPDL_DATA, or downloaded"
    )
    parser.add_argument(
        "--no-verify", action="store_true", help="take files in XPDL_DATA that are not those of the data set named"
    )


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", metavar="NAME", help="numpy, cupy, torch, jax, auto (default: XPDL_BACKEND, else numpy)"
    )


def _use(args: argparse.Namespace) -> Backend:
    if args.backend:
        xpdl.use(args.backend)
    return xpdl.get_backend()


def _info(args: argparse.Namespace) -> None:
    print(f"xpdl {xpdl.__version__}, Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs")
    for name, answer in xpdl.available_backends().items():
        # looking whether it works has imported it
        version = getattr(sys.modules.get(name), "__version__", "")
        print(f"{name:<17} {answer}" + (f"  ({version})" if version else ""))
        if answer == "ok":
            for what, value in details(name).items():
                print(f"  {what}: {value}")


def _train(args: argparse.Namespace) -> None:
    backend = _use(args)
    # before the work, so that it is not lost afterwards
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"{args.out}: is not a folder, nor can be; choose another with --out") from None
    if not os.access(args.out, os.W_OK):
        raise PermissionError(f"{args.out}: no permission to write there; choose another folder with --out")
    rate = 0.002 if args.lr is None and args.optimizer.lower() == "adam" else args.lr
    param = {} if rate is None else {"lr": rate}
    optimizer = optimizers.get(args.optimizer, **param)
    network = _new_model(args.model, args.seed)
    train, test = _loaded(args, network)
    checkpoints = _checkpoints(args)
    if args.resume and not checkpoints.exist():
        raise FileNotFoundError(f"{checkpoints.path}: there is no interrupted run to go on with; leave out --resume")
    trainer = Trainer(
        network,
        *train,
        *test,
        epochs=args.epochs,
        mini_batch_size=args.batch_size,
        optimizer=optimizer,
        seed=args.seed,
        drop_last=args.drop_last,
        metrics=args.metrics,
        precision=None if args.precision == "float32" else args.precision,
        checkpoint=checkpoints,
        checkpoint_every=args.checkpoint_every,
    )
    passes = "" if trainer.precision is None else f", passes in {trainer.precision.dtype}"
    print(
        f"{args.model} on {args.data}: {train[0].shape[0]} training and {test[0].shape[0]} test images; "
        f"{backend.name}, {backend.dtype}{passes}; {optimizer!r}, batch {args.batch_size}, seed {args.seed}",
        flush=True,
    )
    with checkpoints.locked():
        if not args.resume and (old := checkpoints.set_aside()) is not None:
            print(f"an earlier run was not finished; its checkpoint is kept as {old}", flush=True)
        start = time.perf_counter()
        with warnings.catch_warnings():
            # NumPy warns of overflow on the way to a loss that is not finite, at which the trainer stops and says where
            warnings.simplefilter("ignore", RuntimeWarning)
            warnings.showwarning = _show_warning
            history = trainer.train()
        seconds = time.perf_counter() - start
        model_file, history_file = args.out / f"{args.model}.safetensors", args.out / f"{args.model}.history.json"
        network.save_params(model_file)
        history.save(history_file)
        checkpoints.remove()
    print(f"wrote {model_file} and {history_file} after {seconds:.1f} s of training")
    print(f"test accuracy: {history.test_acc_list[-1]:.4f}")


def _checkpoints(args: argparse.Namespace) -> CheckpointFiles:
    return CheckpointFiles(Path(args.out) / f"{args.model}.checkpoint", max_checkpoints=2)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """In one line, without the place in this library that the user has not written."""
    print(f"xpdl train: warning: {message}", file=sys.stderr, flush=True)


def _new_model(name: str, seed: int) -> Any:
    """A model of that name for 28x28 images of ten classes."""
    arguments: dict[str, dict[str, Any]] = {
        "TwoLayerNet": {"input_size": 784, "hidden_size": 50, "output_size": 10},
        "MultiLayerNet": {"input_size": 784, "hidden_size_list": [100, 100], "output_size": 10},
        "MultiLayerNetExtend": {
            "input_size": 784,
            "hidden_size_list": [100, 100],
            "output_size": 10,
            "use_batchnorm": True,
        },
    }
    return MODELS[name](**{**arguments.get(name, {}), "seed": seed})


def _loaded(args: argparse.Namespace, network: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """(x_train, t_train), (x_test, t_test) of the data set that was asked for."""
    if args.data == "mini" and args.no_verify:
        raise ValueError("--no-verify is for files in XPDL_DATA, and --data mini is in the package; leave it out")
    options = {} if args.data == "mini" else {"verify": not args.no_verify}
    train, test = _DATA[args.data](flatten=len(network.input_shape or ()) == 1, **options)
    return train, test


def _evaluate(args: argparse.Namespace) -> None:
    _use(args)
    network = models.load_model(args.checkpoint or _newest(Path("runs")))
    _, (x, t) = _loaded(args, network)
    asked = measures.resolve([name for name in args.metrics if name != "loss"], network, "--metrics")
    kinds = ["acc", *(["loss"] if "loss" in args.metrics else [])]
    for name, value in evaluate.evaluate(network, x, t, kinds, asked).items():
        print(f"test {'accuracy' if name == 'acc' else name}: {value:.4f}")


def _newest(folder: Path) -> Path:
    files = sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise FileNotFoundError(f"no trained network in {folder}/; name its file, or train one with 'xpdl train'")
    return files[-1]


def _predict(args: argparse.Namespace) -> None:
    _use(args)
    network = models.load_model(args.checkpoint)
    for path in args.images:
        x = xpdl.asarray(load_digit(path).reshape(1, *(network.input_shape or ())))
        probabilities = asnumpy(softmax(network.predict(x)))[0]
        digit = int(probabilities.argmax())
        print(f"{path}: {digit} (probability {probabilities[digit]:.3f})", flush=True)
