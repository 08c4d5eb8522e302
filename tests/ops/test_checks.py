"""Each failed check names who asked, what came and what was expected."""

from __future__ import annotations

import fractions
import math
from contextlib import nullcontext as does_not_raise
from pathlib import Path
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


@pytest.mark.parametrize("value", [(3, 1), [3, 1], np.array([3, 1]), range(3, 0, -2)], ids=repr)
def test_sizes_are_a_tuple_of_plain_ints(value: Any) -> None:
    got = checks.sizes(value, "input_shape", "Layer")
    assert got == (3, 1) and {type(size) for size in got} == {int}
    assert checks.sizes((), "input_shape", "Layer") == ()


def test_sizes_name_what_is_no_sequence_and_what_is_no_size() -> None:
    for odd in ("12", 3, None):
        with pytest.raises(ShapeError, match="Layer: input_shape must be a sequence of ints, got"):
            checks.sizes(odd, "input_shape", "Layer")
    for odd in ((1, 0), (2.5,), (None, 3)):
        with pytest.raises(ShapeError, match="Layer: each of input_shape must be an int of at least 1, got"):
            checks.sizes(odd, "input_shape", "Layer")


class TestNumber:
    TINY, BELOW_1, ABOVE_1 = 5e-324, math.nextafter(1, 0), math.nextafter(1, 2)

    @pytest.mark.parametrize(
        ("bounds", "inside", "outside"),
        [
            ("", (-1e308, 0, 1e308), (math.inf, -math.inf)),
            ("at least 0", (0, TINY, 1e308), (-TINY, math.inf)),
            ("positive", (TINY, 1, 1e308), (0, -1, math.inf)),
            ("in [0, 1)", (0, BELOW_1), (-TINY, 1)),
            ("in [0, 1]", (0, 1), (-TINY, ABOVE_1)),
            ("in (0, 0.5)", (TINY, math.nextafter(0.5, 0)), (0, 0.5)),
        ],
    )
    def test_bounds_hold_to_the_last_digit(self, bounds: str, inside: Any, outside: Any) -> None:
        for value in inside:
            assert checks.number(value, "rate", "Layer", bounds) == value
        for value in (*outside, math.nan):
            with pytest.raises(ValueError, match=r"Layer: rate must be a finite number") as caught:
                checks.number(value, "rate", "Layer", bounds)
            assert str(caught.value).endswith(f"finite number{bounds and f' {bounds}'}, got {value!r}")

    @pytest.mark.parametrize("value", [2, np.float32(2), np.int8(2), fractions.Fraction(4, 2)], ids=repr)
    def test_of_any_type_becomes_a_float_of_python(self, value: Any) -> None:
        assert type(checks.number(value, "rate", "Layer")) is float
        assert checks.number(value, "rate", "Layer") == 2.0

    @pytest.mark.parametrize("value", [None, "1", True, np.bool_(True), 1j, [1.0], np.ones(1), 10**400], ids=str)
    def test_what_is_none_is_named(self, value: Any) -> None:
        for optional in (False, True):
            with pytest.raises(ValueError, match="Layer: rate must be a finite number positive") as caught:
                checks.number(value, "rate", "Layer", "positive", optional=optional)
            assert (" or None, got " in str(caught.value)) is optional


def test_a_function_is_what_can_be_called() -> None:
    assert checks.function(len, "loss", "Search") is len
    with pytest.raises(TypeError, match="Search: loss must be a function, got 'mse'"):
        checks.function("mse", "loss", "Search")


def test_a_path_becomes_a_string() -> None:
    for path in ("a/b", Path("a") / "b", b"a/b"):
        assert checks.path_like(path, "folder", "Trainer") == "a/b"
    with pytest.raises(TypeError, match="Trainer: folder must be a path, got 3"):
        checks.path_like(3, "folder", "Trainer")


def test_a_flag_is_a_bool_and_nothing_like_one() -> None:
    assert checks.flag(True, "use_bias", "Affine") is True and checks.flag(False, "use_bias", "Affine") is False
    for odd in (1, 0, None, "False", np.bool_(True)):
        with pytest.raises(TypeError, match="Affine: use_bias must be True or False, got"):
            checks.flag(odd, "use_bias", "Affine")


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_are_not_floating(backend: Backend, dtype: str) -> None:
    with pytest.raises(DTypeError, match=f"Affine: expected a floating array, got {dtype}.*asarray"):
        checks.require_floating(backend.asarray([0, 1], dtype), "Affine")


def test_floating_arrays_pass(backend: Backend) -> None:
    with does_not_raise():
        checks.require_floating(backend.asarray([0.0]), "Affine")


