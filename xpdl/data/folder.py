"""Pictures of one's own: a folder for each class."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from xpdl.backends import asarray, asnumpy
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.backends.random import next_stream
from xpdl.data.pictures import load_picture, require_options
from xpdl.io.os_errors import in_words
from xpdl.ops.checks import number

#: of files that are pictures
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm"}
# Names of folders that hold a share of the rows, not a class.
_SHARES = {"train", "training", "test", "testing", "val", "valid", "validation"}
_NAMED = 5  # damaged files that a warning names


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Pictures:
    """Pictures with their classes, as `load_folder` returns them.

    Attributes
    ----------
    x : floating array (N, channels, height, width), from 0 to 1
    t : integer array (N,)
        Labels: indices of `class_names`.
    class_names : list of str
    files : list of Path
        Where each row comes from.
    preparation : dict
        How a picture became a row; a model keeps it, `Sequential.preparation`, for pictures to come.
    """

    x: Array
    t: Array
    class_names: list[str]
    files: list[Path]
    preparation: dict[str, Any]

    def split(self, test: float = 0.2, *, seed: int | None = None) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Split the rows at random into some to train with and some to test with, of each class the same share.

        Parameters
        ----------
        test : float
            Share of each class to test with, above 0 and below 1; at least one row, and one is left to train with.
        seed : int, optional
            By default the split follows `xpdl.seed`.

        Returns
        -------
        (x, t), (x_test, t_test) : arrays, in random order

        Raises
        ------
        ValueError
            If `test` is out of range, or a class has a single picture.
        """
        share = number(test, "test", "split", "in (0, 1)")
        rng = next_stream("split", seed).generator("order")
        labels = asnumpy(self.t)
        kept: tuple[list[Any], list[Any]] = [], []
        for label, name in enumerate(self.class_names):
            rows = rng.permutation(np.flatnonzero(labels == label))
            if rows.size < 2:
                raise ValueError(f"split: class {name!r} has a single picture; add some, or remove its folder")
            count = min(max(1, round(share * rows.size)), rows.size - 1)
            kept[1].append(rows[:count])
            kept[0].append(rows[count:])
        train, held_out = (rng.permutation(np.concatenate(rows)) for rows in kept)
        return self._rows(train), self._rows(held_out)

    def _rows(self, rows: Any) -> tuple[Array, Array]:
        xp = array_namespace(self.x)
        index = asarray(rows)
        return xp.take(self.x, index, axis=0), xp.take(self.t, index, axis=0)

    def __len__(self) -> int:
        return len(self.files)

    def __repr__(self) -> str:
        height, width = self.preparation["size"]
        return f"Pictures({len(self)} of {height}x{width}, classes {', '.join(self.class_names)})"


def load_folder(
    path: str | os.PathLike[str], size: int | tuple[int, int] = 32, *, channels: int = 3, fit: str = "crop"
) -> Pictures:
    """Load pictures from a folder that has a folder for each class.

    Parameters
    ----------
    path : path
        Its folders are the classes, in alphabetic order; the pictures in them, and in folders inside them, are their rows.
        Hidden files and folders, and files without the suffix of a picture, are ignored.
    size : int or (height, width)
        Of every row, in pixels.
    channels : {3, 1}
        Red, green and blue, or grey.
    fit : {"crop", "letterbox"}
        Keep the middle of a picture of other proportions, or all of it between black bars.

    Returns
    -------
    Pictures
        With `x` (N, channels, height, width) and `t` (N,) on the backend in use. ``pictures.split()`` makes arrays to train
        and to test with.

    Warns
    -----
    UserWarning
        Of damaged files, which are skipped, by name, and of pictures beside the folders of the classes.

    Raises
    ------
    OSError
        If there is no such folder.
    ValueError
        If it has fewer than two folders, a class has no readable picture, or an option is wrong.
    ImportError
        If Pillow is not installed.

    Examples
    --------
    ``pictures = load_folder("pets", size=32)``, then ``(x, t), test = pictures.split(0.2)``.
    """
    owner = "load_folder"
    folder = Path(path)
    height, width = require_options(size, channels, fit, owner)
    names = sorted(one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    if not names:
        raise ValueError(f"{owner}: {folder} has no folders; put the pictures of each class into a folder of its name")
    if {name.lower() for name in names} <= _SHARES:
        raise ValueError(f"{owner}: {folder} holds {', '.join(names)} and no classes; load each alone")
    if len(names) == 1:
        raise ValueError(
            f"{owner}: {folder} has one class, {names[0]}, which leaves nothing to tell apart; put pictures of another into "
            "a folder beside it"
        )
    if loose := [file.name for file in sorted(folder.iterdir()) if _is_picture(file)]:
        warnings.warn(
            f"{owner}: {len(loose)} pictures in {folder} are in the folder of no class, and ignored, such as {loose[0]}",
            stacklevel=2,
        )
    rows: list[Any] = []
    labels: list[int] = []
    files: list[Path] = []
    damaged: list[str] = []
    for label, name in enumerate(names):
        before = len(files)
        for file in pictures_in(folder / name):
            try:
                rows.append(load_picture(file, (height, width), channels=channels, fit=fit))
            except (ValueError, OSError) as error:
                if not file.is_file():
                    raise
                damaged.append(in_words(error))
                continue
            labels.append(label)
            files.append(file)
        if len(files) == before:
            first = f" ({damaged[-1]})" if damaged else ""
            raise ValueError(f"{owner}: {folder / name} has no readable picture{first}; add some, or remove the folder")
    if damaged:
        more = f"; and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""
        warnings.warn(f"{owner}: skipped {len(damaged)} files: {'; '.join(damaged[:_NAMED])}{more}", stacklevel=2)
    preparation = {"size": [height, width], "channels": channels, "fit": fit}
    return Pictures(asarray(np.stack(rows)), asarray(np.asarray(labels)), names, files, preparation)


def pictures_in(folder: Path) -> list[Path]:
    """Return the picture files in a folder and in those inside it, in alphabetic order."""
    return sorted(file for file in folder.rglob("*") if _is_picture(file) and not _is_hidden(file, folder))


def _is_hidden(file: Path, folder: Path) -> bool:
    """Return whether a file is in a hidden folder inside `folder`, such as the ``.ipynb_checkpoints`` of Jupyter."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts[:-1])


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
