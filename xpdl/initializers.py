"""Initial weights, drawn with NumPy on the host: one seed gives bitwise identical weights on every backend.

An initializer is a function of a shape and a NumPy generator, and returns float64 values. The spread that keeps
activations alive depends on the fan-in, the number of inputs of one unit, which is computed from the shape: weights
(in, out) have fan-in ``in``, filters (FN, C, FH, FW) have ``C * FH * FW``. Of a convolution in groups, they are those of a
group.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
import numbers
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, cast

import numpy as np

from xpdl.backends import Backend
from xpdl.backends.conversion import from_numpy
from xpdl.backends.namespaces import Array
from xpdl.backends.random import Stream
from xpdl.errors import ShapeError

Shape: TypeAlias = tuple[int, ...]
Values: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
Initializer: TypeAlias = Callable[[Shape, np.random.Generator], Values]


def fans(shape: Shape) -> tuple[int, int]:
    """Fan-in and fan-out of weights (in, out) or filters (FN, C, FH, FW); `ShapeError` for anything else."""
    if len(shape) < 2 or 0 in shape:
        raise ShapeError(
            f"initializer: fan-in needs weights (in, out) or filters (FN, C, FH, FW), got shape {tuple(shape)}; "
            "give a standard deviation or 'zeros' for arrays of another kind"
        )
    if len(shape) == 2:
        return shape[0], shape[1]
    return math.prod(shape[1:]), shape[0] * math.prod(shape[2:])


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def normal(std: float = 0.01) -> Initializer:
    """The initializer that draws from a normal distribution of mean 0 and standard deviation `std`."""
    if not (_is_number(std) and 0 <= std < math.inf):
        raise ValueError(f"normal: std must be a finite number, at least 0, got {std!r}")
    # a NumPy float of half precision would round the draws to its own
    spread = float(std)

    def draw_normal(shape: Shape, generator: np.random.Generator) -> Values:
        return spread * generator.standard_normal(shape)

    return draw_normal


def xavier(shape: Shape, generator: np.random.Generator) -> Values:
    """Normal with standard deviation ``sqrt(1 / fan_in)``, for sigmoid and tanh: the book's form (ch. 6.2.2).

    The paper itself (Glorot and Bengio, AISTATS 2010) has ``sqrt(2 / (fan_in + fan_out))``; that is `glorot`.
    """
    return math.sqrt(1 / fans(shape)[0]) * generator.standard_normal(shape)


def glorot(shape: Shape, generator: np.random.Generator) -> Values:
    """Normal with standard deviation ``sqrt(2 / (fan_in + fan_out))`` (Glorot and Bengio, AISTATS 2010)."""
    return math.sqrt(2 / sum(fans(shape))) * generator.standard_normal(shape)


def he(shape: Shape, generator: np.random.Generator) -> Values:
    """Normal with standard deviation ``sqrt(2 / fan_in)``, for ReLU (arXiv:1502.01852; the book's ch. 6.2.3)."""
    return math.sqrt(2 / fans(shape)[0]) * generator.standard_normal(shape)


def lecun(shape: Shape, generator: np.random.Generator) -> Values:
    """Normal with standard deviation ``sqrt(1 / fan_in)`` (LeCun et al., Efficient BackProp, 1998, section 4.6)."""
    return math.sqrt(1 / fans(shape)[0]) * generator.standard_normal(shape)


def orthogonal(shape: Shape, generator: np.random.Generator) -> Values:
    """A matrix with orthonormal rows or columns, whichever are fewer, uniformly distributed (arXiv:1312.6120).

    Filters (FN, C, FH, FW) are taken as a matrix (FN, C * FH * FW).
    """
    fans(shape)
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(generator.standard_normal((max(rows, columns), min(rows, columns))))
    # without the signs of r, the distribution would depend on how the factorisation is computed
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return (q if rows >= columns else q.T).reshape(shape)


def zeros(shape: Shape, generator: np.random.Generator) -> Values:
    """All 0; nothing is drawn."""
    return np.zeros(shape)


def ones(shape: Shape, generator: np.random.Generator) -> Values:
    """All 1; nothing is drawn."""
    return np.ones(shape)


_NAMES: dict[str, Initializer] = {
    "normal": normal(),
    "xavier": xavier,
    "glorot": glorot,
    "he": he,
    "lecun": lecun,
    "orthogonal": orthogonal,
    "zeros": zeros,
    "ones": ones,
    # the book names them by the activation they are for
    "relu": he,
    "sigmoid": xavier,
}


def resolve(spec: Any, owner: str = "initializer") -> Initializer:
    """The initializer that `spec` stands for.

    Parameters
    ----------
    spec : str, float or callable
        A name, upper and lower case alike (``"relu"`` and ``"sigmoid"`` are the book's names of `he` and `xavier`); the
        standard deviation of a normal distribution; or an initializer.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if isinstance(spec, str) and spec.lower() in _NAMES:
        return _NAMES[spec.lower()]
    if _is_number(spec) and 0 <= spec < math.inf:
        return normal(spec)
    if spec is normal:
        return _NAMES["normal"]
    if callable(spec):
        return cast(Initializer, spec)
    raise ValueError(
        f"{owner}: expected a standard deviation, at least 0, a function (shape, generator), or one of "
        f"{', '.join(_NAMES)}; got {spec!r}"
    )


def for_groups(spec: Any, groups: int, owner: str = "initializer") -> Initializer:
    """The initializer of filters (FN, C / groups, ...) of a convolution in groups.

    Those of this module draw each group by itself, as its inputs reach its own filters alone: fan-out and orthogonality
    are those of FN / groups filters. Any other function is given the whole shape.
    """
    one_group = resolve(spec, owner)
    if groups == 1 or one_group not in _NAMES.values():
        return one_group

    def draw_groups(shape: Shape, generator: np.random.Generator) -> Values:
        size = (shape[0] // groups, *shape[1:])
        return np.concatenate([one_group(size, generator) for _ in range(groups)])

    return draw_groups


@contextlib.contextmanager
def parameter_budget(values: int, source: str) -> Iterator[None]:
    """Inside, drawing more than so many values in all is a `ShapeError`: for sizes that a file names."""
    token = _budget.set([values, source])
    try:
        yield
    finally:
        _budget.reset(token)


_budget: contextvars.ContextVar[list[Any] | None] = contextvars.ContextVar("_budget", default=None)


def draw(spec: Any, shape: Shape, stream: Stream, name: str, backend: Backend) -> Array:
    """Initial values for the parameter `name`: a new array on `backend`, in its dtype.

    `spec` is what `resolve` takes. The values depend on the seed and path of `stream`, on `name` and on `shape`, and
    not on what else is drawn.

    Raises
    ------
    ValueError, ShapeError
        If `spec` names no initializer, it cannot serve `shape`, or returns another shape.
    """
    budget = _budget.get()
    if budget is not None:
        budget[0] -= math.prod(shape)
        if budget[0] < 0:
            raise ShapeError(f"{budget[1]}: describes a model with more parameters than the file holds")
    values = np.asarray(resolve(spec)(tuple(shape), stream.generator(name)), dtype=np.float64)
    if values.shape != tuple(shape):
        raise ShapeError(f"initializer: {spec!r} returned shape {values.shape} for {name}, expected {tuple(shape)}")
    # rounded here and not by each library in its own way; NumPy has no bfloat16, whose rounding from float32 is one
    host = values.astype("float32" if backend.dtype == "bfloat16" else backend.dtype)
    return from_numpy(host, backend.xp, backend.device, backend.float)