def test_a_wrong_rank_names_the_layout() -> None:
    with pytest.raises(ShapeError, match=r"Convolution: expected images \(N, C, H, W\).*rank 4, got shape \(2, 3\)"):
        checks.require_rank(np.zeros((2, 3)), 4, "Convolution", "images (N, C, H, W)")
    checks.require_rank(np.zeros((2, 3)), 2, "Affine", "rows (N, D)")


def test_a_wrong_shape_names_both() -> None:
    with pytest.raises(ShapeError, match=r"Affine: dout must have shape \(2, 4\), got \(2, 3\)"):
        checks.require_shape(np.zeros((2, 3)), (2, 4), "Affine", "dout")
    checks.require_shape(np.zeros((2, 3)), (2, 3), "Affine", "dout")


def test_scores_are_at_least_one_along_the_last_axis() -> None:
    for shape in ((1,), (0, 3), (2, 1), (2, 0, 1)):
        checks.require_scores(np.zeros(shape), "Softmax")
    for shape in ((), (0,), (2, 0)):
        with pytest.raises(ShapeError, match="Softmax: expected at least one score along the last axis, got shape"):
            checks.require_scores(np.zeros(shape), "Softmax")


class TestLabelRows:
    @pytest.mark.parametrize("dtype", ["int64", "uint8"])
    def test_a_column_of_labels_loses_its_axis(self, dtype: str) -> None:
        t = np.array([[3], [0]], dtype)
        np.testing.assert_array_equal(checks.label_rows(t, np.zeros((2, 4))), np.array([3, 0], dtype))
        np.testing.assert_array_equal(checks.label_rows(t[0], np.zeros(4)), np.array(3, dtype))

    @pytest.mark.parametrize(
        ("t", "scores"),
        [
            (np.array([1, 0]), (2, 4)),  # labels
            (np.array([[0.0], [1.0]]), (2, 4)),  # floats are no labels
            (np.array([[True], [False]]), (2, 4)),
            (np.array([[0], [1]]), (2, 1)),  # one class
            (np.eye(4, dtype=int)[:2], (2, 4)),  # one-hot
            (np.array(2), (4,)),  # the label of one sample
            (np.array(2), ()),
            (np.array([[[1]], [[0]]]), (2, 4)),  # of another rank: for others to refuse
        ],
        ids=lambda value: str(value.tolist()) if isinstance(value, np.ndarray) else str(value),
    )
    def test_other_targets_are_as_they_were(self, t: Any, scores: tuple[int, ...]) -> None:
        assert checks.label_rows(t, np.zeros(scores)) is t


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


def test_as_floating_names_what_is_not_real_and_who_asked_when_told() -> None:
    for owner, start in (("Relu", "Relu: expected"), ("", "expected")):
        with pytest.raises(DTypeError, match=f"^{start} real numbers, got complex128; pass floats"):
            checks.as_floating(np.ones(2, complex), owner)


class TestRequireLabels:
    @pytest.mark.parametrize(("label", "classes"), [(10, 10), (-1, 10), (255, 10)])
    def test_a_label_outside_is_named_on_the_host(self, label: int, classes: int) -> None:
        with pytest.raises(
            LabelError, match=f"t: label {label} of row \\d is not one of the {classes} classes 0 to {classes - 1}"
        ):
            checks.require_labels(np.array([0, label, 3]), classes, "t")

    def test_all_classes_pass(self) -> None:
        checks.require_labels(np.array([0, 9, 5]), 10, "t")
        with pytest.raises(LabelError, match="label -2 of row 0 is not one of"):
            checks.require_labels(np.array([-2, 10]), 10, "t")

    def test_no_labels_pass(self) -> None:
        with does_not_raise():
            checks.require_labels(np.zeros((0,), np.int64), 10, "t")

    @pytest.mark.parametrize("dtype", ["float32", "bool"])
    def test_other_dtypes_are_named(self, backend: Backend, dtype: str) -> None:
        with pytest.raises(DTypeError, match=f"t: labels must be integers, got {dtype}"):
            checks.require_labels(backend.asarray([0, 1], dtype), 10, "t")

    @pytest.mark.backends("array_api_strict", "meta", "torch:cuda", "cupy")
    def test_device_labels_are_not_read(self, backend: Backend) -> None:
        with does_not_raise(), backend.rules():
            checks.require_labels(backend.asarray([0, 99]), 10, "t")


@pytest.mark.backends("values")
@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([[1.0, -2.0]], True),
        ([[0.0, np.nan]], False),
        ([[-np.inf, 0.0]], False),
        ([[np.inf, 1.0]], False),
        ([[]], True),
    ],
)
def test_is_finite(backend: Backend, values: list[list[float]], wanted: bool) -> None:
    assert checks.is_finite(backend.asarray(np.asarray(values))) is wanted
