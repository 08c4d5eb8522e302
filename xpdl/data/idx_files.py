"""Data sets in four IDX files, as MNIST's."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

from xpdl.data._files import CLASSES, Images, Split, in_cache, in_xpdl_data, not_published, prepared
from xpdl.data.download import has_hash
from xpdl.data.idx import idx_header, read_idx

_PARTS = ("train", "t10k")


@dataclasses.dataclass(frozen=True)
class IdxSet:
    """Grey images and their labels, to train and to test with.

    Attributes
    ----------
    title : str
    folders : tuple of str
        Where files are looked for in ``XPDL_DATA``; the last one is also that of the cache.
    mirrors : tuple of str
        Addresses that a file's name is put behind.
    files : mapping
        Name of each file in the cache -> its size and SHA-256. All are offered with ``.gz``; where the name here has that,
        too, they are of the file as it is published.
    advice : str
        The end of what is said to who has no network.
    """

    title: str
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    files: Mapping[str, tuple[int, str]]
    advice: str = ""

    def load(self, normalize: bool, flatten: bool, one_hot_label: bool, verify: bool) -> tuple[Split, Split]:
        paths = {name.removesuffix(".gz"): self._located(name) for name in self.files}
        arrays = {name: read_idx(path) for name, path in paths.items()}
        parts = [_checked(arrays, paths, part) for part in _PARTS]
        if verify:
            for name in self.files:
                plain = name.removesuffix(".gz")
                self._verify(name, paths[plain], arrays[plain])
        train, test = (prepared(*part, normalize, flatten, one_hot_label) for part in parts)
        return train, test

    def _verify(self, name: str, path: Path, array: Images) -> None:
        """Refuse a file whose content is not that of the data set, as published or unpacked as the hash is of."""
        sha256 = self.files[name][1]
        if name.endswith(".gz"):
            same = has_hash(path, sha256)
        else:
            same = hashlib.sha256(idx_header(array) + array.tobytes()).hexdigest() == sha256
        if not same:
            raise not_published(path, self.title, name)

    def _located(self, name: str) -> Path:
        plain = name.removesuffix(".gz")
        # both ways of writing the name are about
        spelled = [spelling + end for spelling in (plain, plain.replace("-idx", ".idx")) for end in ("", ".gz")]
        if path := in_xpdl_data(self.folders, spelled):
            return path
        urls = [f"{mirror}{plain}.gz" for mirror in self.mirrors]
        wanted = ", ".join(f"{file.removesuffix('.gz')}.gz" for file in self.files)
        advice = f"Put {wanted} into the folder {self.folders[-1]} of a folder and set XPDL_DATA to that{self.advice}"
        return in_cache(self.title, self.folders[-1], name, urls, *self.files[name], advice)


def _checked(arrays: Mapping[str, Images], paths: Mapping[str, Path], part: str) -> tuple[Images, Images]:
    """Images (N, 1, H, W) and labels (N,)."""
    images, labels = arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"]
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels) or len(images) == 0:
        raise ValueError(
            f"{paths[f'{part}-images-idx3-ubyte']}: has shape {images.shape}, which does not go with labels of shape "
            f"{labels.shape}"
        )
    if labels.max() >= CLASSES:
        raise ValueError(
            f"{paths[f'{part}-labels-idx1-ubyte']}: has the label {labels.max()}; the last class is {CLASSES - 1}"
        )
    return images[:, None], labels
