"""One mapping over the arrays of many dicts."""

from __future__ import annotations

import numpy as np
import pytest

from xpdl.errors import ShapeError
from xpdl.layers.parameter_view import ParameterView


@pytest.fixture
def owners() -> list[dict[str, np.ndarray]]:
    return [{"W": np.ones((2, 3)), "b": np.zeros(3)}, {"W": np.ones((3, 1))}]


@pytest.fixture
def view(owners: list[dict[str, np.ndarray]]) -> ParameterView:
    return ParameterView({"W1": (owners[0], "W"), "b1": (owners[0], "b"), "W2": (owners[1], "W")})


def test_reads_and_writes_where_the_arrays_are(view: ParameterView, owners: list[dict[str, np.ndarray]]) -> None:
    assert list(view) == ["W1", "b1", "W2"] and len(view) == 3
    assert view["W2"] is owners[1]["W"]
    new = np.full((2, 3), 5.0)
    view["W1"] = new
    assert owners[0]["W"] is new and view["W1"] is new
    assert owners[1]["W"].shape == (3, 1)


def test_an_unknown_name_is_an_error_that_lists_those_there_are(view: ParameterView) -> None:
    with pytest.raises(KeyError, match="no parameter 'W3'; there are W1, b1, W2"):
        view["W3"] = np.ones(2)
    with pytest.raises(KeyError, match="W3"):
        view["W3"]


@pytest.mark.parametrize("shape", [(3, 2), (3,), (2, 3, 1), ()])
def test_an_array_of_another_shape_is_an_error(
    view: ParameterView, owners: list[dict[str, np.ndarray]], shape: tuple[int, ...]
) -> None:
    before = owners[0]["W"]
    with pytest.raises(ShapeError, match=r"parameter 'W1' has shape \(2, 3\), got \("):
        view["W1"] = np.ones(shape)
    assert owners[0]["W"] is before


def test_what_is_no_array_is_an_error(view: ParameterView) -> None:
    with pytest.raises(TypeError, match="parameter 'b1'"):
        view["b1"] = [1.0, 2.0, 3.0]


def test_nothing_can_be_deleted(view: ParameterView) -> None:
    with pytest.raises(TypeError, match="parameter 'b1' belongs to a layer"):
        del view["b1"]
    assert len(view) == 3


def test_the_representation_shows_the_shapes(view: ParameterView) -> None:
    assert repr(view) == "ParameterView({'W1': (2, 3), 'b1': (3,), 'W2': (3, 1)})"
