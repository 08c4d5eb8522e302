"""Options that several commands share."""

from __future__ import annotations

import argparse

import xpdl
from xpdl.backends import Backend


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


def use(args: argparse.Namespace) -> Backend:
    """Take the backend of ``--backend`` into use, and return it."""
    if args.backend:
        xpdl.use(args.backend)
    return xpdl.get_backend()
