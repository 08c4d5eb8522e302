"""Check targets where they enter, against the outputs that they are for. Reads them on the host, once."""

from __future__ import annotations

import math

from xpdl.backends import asnumpy
from xpdl.backends.arrays import NDArray
from xpdl.backends.namespaces import Array, array_namespace, dtype_name, is_floating
from xpdl.errors import DTypeError, LabelError, ShapeError
from xpdl.ops.checks import is_finite, require_range


def check_labels(t: Array, classes: int, owner: str) -> None:
    """Check labels (N,) or (N, 1) of integers in ``[0, classes)``, or rows (N, classes) from 0 to 1, one-hot for example.

    Raises
    ------
    LabelError
        If a label is not one of the classes, or a number of a row not in [0, 1]; names the first one and its place.
    DTypeError
        If labels (N,) are not integers.
    ShapeError
        If `t` has neither shape.
    TypeError
        If `t` is no array.
    ValueError
        If a row holds NaN or infinity.
    """
    xp = array_namespace(t, owner=owner)
    if t.ndim == 2 and t.shape[1] == classes:
        check_finite(t, owner)
        _check_range(t, owner, "this one")
        return
    if t.ndim == 2 and t.shape[1] == 1 and xp.isdtype(t.dtype, "integral"):
        t = t[:, 0]
    if t.ndim != 1:
        raise ShapeError(f"{owner}: expected labels (N,) or one-hot rows (N, {classes}), got shape {tuple(t.shape)}")
    if not xp.isdtype(t.dtype, "integral"):
        raise DTypeError(
            f"{owner}: labels must be integers, got {dtype_name(t.dtype)}; cast them, or pass one-hot rows"
        )
    require_range(asnumpy(t), classes, owner)


def check_positions(t: Array, output_shape: tuple[int, ...], owner: str, ignore_label: int | None = None) -> None:
    """Check labels (N, ...) or rows (N, ..., K) of each position of outputs (..., K), as `check_labels` does.

    Labels may also be `ignore_label`.
    """
    *positions, classes = output_shape
    xp = array_namespace(t, owner=owner)
    is_label = bool(xp.isdtype(t.dtype, "integral")) and t.ndim == len(output_shape)
    if positions:
        want = (*positions,) if t.ndim == len(output_shape) else (*positions, classes)
        if tuple(t.shape[1:]) != want:
            places = ", ".join(map(str, ("N", *positions)))
            raise ShapeError(
                f"{owner}: expected labels ({places}) or rows ({places}, {classes}), one for each position of the outputs, "
                f"got shape {tuple(t.shape)}"
            )
        t = xp.reshape(t, (math.prod(t.shape[: len(output_shape)]), *t.shape[len(output_shape) :]))
    if ignore_label is not None and is_label:
        t = asnumpy(t)
        t = array_namespace(t).where(t == ignore_label, 0, t)
    check_labels(t, classes, owner)


def check_shares(t: Array, output_shape: tuple[int, ...], owner: str) -> None:
    """Check targets of yes-or-no outputs: numbers from 0 to 1, one for each output.

    Parameters
    ----------
    t : array (N, ...)
    output_shape : tuple of int
        Of the scores of one row; (N,) also goes with the outputs (1,).
    owner : str
        Names whose targets they are in the message.

    Raises
    ------
    LabelError
        If a value lies outside of [0, 1], as -1, 2 or 255 do; says how to map them.
    ShapeError, ValueError
        As `check_numbers`.
    """
    check_numbers(t, output_shape, owner)
    _check_range(t, owner, "yes")


def _check_range(t: Array, owner: str, one: str) -> None:
    """Raise `LabelError` for targets outside of [0, 1], in which 1 stands for `one`."""
    no = "no" if one == "yes" else "another class"
    host = asnumpy(t)
    wrong = (host < 0) | (host > 1)
    if wrong.any():
        row = int(wrong.reshape(len(host), -1).any(axis=1).argmax())
        value = host[wrong].ravel()[0]
        cures = {(-1, 1): "(t + 1) / 2", (1, 2): "t - 1", (0, 255): "t / 255"}
        found = cures.get((host.min(), host.max()))
        cure = f"map them by {found}" if found else f"map {no} to 0 and {one} to 1"
        raise LabelError(f"{owner}: row {row} has the target {value}, expected 0 for {no} to 1 for {one}; {cure}")


def check_numbers(t: Array, output_shape: tuple[int, ...], owner: str) -> None:
    """Check targets that are numbers, one for each output, without NaN and infinity.

    Parameters are as for `check_shares`.

    Raises
    ------
    ShapeError
        If `t` is not of the shape of the outputs.
    ValueError
        If a row holds NaN or infinity.
    """
    array_namespace(t, owner=owner)
    rows = tuple(t.shape[1:])
    if rows != tuple(output_shape) and not (rows == () and tuple(output_shape) == (1,)):
        want = ", ".join(map(str, ("N", *output_shape)))
        hint = "; make one-hot rows of labels" if rows == () else ""
        raise ShapeError(f"{owner}: expected targets ({want}), as the outputs, got shape {tuple(t.shape)}{hint}")
    check_finite(t, owner)


def check_finite(a: Array, owner: str) -> None:
    """Raise `ValueError` for NaN and infinity in an array (N, ...), naming the first row; one reduction, read once."""
    if not is_floating(a):
        return
    array_namespace(a, owner=owner)
    if is_finite(a):
        return
    row = int(finite_rows(a).argmin())
    value = next(v for v in asnumpy(a[row, ...]).ravel().tolist() if not math.isfinite(v))
    raise ValueError(
        f"{owner}: row {row} holds {value} ({dtype_name(a.dtype)}); remove such rows, or replace NaN and infinity by numbers"
    )


def finite_rows(a: Array) -> NDArray:
    """Booleans (N,) on the host: rows of a floating array (N, ...) without NaN and infinity."""
    xp = array_namespace(a)
    good = xp.reshape(xp.isfinite(a), (a.shape[0], -1))
    return asnumpy(xp.all(good, axis=1))
