"""The perceptron and the logic gates made of it (the book's ch. 2)."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

from xpdl.errors import ShapeError
from xpdl.ops.checks import number


class Perceptron:
    """Fires when ``w . x + b > 0`` (Rosenblatt, 1958).

    Parameters
    ----------
    w : sequence of numbers
        One weight for each input.
    b : number
        Bias: how easily it fires.

    Raises
    ------
    ValueError
        If a weight, the bias or an input is no finite number.
    TypeError
        If `w` is no sequence.
    ShapeError
        If it is called with more or fewer inputs than weights.

    Examples
    --------
    >>> Perceptron([0.5, 0.5], -0.7)(1, 1)
    1
    """

    def __init__(self, w: Sequence[Any], b: float) -> None:
        if isinstance(w, str) or not isinstance(w, Iterable):
            raise TypeError(f"Perceptron: w must be a sequence of numbers, got {w!r}")
        self.w = [_number(weight, "each of w") for weight in w]
        self.b = _number(b, "b")

    def __call__(self, *x: Any) -> int:
        """1 or 0 for one number per weight."""
        if len(x) != len(self.w):
            raise ShapeError(f"Perceptron: has {len(self.w)} weights, got {len(x)} inputs")
        inputs = [_number(value, "each input") for value in x]
        return int(sum(map(operator.mul, self.w, inputs)) + self.b > 0)

    def __repr__(self) -> str:
        return f"Perceptron({self.w}, {self.b})"


def _number(value: Any, name: str) -> float:
    # truth values are what gates are for, and an element of an array may be an array without axes
    return number(
        float(value) if isinstance(value, bool) or getattr(value, "shape", None) == () else value, name, "Perceptron"
    )


_and, _nand, _or = Perceptron([0.5, 0.5], -0.7), Perceptron([-0.5, -0.5], 0.7), Perceptron([0.5, 0.5], -0.2)


def AND(x1: Any, x2: Any) -> int:
    """1 if both are 1."""
    return _and(x1, x2)


def NAND(x1: Any, x2: Any) -> int:
    """0 if both are 1."""
    return _nand(x1, x2)


def OR(x1: Any, x2: Any) -> int:
    """1 if either is 1."""
    return _or(x1, x2)


def XOR(x1: Any, x2: Any) -> int:
    """1 if the two differ: no single perceptron can, two layers of them do."""
    return AND(NAND(x1, x2), OR(x1, x2))
