"""Helpers of all examples: options, the digits, trained weights, and where figures go."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, TypeVar

import xpdl
from xpdl.backends.namespaces import Array

# The rows of all MNIST in ratio to those in the package.
MNIST_TIMES = 12
# Seconds that are worth a word before.
LONG = 120

Split = tuple[Array, Array]
Net = TypeVar("Net", bound=xpdl.Sequential)


def options(
    doc: str | None, argv: list[str] | None = None, *, data: bool = False, weights: bool = False, seconds: float = 0
) -> argparse.Namespace:
    """The options of an example; the backend and the seed that they name are in force afterwards.

    `seconds` are those of its full form with the 6,000 digits on one core: two minutes or more are announced.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--backend", default=os.environ.get("XPDL_BACKEND") or "numpy", help="numpy, cupy, torch, jax..."
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/examples"), help="the folder for figures and weights")
    parser.add_argument(
        "--short", action="store_true", help="so short that it shows little, to see that all of it runs"
    )
    if data:
        parser.add_argument("--data", choices=["mini", "mnist"], default="mini", help="6,000 digits, or all 60,000")
    if weights:
        parser.add_argument("--weights", type=Path, help="a file of trained weights, instead of training first")
    args = parser.parse_args(argv)
    xpdl.use(args.backend)
    xpdl.seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    if getattr(args, "data", "mini") == "mnist":
        seconds *= MNIST_TIMES
    if seconds >= LONG and not args.short and not getattr(args, "weights", None):
        print(f"takes about {round(seconds / 60)} minutes on one core", flush=True)
    return args


def digits(
    args: argparse.Namespace, flatten: bool = True, train: int | None = None, test: int | None = None
) -> tuple[Split, Split]:
    """``(x_train, t_train), (x_test, t_test)``: as many rows of the digits as asked for, by default all."""
    load = xpdl.load_mnist if getattr(args, "data", "mini") == "mnist" else xpdl.load_mini_mnist
    (x, t), (x_test, t_test) = load(flatten=flatten)
    return (x[:train, ...], t[:train]), (x_test[:test, ...], t_test[:test])


def trained(args: argparse.Namespace, net: Net, data: tuple[Split, Split], epochs: int, **how: Any) -> Net:
    """`net` with the weights of ``--weights``, or else trained now."""
    if args.weights:
        net.load_params(args.weights)
        return net
    how = {"optimizer": xpdl.Adam(lr=0.003), "mini_batch_size": 50, **how}
    xpdl.Trainer(net, *data[0], *data[1], epochs=epochs, seed=args.seed, verbose=not args.short, **how).train()
    return net


def save(figure: Any, args: argparse.Namespace, name: str) -> None:
    """Write a figure into the folder of ``--out``, and say where."""
    path = args.out / f"{name}.png"
    figure.savefig(path, dpi=120)
    print(f"figure: {path}")
