"""``xpdl export``: write a trained network to an ONNX file."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import xpdl
from xpdl import models


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="file of a trained network")
    parser.add_argument("file", type=Path, metavar="FILE.onnx", help="the file to write")
    last = parser.add_mutually_exclusive_group()
    for name in ("softmax", "sigmoid"):
        text = f"end with the {name} of the loss: the file computes probabilities"
        last.add_argument(f"--{name}", dest="activation", action="store_const", const=name, help=text)


def run(args: argparse.Namespace) -> None:
    """Write the file, and print its name."""
    if args.file.exists() and os.path.samefile(args.model, args.file):
        raise ValueError(f"{args.file}: is the file of the network itself; name another")
    xpdl.onnx.export(models.load_model(args.model), args.file, activation=args.activation)
    print(f"wrote {args.file}: opset {xpdl.onnx.OPSET}")
