"""A convolution is computed by the algorithm that `choose_algorithm` names, and the reason is the one that decides."""

import importlib

import numpy as np
import pytest

from tests.backends.watched import load_compiled
from xpdl.backends import decisions
from xpdl.backends.cpu.choose_algorithm import (
    ALGORITHMS,
    COMPILED_IMAGES,
    COMPILED_ROWS,
    FILTER_GRADIENT,
    FORWARD,
    GRADIENTS,
    IMAGES,
    ROWS,
    WINOGRAD_1D,
    WINOGRAD_2D,
    Case,
    choose_algorithm,
    reason,
)
from xpdl.backends.cpu.tuning import tuned
from xpdl.ops import convolution as ops

#: what all algorithms but those for few images can compute
BASE = Case(FORWARD, True, 100, 32, 32, (3, 3), (1, 1), (1, 1), (14, 14), np.dtype("f4"), True)

#: changes of `BASE` -> the algorithm with compiled kernels and without, and a part of the reason with them
CHOICES = [
    ({}, WINOGRAD_2D, WINOGRAD_1D, "filter 3x3"),
    ({"passes": GRADIENTS}, WINOGRAD_2D, WINOGRAD_1D, "filter 3x3"),
    ({"passes": FILTER_GRADIENT}, COMPILED_ROWS, ROWS, "Winograd F(2x2, 3x3) needs forward, or dx and dW"),
    ({"images": 3}, COMPILED_IMAGES, IMAGES, "fewer than 8 images"),
    ({"images": 4}, COMPILED_IMAGES, WINOGRAD_1D, "fewer than 8 images"),
    ({"images": 7}, COMPILED_IMAGES, WINOGRAD_1D, "fewer than 8 images"),
    ({"images": 8}, WINOGRAD_2D, WINOGRAD_1D, "8 images or more"),
    ({"images": 3, "passes": GRADIENTS}, WINOGRAD_1D, WINOGRAD_1D, "Winograd F(2x2, 3x3) needs 8 images or more"),
    ({"images": 7, "passes": FILTER_GRADIENT}, ROWS, ROWS, "needs 8 to 1024 images"),
    ({"images": 1024, "size": (5, 5)}, COMPILED_ROWS, ROWS, "8 to 1024 images"),
    ({"images": 1025, "size": (5, 5)}, ROWS, ROWS, "needs 8 to 1024 images"),
    ({"images": 1025}, WINOGRAD_2D, WINOGRAD_1D, "8 images or more"),
    ({"channels": 12, "filters": 12}, WINOGRAD_2D, COMPILED_ROWS, "of 6 or more"),
    ({"channels": 11, "filters": 13}, COMPILED_ROWS, COMPILED_ROWS, "of 6 or more"),
    ({"channels": 20, "filters": 20, "size": (5, 3)}, WINOGRAD_1D, WINOGRAD_1D, "needs filter 3x3"),
    ({"channels": 19, "filters": 21, "size": (5, 3)}, COMPILED_ROWS, ROWS, "needs C F / (C + F) of 10 or more"),
    ({"size": (3, 5)}, COMPILED_ROWS, ROWS, "needs filter 3 columns wide"),
    ({"stride": (1, 2)}, COMPILED_ROWS, ROWS, "needs stride 1"),
    ({"dilation": (1, 2)}, COMPILED_ROWS, ROWS, "needs stride 1, dilation 1"),
    ({"dilation": (2, 1)}, ROWS, ROWS, "needs dilation 1 along H"),
    ({"dtype": np.dtype("f8")}, COMPILED_ROWS, ROWS, "needs float32"),
    ({"out": (1, 14)}, WINOGRAD_1D, WINOGRAD_1D, "needs 2 rows and columns"),
    ({"out": (2, 3)}, WINOGRAD_2D, ROWS, "2 rows and columns"),
    ({"out": (1, 3)}, COMPILED_ROWS, ROWS, "needs 4 columns of output"),
    ({"contiguous": False}, WINOGRAD_1D, WINOGRAD_1D, "needs no groups"),
    ({"contiguous": False, "size": (5, 5)}, ROWS, ROWS, "needs no groups"),
    ({"interleaved": True, "passes": GRADIENTS}, WINOGRAD_1D, WINOGRAD_1D, "needs no other phases"),
]


