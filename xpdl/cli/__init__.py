"""The command line: what works here, training, and using what was trained."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import xpdl
from xpdl.backends.device_info import details
from xpdl.bench import command as bench_command
from xpdl.cli import demo, evaluate, export, generate, predict, train
from xpdl.cli.options import on_own_gpu
from xpdl.distributed import Communicator, mpi
from xpdl.distributed.message_passing import availability, launched, launched_ranks
from xpdl.io.os_errors import in_words

_WRONG_INPUT = (ValueError, TypeError, OSError, ArithmeticError, ImportError, xpdl.BackendError)


class _Parser(argparse.ArgumentParser):
    #: where arguments come from, if not from the command line
    place = ""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {self.place}{message}; {self.prog} --help says what there is\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0; 1 if some pictures could not be read, or a trained network not be written to the folder asked for; 2 for wrong input,
    with one line that says what; 130 for ctrl-C.

    The GPU report has codes of its own, see `xpdl.bench.gpu_report.main`.
    """
    parser = _parser()
    _print_characters_of_any_encoding()
    try:
        args, unknown = parser.parse_known_args(argv)
    except SystemExit:  # after --help
        _drop_stuck_output()
        raise
    if unknown:  # `parse_args` would name the program and its help, and not the command's
        parser.prog = f"{parser.prog} {args.command}"
        parser.error(f"there is no {unknown[0]}")
    try:
        _refuse_ranks(args)
        with _warnings_in_a_line(args.command):
            code: int = args.run(args) or 0
        if sys.stdout is not None:  # closed by the parent process
            sys.stdout.flush()
    except BrokenPipeError:
        # the reader closed the pipe
        _drop_stuck_output()
        return 1
    except KeyboardInterrupt:
        if args.debug:
            raise
        resumable = args.command == "train" and train.is_resumable(args)
        resume = "; --resume goes on from there" if resumable else ""
        print(f"interrupted{resume}", file=sys.stderr)
        return 130
    except _WRONG_INPUT as error:
        if args.debug:
            raise
        print(f"xpdl {args.command}: error: {in_words(error)}", file=sys.stderr)
        _drop_stuck_output()
        return 2
    return code


def _refuse_ranks(args: argparse.Namespace) -> None:
    """Raise `ValueError` where processes that a launcher of MPI started would all do the same work."""
    # a file of options may ask `train` for several ranks
    shares = args.command in ("info", "train") or getattr(args, "distributed", False)
    if launched_ranks() > 1 and not shares:
        raise ValueError(
            f"{launched_ranks()} processes would all do the same; start one, without mpiexec"
            + (", or add --distributed" if "distributed" in args else "")
        )


@contextlib.contextmanager
def _warnings_in_a_line(command: str) -> Iterator[None]:
    """Print a warning without the place in this library, which the user has not written."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"xpdl {command}: warning: {' '.join(str(message).split())}", file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _print_characters_of_any_encoding() -> None:
    """Let standard output show what its encoding lacks, such as names of classes, as standard error does: ``\\u732b``."""
    if getattr(sys.stdout, "errors", "") == "strict":
        with contextlib.suppress(AttributeError, OSError, ValueError):  # of another kind, or closed
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _drop_stuck_output() -> None:
    """Drop the rest of the output after a broken pipe: closing it would fail once more at exit."""
    if sys.stdout is None:  # closed by the parent process
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

    text = (
        "Train a network on handwritten digits or pictures of your own; without arguments, a conv net on 6,000 digits."
    )
    train.add_arguments(command("train", train.run, text))
    evaluate.add_arguments(command("evaluate", evaluate.run, "Test accuracy of a trained network."))
    text = "Recognise digits, or things, in pictures (needs the extra 'images')."
    predict.add_arguments(command("predict", predict.run, text))
    text = "Write a trained network to an ONNX file (needs the extra 'onnx')."
    export.add_arguments(command("export", export.run, text))
    generate.add_arguments(command("generate", generate.run, "Go on with a text, by a trained GPT or RnnLm."))
    demo.add_arguments(command("demo", demo.run, "Draw a digit in the browser, and see what a network makes of it."))
    bench_command.add_arguments(command("bench", bench_command.run, "Time training steps, here and against PyTorch."))
    return parser


def _info(args: argparse.Namespace) -> None:
    ranks = mpi() if launched() else Communicator()
    backend = on_own_gpu(ranks.local_rank)
    place = f"{backend.name} on {backend.device}, process {os.getpid()} on {platform.node()}"
    places = ranks.allgather(f"{place}; gradients are {ranks.transport_of(backend).describe()}")
    if not ranks.is_first:
        return
    print(f"xpdl {xpdl.__version__}, Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs")
    for name, answer in xpdl.available_backends().items():
        # looking whether it works has imported it
        version = getattr(sys.modules.get(name), "__version__", "")
        print(f"{name:<17} {answer}" + (f"  ({version})" if version else ""))
        if answer == "ok":
            for what, value in details(name).items():
                print(f"  {what}: {value}")
    print(f"{'mpi':<17} {availability()}")
    for rank, place in enumerate(places if ranks.size > 1 else []):
        print(f"  rank {rank}: {place}")
