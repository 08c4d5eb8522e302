"""Gates: every line of the truth tables, and what a perceptron refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from xpdl.errors import ShapeError
from xpdl.perceptron import AND, NAND, OR, XOR, Perceptron

INPUTS = [(0, 0), (0, 1), (1, 0), (1, 1)]
TABLES = {AND: [0, 0, 0, 1], NAND: [1, 1, 1, 0], OR: [0, 1, 1, 1], XOR: [0, 1, 1, 0]}


@pytest.mark.parametrize("kind", [int, float, bool, np.float32, np.int64])
@pytest.mark.parametrize("gate", TABLES, ids=lambda gate: gate.__name__)
def test_truth_table(gate: Callable[[Any, Any], int], kind: Any) -> None:
    out = [gate(kind(a), kind(b)) for a, b in INPUTS]
    assert out == TABLES[gate]
    assert {type(value) for value in out} == {int}, "0 or 1, and neither True nor a NumPy number"


@pytest.mark.backends("eager")
@pytest.mark.backends("values")
def test_gates_take_numbers_of_any_library(backend: Backend) -> None:
    zero, one = backend.asarray(0.0), backend.asarray(1.0)
    assert [XOR(a, b) for a in (zero, one) for b in (zero, one)] == [0, 1, 1, 0]


def test_fires_above_zero_and_not_at_zero() -> None:
    assert Perceptron([1.0], -1.0)(1.0) == 0
    assert Perceptron([1.0], -1.0)(1.0 + 1e-12) == 1


def test_weights_may_be_an_array_and_are_kept_as_floats() -> None:
    weights = np.array([1, -2, 3])
    perceptron = Perceptron(weights, 1)
    weights[:] = 0
    assert (perceptron.w, perceptron.b) == ([1.0, -2.0, 3.0], 1.0)
    assert [perceptron(0, 1, 0), perceptron(0, 0, 1)] == [0, 1]


def test_shows_its_weights() -> None:
    assert repr(Perceptron([0.5, 0.5], -0.7)) == "Perceptron([0.5, 0.5], -0.7)"


@pytest.mark.parametrize("inputs", [(), (1,), (1, 0, 1)])
def test_a_wrong_number_of_inputs_is_named(inputs: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=f"Perceptron: has 2 weights, got {len(inputs)} inputs"):
        Perceptron([0.5, 0.5], -0.7)(*inputs)


def test_no_single_perceptron_is_xor() -> None:
    grid = np.linspace(-2.0, 2.0, 17)
    found = [
        (w1, w2, b)
        for w1 in grid
        for w2 in grid
        for b in grid
        if [Perceptron([w1, w2], b)(*pair) for pair in INPUTS] == TABLES[XOR]
    ]
    assert found == []
