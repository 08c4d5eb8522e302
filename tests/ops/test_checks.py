"""Each failed check names who asked, what came and what was expected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from xpdl.errors import DTypeError, LabelError, ShapeError
from xpdl.ops import checks


class TestPair:
    @pytest.mark.parametrize("value", [2, np.int64(2), (2, 2), [2, 2], np.array([2, 2])])
    def test_an_int_stands_for_both(self, value: Any) -> None:
        got = checks.pair(value, "stride", "Layer", 1)
        assert got == (2, 2)
        assert [type(v) for v in got] == [int, int]

    @pytest.mark.parametrize("value", [(1, 2, 3), (1,), (), 1.0, (1, 2.0), "12", None, np.array(2.0), [[1, 2], [3, 4]]])
    def test_anything_else_is_named(self, value: Any) -> None:
        with pytest.raises(ShapeError, match="Layer: stride must be an int or a pair of ints, got"):
            checks.pair(value, "stride", "Layer", 1)

    @pytest.mark.parametrize("value", [0, (1, 0), -1, True])
    def test_too_small_is_named(self, value: Any) -> None:
        with pytest.raises(ShapeError, match="Layer: stride must be at least 1, got"):
            checks.pair(value, "stride", "Layer", 1)


@pytest.mark.parametrize("value", [0, -3, 1.5, None, "3", True, (1,)])
def test_positive_int_names_what_is_none(value: Any) -> None:
    with pytest.raises(ShapeError, match="Affine: units must be an int of at least 1, got") as caught:
        checks.positive_int(value, "units", "Affine")
    assert repr(value) in str(caught.value)


def test_positive_int_is_a_plain_int() -> None:
    assert type(checks.positive_int(np.int32(3), "units", "Affine")) is int


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_are_not_floating(backend: Backend, dtype: str) -> None:
    with pytest.raises(DTypeError, match=f"Affine: expected a floating array, got {dtype}.*asarray"):
        checks.require_floating(backend.asarray([0, 1], dtype), "Affine")


def test_floating_arrays_pass(backend: Backend) -> None:
    checks.require_floating(backend.asarray([0.0]), "Affine")


def test_a_wrong_rank_names_the_layout() -> None:
    with pytest.raises(ShapeError, match=r"Convolution: expected images \(N, C, H, W\).*rank 4, got shape \(2, 3\)"):
        checks.require_rank(np.zeros((2, 3)), 4, "Convolution", "images (N, C, H, W)")
    checks.require_rank(np.zeros((2, 3)), 2, "Affine", "rows (N, D)")


def test_a_wrong_shape_names_both() -> None:
    with pytest.raises(ShapeError, match=r"Affine: dout must have shape \(2, 4\), got \(2, 3\)"):
        checks.require_shape(np.zeros((2, 3)), (2, 4), "Affine", "dout")
    checks.require_shape(np.zeros((2, 3)), (2, 3), "Affine", "dout")


@pytest.mark.parametrize(("dtype", "shape"), [("int64", (2, 2)), ("bool", (3,)), ("uint8", ())])
def test_as_floating_casts_integers_to_the_default_of_the_library(backend: Backend, dtype: str, shape: Any) -> None:
    x = backend.asarray(np.ones(shape), dtype)
    got = checks.as_floating(x)
    # device1 and the other devices of array_api_strict differ in their default
    want = backend.xp.__array_namespace_info__().default_dtypes(device=backend.device)["real floating"]
    assert got.dtype == want
    assert tuple(got.shape) == shape


def test_as_floating_leaves_floating_arrays_alone(backend: Backend) -> None:
    x = backend.asarray([1.0], "float32")
    assert checks.as_floating(x) is x


class TestRequireLabels:
    @pytest.mark.parametrize(("label", "classes"), [(10, 10), (-1, 10), (255, 10)])
    def test_a_label_outside_is_named_on_the_host(self, label: int, classes: int) -> None:
        with pytest.raises(
            LabelError, match=f"t: label {label} is not one of the {classes} classes 0 to {classes - 1}"
        ):
            checks.require_labels(np.array([0, label, 3]), classes, "t")

    def test_no_labels_pass(self) -> None:
        checks.require_labels(np.zeros((0,), np.int64), 10, "t")

    @pytest.mark.parametrize("dtype", ["float32", "bool"])
    def test_other_dtypes_are_named(self, backend: Backend, dtype: str) -> None:
        with pytest.raises(DTypeError, match=f"t: labels must be integers, got {dtype}"):
            checks.require_labels(backend.asarray([0, 1], dtype), 10, "t")

    @pytest.mark.backends("array_api_strict", "torch", "jax", "cupy")
    def test_device_labels_are_not_read(self, backend: Backend) -> None:
        with backend.rules():
            checks.require_labels(backend.asarray([0, 99]), 10, "t")
