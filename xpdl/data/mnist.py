"""Handwritten digits: the whole MNIST, and a part of it that is in the package. Read on the host, in NumPy."""

from __future__ import annotations

import hashlib
import io
from importlib import resources

import numpy as np

from xpdl.data._files import Split, check_flags, prepared
from xpdl.data.idx_files import IdxSet

MNIST = IdxSet(
    "MNIST",
    ("", "mnist"),
    ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
    # uncompressed: mirrors offer files that are packed in different ways
    {
        "train-images-idx3-ubyte": (47040016, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
        "train-labels-idx1-ubyte": (60008, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
        "t10k-images-idx3-ubyte": (7840016, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        "t10k-labels-idx1-ubyte": (10008, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    },
    ", or use load_mini_mnist(), which needs no download",
)

#: of the file mini_mnist.npz
_MINI_SHA256 = "5689d6c9b769eba80163ac6a1ff2a4c5292851d4fe1398e6eafce973122eaf1c"


def load_mnist(
    normalize: bool = True, flatten: bool = True, one_hot_label: bool = False, *, verify: bool = True
) -> tuple[Split, Split]:
    """The whole MNIST: 60,000 training and 10,000 test images of handwritten digits (the book's ``dataset/mnist.py``).

    Parameters
    ----------
    normalize : bool
        Floats from 0 to 1 in the floating dtype of the backend in use, or else the bytes 0 to 255.
    flatten : bool
        Images (N, 784), or else (N, 1, 28, 28).
    one_hot_label : bool
        Labels as rows (N, 10) of floats, or else as integers (N,).
    verify : bool
        Refuse files in ``XPDL_DATA`` that are not those of the data set, by their SHA-256. False loads any other set of
        this form, such as one of one's own.

    Returns
    -------
    (x_train, t_train), (x_test, t_test)
        Arrays of the backend in use.

    Raises
    ------
    OSError
        If the files are nowhere and cannot be downloaded; the message says which to put where.
    ValueError
        If a file is damaged, or is another data set's while `verify` is true.

    Notes
    -----
    The four files of the data set, plain or with ``.gz``, are looked for in the folder ``XPDL_DATA`` and its subfolder
    ``mnist``, then in the cache (``XPDL_CACHE``, by default the user's cache folder), and else downloaded there.
    """
    check_flags("load_mnist", normalize=normalize, flatten=flatten, one_hot_label=one_hot_label, verify=verify)
    return MNIST.load(normalize, flatten, one_hot_label, verify)


def load_mini_mnist(normalize: bool = True, flatten: bool = True, one_hot_label: bool = False) -> tuple[Split, Split]:
    """6,000 training and 1,000 test images of MNIST that come with the package, as many of each digit.

    Parameters but `verify`, and what is returned, are as in `load_mnist`. Training images are of MNIST's training set, test
    images of its test set.

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
    check_flags("load_mini_mnist", normalize=normalize, flatten=flatten, one_hot_label=one_hot_label)
    path = resources.files("xpdl.data") / "mini_mnist.npz"
    content = path.read_bytes()
    # before anything is unpacked: a damaged archive ends in one of a dozen exceptions, or unnoticed
    if hashlib.sha256(content).hexdigest() != _MINI_SHA256:
        raise ValueError(f"{path}: is damaged; install xpdl again")
    options = normalize, flatten, one_hot_label
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        train, test = (
            prepared(arrays[f"x_{part}"][:, np.newaxis], arrays[f"t_{part}"], *options) for part in ("train", "test")
        )
    return train, test
