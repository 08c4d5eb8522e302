"""Labels, looked at once when data enters: inside a training step nothing is read back from the device."""

from __future__ import annotations

from xpdl.backends.namespaces import Array, array_namespace, dtype_name, to_numpy
from xpdl.errors import DTypeError, LabelError, ShapeError


def check_labels(t: Array, classes: int, owner: str) -> None:
    """Check labels (N,) or (N, 1) of integers in ``[0, classes)``, or rows (N, classes) of numbers, one-hot for example.

    Raises
    ------
    LabelError
        If a label is not one of the classes; names the first one and its place.
    DTypeError
        If labels (N,) are not integers.
    ShapeError
        If `t` has neither shape.
    TypeError
        If `t` is no array.
    """
    xp = array_namespace(t, owner=owner)
    if t.ndim == 2 and t.shape[1] == classes:
        return
    if t.ndim == 2 and t.shape[1] == 1 and xp.isdtype(t.dtype, "integral"):
        t = t[:, 0]
    if t.ndim != 1:
        raise ShapeError(f"{owner}: expected labels (N,) or one-hot rows (N, {classes}), got shape {tuple(t.shape)}")
    if not xp.isdtype(t.dtype, "integral"):
        raise DTypeError(
            f"{owner}: labels must be integers, got {dtype_name(t.dtype)}; cast them, or pass one-hot rows"
        )
    host = to_numpy(t)
    wrong = (host < 0) | (host >= classes)
    if wrong.any():
        place = int(wrong.argmax())
        raise LabelError(
            f"{owner}: label {host[place]} of row {place} is not one of the {classes} classes 0 to {classes - 1}"
        )