@pytest.mark.parametrize("changes, compiled, pure, why", CHOICES, ids=lambda value: str(value) if value == {} else None)
def test_first_algorithm_whose_conditions_hold_is_chosen(changes, compiled, pure, why):
    case = BASE._replace(**changes)
    assert choose_algorithm(case) is compiled
    assert why in reason(case)
    without = choose_algorithm(case._replace(compiled=False))
    assert without is (ROWS if pure is COMPILED_ROWS else pure) and without.kernels == "numpy"


def test_every_algorithm_is_chosen_for_something():
    assert {compiled for _, compiled, _, _ in CHOICES} | {pure for _, _, pure, _ in CHOICES} == set(ALGORITHMS)


@pytest.mark.parametrize("kernels", ["numpy", pytest.param("numba", marks=pytest.mark.needs("numba"))])
def test_code_of_an_algorithm_is_in_the_module_that_it_names(kernels):
    found = importlib.import_module(f"xpdl.backends.{kernels}.conv_algorithms").IMPLEMENTATIONS
    assert found.compiled is (kernels == "numba")
    every = [algorithm for algorithm in ALGORITHMS if algorithm.kernels in ("numpy", kernels)]
    assert set(found.of_correlations) == set(every) - {IMAGES, COMPILED_IMAGES}
    for algorithm, code in found.of_correlations.items():
        assert code.__module__ == f"xpdl.backends.{algorithm.kernels}.{algorithm.module}"


def test_the_table_decides():
    with tuned(winograd_2d_channels=17):
        assert choose_algorithm(BASE) is WINOGRAD_1D
        assert "C F / (C + F) of 17 or more" in reason(BASE)
        with tuned(winograd_1d_channels=17):
            assert choose_algorithm(BASE) is COMPILED_ROWS


#: arguments of a convolution -> the choices of forward, of both gradients, and of the filters' alone
CALLS = [
    ({"n": 100}, "winograd_2d", "winograd_2d", "im2col_rows"),
    ({"n": 2}, "im2col_small_batch", "winograd_1d", "conv_algorithms"),
    ({"n": 8, "groups": 2}, "winograd_1d", "winograd_1d", "conv_algorithms"),
    ({"n": 8, "groups": 4}, "conv_algorithms", "conv_algorithms", "conv_algorithms"),
    ({"n": 8, "size": (5, 3)}, "winograd_1d", "winograd_1d", "im2col_rows"),
    ({"n": 8, "size": (5, 5), "stride": (2, 2)}, "im2col_rows", "im2col_rows winograd_1d", "im2col_rows"),
    ({"n": 8, "dtype": "f8", "dilation": (2, 1)}, "conv_algorithms", "conv_algorithms", "conv_algorithms"),
]


@pytest.mark.needs("numba")
@pytest.mark.parametrize("arguments, forward, both, dW", CALLS, ids=lambda value: str(value))
def test_kernels_run_what_was_chosen(arguments, forward, both, dW):
    load_compiled()
    options = {"n": 8, "size": (3, 3), "groups": 1, "dtype": "f4", **arguments}
    n, size, groups, dtype = (options.pop(name) for name in ("n", "size", "groups", "dtype"))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 40, 8, 9)).astype(dtype)
    W = rng.normal(size=(40, 40 // groups, *size)).astype(dtype)
    options |= {"pad": (2, 2), "groups": groups}
    chosen = []
    with decisions.listening(lambda *what: chosen.append(what)):
        y = ops.convolution(x, W, **options)
        assert modules(chosen, FORWARD) == {forward}
        ops.convolution_backward(y, x, W, **options)
        assert modules(chosen, GRADIENTS) == set(both.split())
        ops.convolution_backward(y, x, W, need_dx=False, **options)
        assert modules(chosen, FILTER_GRADIENT) == {dW}


def modules(chosen, passes):
    """The modules of the choices for a pass, and that nothing else was chosen."""
    algorithms = [what for kind, *what in chosen if kind == "algorithm"]
    assert {case.passes for case, _ in algorithms} == {passes}
    chosen.clear()
    return {algorithm.module for _, algorithm in algorithms}
