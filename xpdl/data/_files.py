"""Helpers of the loaders of image data sets: files, and the form of what is returned. On the host, in NumPy."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpdl.backends import get_backend
from xpdl.backends.namespaces import Array
from xpdl.data.download import fetch_file, fetch_gzip, has_hash
from xpdl.io.os_errors import in_words
from xpdl.io.paths import cache_dir
from xpdl.ops.checks import flag

Images = np.ndarray[Any, Any]
Split = tuple[Array, Array]

CLASSES = 10  # of every set there is so far


def check_flags(owner: str, **flags: bool) -> None:
    """Refuse flags that are no bool, before anything is read."""
    for name, value in flags.items():
        flag(value, name, owner)


def _xpdl_data() -> str:
    folder = os.environ.get("XPDL_DATA")
    if not folder:
        return "not set"
    return folder if Path(folder).expanduser().is_dir() else f"{folder}, which is no folder"


def in_xpdl_data(folders: Iterable[str], names: Sequence[str]) -> Path | None:
    """The first of the files `names` that is in one of these folders of ``XPDL_DATA``."""
    data = os.environ.get("XPDL_DATA")
    if not data:
        return None
    paths = (Path(data).expanduser() / folder / name for folder in folders for name in names)
    return next((path for path in paths if path.is_file()), None)


def in_cache(title: str, folder: str, name: str, urls: Sequence[str], size: int, sha256: str, advice: str) -> Path:
    """The file `name` of the cache, downloaded if it is not there or not what it should be.

    `size` and `sha256` are those of the file. If it is offered with ``.gz`` and kept without, it is unpacked on the way.
    """
    path = cache_dir() / folder / name
    if not has_hash(path, sha256):
        fetch = fetch_gzip if urls[0].endswith(".gz") and not name.endswith(".gz") else fetch_file
        try:
            fetch(name, urls, path, size, sha256)
        except OSError as error:
            raise OSError(
                f"{title}: {name} is neither in XPDL_DATA ({_xpdl_data()}) nor in "
                f"{path.parent}, and cannot be downloaded ({in_words(error)}). {advice}"
            ) from error
    return path


def not_published(path: Path, title: str, name: str) -> ValueError:
    """The error of a file that has the name of a data set's, and another content."""
    return ValueError(
        f"{path}: is not {title}'s {name}, by its SHA-256; put the file as it is published there, or load another "
        "data set of this form with verify=False (xpdl train --no-verify)"
    )


def prepared(images: Images, labels: Images, normalize: bool, flatten: bool, one_hot_label: bool) -> Split:
    """Images (N, C, H, W) and labels (N,) of bytes as arrays of the backend in use."""
    backend = get_backend()
    x = images.reshape(len(images), -1) if flatten else images
    if normalize:
        # NumPy has no bfloat16; the backend rounds to it
        dtype = np.dtype(backend.dtype if backend.dtype != "bfloat16" else "float32")
        x = np.divide(x, 255, dtype=dtype)
    t = np.eye(CLASSES)[labels] if one_hot_label else labels.astype(np.int64)
    return backend.asarray(x), backend.asarray(t)
