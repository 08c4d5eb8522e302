"""Handwritten digits: the whole MNIST, and a part of it that is in the package. Read on the host, in NumPy."""

from __future__ import annotations

import hashlib
import io
import os
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from xpdl.backends import get_backend
from xpdl.backends.namespaces import Array
from xpdl.data.download import cache_dir, fetch_gzip, has_hash
from xpdl.data.idx import read_idx

Images = np.ndarray[Any, Any]
Split = tuple[Array, Array]

_CLASSES = 10
_MIRRORS = ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/")

#: name -> size and SHA-256, both of the uncompressed content
_FILES = {
    "train-images-idx3-ubyte": (47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": (60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": (7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": (10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}

#: of the file mini_mnist.npz
_MINI_SHA256 = "5689d6c9b769eba80163ac6a1ff2a4c5292851d4fe1398e6eafce973122eaf1c"


def load_mnist(normalize: bool = True, flatten: bool = True, one_hot_label: bool = False) -> tuple[Split, Split]:
    """The whole MNIST: 60,000 training and 10,000 test images of handwritten digits (the book's ``dataset/mnist.py``).

    Parameters
    ----------
    normalize : bool
        Floats from 0 to 1 in the floating dtype of the backend in use, or else the bytes 0 to 255.
    flatten : bool
        Images (N, 784), or else (N, 1, 28, 28).
    one_hot_label : bool
        Labels as rows (N, 10) of floats, or else as integers (N,).

    Returns
    -------
    (x_train, t_train), (x_test, t_test)
        Arrays of the backend in use.

    Raises
    ------
    OSError
        If the files are nowhere and cannot be downloaded; the message says which to put where.
    ValueError
        If a file is damaged.

    Notes
    -----
    The four files of the data set, plain or with ``.gz``, are looked for in the folder ``XPDL_DATA`` and its subfolder
    ``mnist``, then in the cache (``XPDL_CACHE``, by default the user's cache folder), and else downloaded there.
    """
    found = {name: _located(name) for name in _FILES}
    arrays = {name: read_idx(path) for name, path in found.items()}
    return tuple(  # type: ignore[return-value]
        _prepared(
            *_checked(arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"], found, part),
            normalize,
            flatten,
            one_hot_label,
        )
        for part in ("train", "t10k")
    )


def load_mini_mnist(normalize: bool = True, flatten: bool = True, one_hot_label: bool = False) -> tuple[Split, Split]:
    """6,000 training and 1,000 test images of MNIST that come with the package, as many of each digit.

    Parameters and what is returned are as in `load_mnist`. Training images are of MNIST's training set, test images of
    its test set.

    Raises
    ------
    ValueError
        If the installed file is damaged.

    Examples
    --------
    >>> (x_train, t_train), (x_test, t_test) = load_mini_mnist()
    >>> x_train.shape, t_test.shape
    ((6000, 784), (1000,))
    """
    path = resources.files("xpdl.data") / "mini_mnist.npz"
    content = path.read_bytes()
    # before anything is unpacked: a damaged archive ends in one of a dozen exceptions, or unnoticed
    if hashlib.sha256(content).hexdigest() != _MINI_SHA256:
        raise ValueError(f"{path}: is damaged; install xpdl again")
    options = normalize, flatten, one_hot_label
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return (
            _prepared(arrays["x_train"], arrays["t_train"], *options),
            _prepared(arrays["x_test"], arrays["t_test"], *options),
        )


def _located(name: str) -> Path:
    """The file of the data set with that name, downloaded if it is nowhere."""
    data = os.environ.get("XPDL_DATA")
    for folder in (Path(data), Path(data) / "mnist") if data else ():
        # both ways of writing the name are about
        for spelled in (name, name.replace("-idx", ".idx")):
            for path in (folder / spelled, folder / f"{spelled}.gz"):
                if path.is_file():
                    return path
    size, sha256 = _FILES[name]
    cached = cache_dir() / "mnist" / name
    if not has_hash(cached, sha256):
        try:
            fetch_gzip(name, [f"{mirror}{name}.gz" for mirror in _MIRRORS], cached, size, sha256)
        except OSError as error:
            raise OSError(
                f"MNIST: {name} is neither in XPDL_DATA ({data or 'not set'}) nor in {cached.parent}, and cannot be "
                f"downloaded ({error}). Put {', '.join(f'{file}.gz' for file in _FILES)} into a folder and set XPDL_DATA "
                "to it, or use load_mini_mnist(), which needs no download"
            ) from error
    return cached


def _checked(images: Images, labels: Images, paths: dict[str, Path], part: str) -> tuple[Images, Images]:
    where = paths[f"{part}-images-idx3-ubyte"]
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or len(images) == 0:
        raise ValueError(f"{where}: has shape {images.shape}, which does not go with labels of shape {labels.shape}")
    if labels.max() >= _CLASSES:
        raise ValueError(f"{paths[f'{part}-labels-idx1-ubyte']}: has the label {labels.max()}; digits go to 9")
    return images, labels


def _prepared(images: Images, labels: Images, normalize: bool, flatten: bool, one_hot_label: bool) -> Split:
    """Images (N, H, W) and labels (N,) of bytes as arrays of the backend in use."""
    backend = get_backend()
    x = images.reshape(len(images), -1) if flatten else images[:, np.newaxis]
    if normalize:
        # NumPy has no bfloat16; the backend rounds to it
        dtype = np.dtype(backend.dtype if backend.dtype != "bfloat16" else "float32")
        x = np.divide(x, 255, dtype=dtype)
    t = np.eye(_CLASSES)[labels] if one_hot_label else labels.astype(np.int64)
    return backend.asarray(x), backend.asarray(t)
