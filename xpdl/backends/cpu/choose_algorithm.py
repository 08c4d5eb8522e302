"""Choice of the algorithm of a convolution on a CPU: the first of `ALGORITHMS` whose conditions all hold.

docs/performance.md shows the same list as a table, with what each algorithm gains.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xpdl.backends.arrays import Pair
from xpdl.backends.cpu.tuning import TUNING
from xpdl.backends.decisions import note

FORWARD, GRADIENTS, FILTER_GRADIENT = "forward", "dx and dW", "dW"


class Case(NamedTuple):
    """A convolution of one pass, as far as the choice depends on it.

    Attributes
    ----------
    passes : str
        `FORWARD`, `GRADIENTS` of the input and the filters, made together, or the `FILTER_GRADIENT` alone. The gradients are
        a correlation of ``dy`` with the filters turned round, one for each phase of a stride.
    compiled : bool
        Whether compiled kernels are in use.
    images, channels, filters : int
        Of the batch; those read and those written, of one group.
    size, stride, dilation : (int, int)
        Of the filter.
    out : (int, int)
        Rows and columns that are written.
    dtype : numpy.dtype
    contiguous : bool
        Whether all images are contiguous in the order (H, C, W, N): those of a group are not.
    interleaved : bool
        Whether other phases of a stride write the rows and columns between.
    """

    passes: str
    compiled: bool
    images: int
    channels: int
    filters: int
    size: Pair
    stride: Pair
    dilation: Pair
    out: Pair
    dtype: Any
    contiguous: bool
    interleaved: bool = False


class Condition(NamedTuple):
    """A condition, and its text with the names of thresholds in braces."""

    text: str
    holds: Callable[[Case], bool]

    def __str__(self) -> str:
        return self.text.format_map(dataclasses.asdict(TUNING))


class Algorithm(NamedTuple):
    """A way to compute convolutions.

    Attributes
    ----------
    name : str
    kernels : str
        ``"numba"`` for compiled code, or ``"numpy"``.
    module : str
        Of the code.
    conditions : tuple of Condition
    """

    name: str
    kernels: str
    module: str
    conditions: tuple[Condition, ...]

    def unmet(self, case: Case) -> Condition | None:
        """The first condition that does not hold, or None."""
        for condition in self.conditions:  # a generator takes twice as long, in every step
            if not condition.holds(case):
                return condition
        return None


def _saves(case: Case, channels: int) -> bool:
    """Tell whether the products saved, one for each pair of channels, pay for the sums, some for each channel."""
    return case.channels * case.filters >= channels * (case.channels + case.filters)


_COMPILED = Condition("compiled kernels", lambda case: case.compiled)
_IS_FORWARD = Condition("forward", lambda case: case.passes == FORWARD)
_NOT_DW_ALONE = Condition("forward, or dx and dW", lambda case: case.passes != FILTER_GRADIENT)
# what a reader of the reason sees anyway
_OBVIOUS = (_COMPILED, _IS_FORWARD)
_UNIT_STEPS = Condition("stride 1, dilation 1", lambda case: case.stride == case.dilation == (1, 1))
_FLOAT32 = Condition("float32", lambda case: case.dtype == np.float32)
_CONTIGUOUS = Condition("no groups, images innermost in memory", lambda case: case.contiguous)

COMPILED_IMAGES = Algorithm(
    "im2col, image by image",
    "numba",
    "im2col_small_batch",
    (
        _COMPILED,
        _IS_FORWARD,
        Condition(
            "fewer than {small_batch_compiled_images} images",
            lambda case: case.images < TUNING.small_batch_compiled_images,
        ),
    ),
)
IMAGES = Algorithm(
    "im2col, image by image",
    "numpy",
    "im2col_small_batch",
    (
        _IS_FORWARD,
        Condition("fewer than {small_batch_images} images", lambda case: case.images < TUNING.small_batch_images),
    ),
)
WINOGRAD_2D = Algorithm(
    "Winograd F(2x2, 3x3)",
    "numba",
    "winograd_2d",
    (
        _COMPILED,
        _NOT_DW_ALONE,
        Condition("filter 3x3", lambda case: case.size == (3, 3)),
        _UNIT_STEPS,
        _FLOAT32,
        Condition("no other phases of a stride", lambda case: not case.interleaved),
        Condition(
            "channels C and filters F with C F / (C + F) of {winograd_2d_channels} or more",
            lambda case: _saves(case, TUNING.winograd_2d_channels),
        ),
        Condition(
            "{winograd_2d_fewest_images} images or more", lambda case: case.images >= TUNING.winograd_2d_fewest_images
        ),
        Condition("2 rows and columns of output or more", lambda case: min(case.out) > 1),
        _CONTIGUOUS,
    ),
)
WINOGRAD_1D = Algorithm(
    "Winograd F(2, 3) along W",
    "numpy",
    "winograd_1d",
    (
        _NOT_DW_ALONE,
        Condition("filter 3 columns wide", lambda case: case.size[1] == 3),
        _UNIT_STEPS,
        _FLOAT32,
        Condition(
            "C F / (C + F) of {winograd_1d_channels} or more", lambda case: _saves(case, TUNING.winograd_1d_channels)
        ),
        Condition(
            "{winograd_1d_width} columns of output or more", lambda case: case.out[1] >= TUNING.winograd_1d_width
        ),
    ),
)
COMPILED_ROWS = Algorithm(
    "im2col, row by row",
    "numba",
    "im2col_rows",
    (
        _COMPILED,
        Condition(
            "{compiled_rows_fewest_images} to {compiled_rows_most_images} images", lambda case: loops_pay(case.images)
        ),
        Condition("dilation 1 along H", lambda case: case.dilation[0] == 1),
        _CONTIGUOUS,
    ),
)
ROWS = Algorithm("im2col, row by row", "numpy", "conv_algorithms", ())

#: in the order in which they are tried
ALGORITHMS = (COMPILED_IMAGES, IMAGES, WINOGRAD_2D, WINOGRAD_1D, COMPILED_ROWS, ROWS)


def choose_algorithm(case: Case) -> Algorithm:
    """Return the algorithm that computes `case`."""
    chosen = next(algorithm for algorithm in ALGORITHMS if algorithm.unmet(case) is None)
    note("algorithm", case, chosen)
    return chosen


def reason(case: Case) -> str:
    """Say why `choose_algorithm` takes what it takes: the conditions met, and what the algorithms before it need."""
    chosen = next(algorithm for algorithm in ALGORITHMS if algorithm.unmet(case) is None)
    said = [", ".join(str(condition) for condition in chosen.conditions if condition not in (*_OBVIOUS, _NOT_DW_ALONE))]
    needs: dict[str, Condition] = {}
    for algorithm in ALGORITHMS[: ALGORITHMS.index(chosen)]:
        missing = algorithm.unmet(case)
        if missing is not None and missing not in _OBVIOUS:
            needs.setdefault(algorithm.name, missing)
    said += [f"{name} needs {missing}" for name, missing in needs.items()]
    return "; ".join(filter(None, said))


def loops_pay(images: int) -> bool:
    """Tell whether compiled loops over the images of a batch pay."""
    return TUNING.compiled_rows_fewest_images <= images <= TUNING.compiled_rows_most_images
