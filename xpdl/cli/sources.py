"""Rows to train and to test with: a data set by name, or a folder of pictures."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xpdl import data
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.data.cifar10 import CIFAR10_CLASSES
from xpdl.data.fashion_mnist import FASHION_MNIST_CLASSES

#: name of ``--data`` -> function that loads it
SETS: dict[str, Any] = {
    "mini": data.load_mini_mnist,
    "mnist": data.load_mnist,
    "fashion-mnist": data.load_fashion_mnist,
    "cifar-10": data.load_cifar10,
}
_NAMES: dict[str, Sequence[str]] = {"fashion-mnist": FASHION_MNIST_CLASSES, "cifar-10": CIFAR10_CLASSES}


@dataclasses.dataclass(frozen=True)
class Source:
    """Images (N, C, H, W) and labels to train and to test with.

    Attributes
    ----------
    train, test : (x, t)
    class_names : list of str or None
        None for digits.
    preparation : dict or None
        How a picture becomes a row, where `load_folder` says so.
    """

    train: tuple[Array, Array]
    test: tuple[Array, Array]
    class_names: list[str] | None = None
    preparation: dict[str, Any] | None = None


def add_data(parser: argparse.ArgumentParser, default: str | None, share: float | None) -> None:
    """Add ``--data`` and the options of what it names, with these defaults; None is what the model's file says."""
    parser.add_argument(
        "--data",
        default=default,
        metavar="NAME|FOLDER",
        help=f"{', '.join(SETS)}, or a folder that has a folder of pictures for each class (default: "
        f"{'that of the training' if default is None else default}; mini is 6,000 digits in the package, other sets are "
        "read from XPDL_DATA, or downloaded)",
    )
    parser.add_argument(
        "--no-verify", action="store_true", help="take files in XPDL_DATA that are not those of the data set named"
    )
    parser.add_argument(
        "--test-share",
        type=float,
        default=share,
        metavar="SHARE",
        help="of the pictures of each class in a folder, those to test with: the same for the same --seed (default: "
        f"{'that of the training' if share is None else share})",
    )


def load(args: argparse.Namespace, preparation: Mapping[str, Any]) -> Source:
    """Load what ``--data`` names; pictures in a folder are made rows of as `preparation` says.

    Raises
    ------
    ValueError
        If there is no such set and no such folder, or an option does not fit it.
    """
    name = args.data
    if name in SETS:
        if name == "mini" and args.no_verify:
            raise ValueError("--no-verify is for files in XPDL_DATA, and --data mini is in the package; leave it out")
        options = {} if name == "mini" else {"verify": not args.no_verify}
        names = _NAMES.get(name)
        train, test = SETS[name](flatten=False, **options)
        return Source(train, test, None if names is None else list(names))
    if not Path(name).is_dir():
        raise ValueError(f"--data {name}: is no folder, and none of {', '.join(SETS)}")
    if args.no_verify:
        raise ValueError("--no-verify is for files of a data set in XPDL_DATA; leave it out")
    pictures = data.load_folder(name, **preparation)
    train, test = pictures.split(args.test_share, seed=args.seed)
    return Source(train, test, pictures.class_names, pictures.preparation)


def fitting(x: Array, network: Any) -> Array:
    """Return images as `network` takes them: as rows of numbers, where it is made for those."""
    return array_namespace(x).reshape(x, (x.shape[0], -1)) if len(network.input_shape or ()) == 1 else x
