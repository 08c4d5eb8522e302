"""Options that several commands share, and those of several ranks."""

from __future__ import annotations

import argparse
from pathlib import Path

import xpdl
from xpdl.backends import Backend
from xpdl.backends.availability import gpu_of_rank
from xpdl.distributed.choice import TRANSPORTS


def add_metrics(parser: argparse.ArgumentParser) -> None:
    """Add ``--metrics``."""
    parser.add_argument(
        "--metrics",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAME,...",
        help="more to measure: f1, precision_macro, top_5_accuracy, roc_auc, ...",
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add ``--backend``."""
    parser.add_argument(
        "--backend", metavar="NAME", help="numpy, cupy, torch, jax, auto (default: XPDL_BACKEND, else numpy)"
    )


def add_distributed(parser: argparse.ArgumentParser) -> None:
    """Add ``--distributed`` and the options of several ranks."""
    parser.add_argument(
        "--distributed",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="share each batch among the ranks that mpiexec started",
    )
    parser.add_argument(
        "--shard-optimizer",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="each rank keeps a share of the optimizer's state; with --distributed",
    )
    parser.add_argument(
        "--compress", choices=("float16",), help="round gradients in messages, half as long; with --distributed"
    )
    parser.add_argument(
        "--transport",
        choices=TRANSPORTS,
        help="way of gradients between GPUs (default: auto, the first that can be used); with --distributed",
    )


def use(args: argparse.Namespace, local_rank: int = 0) -> Backend:
    """Take the backend of ``--backend`` into use, on the GPU of a rank of this machine, and return it."""
    if args.backend:
        xpdl.use(args.backend)
    return on_own_gpu(local_rank)


def on_own_gpu(local_rank: int) -> Backend:
    """Take the GPU of a rank of this machine into use, where the backend has several, and return the backend."""
    gpu = gpu_of_rank(xpdl.get_backend().name, local_rank)
    if gpu is not None:
        xpdl.use(xpdl.get_backend().name, device=gpu)
    return xpdl.get_backend()


def newest() -> Path:
    """Return the file of the network that was trained last, in ``runs/``."""
    folder = Path("runs")
    files = sorted(folder.glob("*.safetensors"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise FileNotFoundError(f"no trained network in {folder}/; name its file, or train one with 'xpdl train'")
    return files[-1]
