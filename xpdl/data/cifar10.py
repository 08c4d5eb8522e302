"""CIFAR-10: small colour photographs. Read on the host, in NumPy, from the version that needs no pickle."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from xpdl.data._files import CLASSES, Images, Split, check_flags, in_cache, in_xpdl_data, not_published, prepared
from xpdl.data.download import has_hash

#: classes of the labels 0 to 9
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_SUBFOLDER = "cifar-10"
_ARCHIVE = "cifar-10-binary.tar.gz"
_UNPACKED = "cifar-10-batches-bin"
_MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
)
# of the file whose MD5 on the publisher's page, https://www.cs.toronto.edu/~kriz/cifar.html, is
# c32a1d4ab5d03f1284b67883e8d87530; gomlx and torchvision for Ruby have the same
_SIZE, _SHA256 = 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST = ("test_batch.bin",)

_SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32  # the label, then the image
_BLOCK = 1 << 20
_MOST_BYTES = 2**28  # that the archive is unpacked to, half as much again as it holds


def load_cifar10(
    normalize: bool = True, flatten: bool = True, one_hot_label: bool = False, *, verify: bool = True
) -> tuple[Split, Split]:
    """50,000 training and 10,000 test photographs of things and animals, of the ten kinds of `CIFAR10_CLASSES`.

    Parameters, what is returned and what is raised are as for `load_mnist`, but images are (N, 3072), or else
    (N, 3, 32, 32), in the colours red, green, blue.

    Notes
    -----
    A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The archive ``cifar-10-binary.tar.gz``,
    or the folder ``cifar-10-batches-bin`` unpacked from it, is looked for in the folder ``XPDL_DATA`` and its subfolder
    ``cifar-10``; then the archive in the cache, and else it is downloaded there (170 MB). The SHA-256 is the
    archive's, so a folder needs ``verify=False``.
    """
    check_flags("load_cifar10", normalize=normalize, flatten=flatten, one_hot_label=one_hot_label, verify=verify)
    found = in_xpdl_data(("", _SUBFOLDER), (f"{_UNPACKED}/{_TEST[0]}", _ARCHIVE)) or in_cache(
        "CIFAR-10",
        _SUBFOLDER,
        _ARCHIVE,
        [mirror + _ARCHIVE for mirror in _MIRRORS],
        _SIZE,
        _SHA256,
        f"Put {_ARCHIVE} into a folder and set XPDL_DATA to it",
    )
    if found.name != _ARCHIVE:
        found = found.parent
    contents = _of_folder(found) if found.is_dir() else _of_archive(found)
    parts = [_records(found, names, contents) for names in (_TRAIN, _TEST)]
    if verify and (found.is_dir() or not has_hash(found, _SHA256)):
        raise not_published(found, "CIFAR-10", _ARCHIVE)
    train, test = (prepared(*part, normalize, flatten, one_hot_label) for part in parts)
    return train, test


def _of_folder(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in _TRAIN + _TEST if (folder / name).is_file()}


def _of_archive(archive: Path) -> dict[str, bytes]:
    """The wanted files in it; nothing is written, whatever names it has."""
    contents = {}
    try:
        with gzip.open(archive) as unpacked:
            limited: Any = _AtMost(unpacked)
            with tarfile.open(fileobj=limited, mode="r|") as tar:
                for member in tar:
                    name = PurePosixPath(member.name).name
                    if name in _TRAIN + _TEST and member.isfile():
                        if member.size > _MOST_BYTES:
                            raise ValueError(f"{name} claims {member.size} bytes")
                        contents[name] = tar.extractfile(member).read()  # type: ignore[union-attr]
            while unpacked.read(_BLOCK):  # to the checksum at its end
                continue
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"{archive}: is not the whole archive ({error}); take another copy of it") from error
    return contents


class _AtMost:
    """A file that fails when too much is read from it: the headers of an archive claim what they like."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self.file, self.left = file, _MOST_BYTES

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"it unpacks to more than {_MOST_BYTES} bytes")
        return data


def _records(where: Path, names: tuple[str, ...], contents: dict[str, bytes]) -> tuple[Images, Images]:
    """Images (N, 3, 32, 32) and labels (N,) of some files."""
    parts = []
    for name in names:
        if name not in contents:
            raise ValueError(f"{where}: has no file {name}; take another copy of it")
        data = np.frombuffer(contents[name], np.uint8)
        if len(data) == 0 or len(data) % _RECORD:
            raise ValueError(
                f"{where}: {name} has {len(data)} bytes, which is no number of records of {_RECORD}; "
                "take another copy of it"
            )
        parts.append(data.reshape(-1, _RECORD))
    records = np.concatenate(parts)
    images, labels = records[:, 1:].reshape(-1, *_SHAPE), records[:, 0]
    if labels.max() >= CLASSES:
        raise ValueError(f"{where}: has the label {labels.max()}; the last class is {CLASSES - 1}")
    return images, labels
