"""Labels outside the classes are found where data enters, on every backend."""

from contextlib import nullcontext as does_not_raise

import numpy as np
import pytest

from xpdl import DTypeError, LabelError, ShapeError
from xpdl.data import check_labels
from xpdl.ops.targets import check_finite, check_numbers, check_shares


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="labels are read on the host, which is what this is for")
class TestOnEveryBackend:
    @pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
    def test_labels_in_range_pass(self, backend, dtype):
        with does_not_raise():
            check_labels(backend.asarray([0, 2, 1], dtype), 3, "here")
            check_labels(backend.asarray([], dtype), 3, "here")

    @pytest.mark.parametrize("bad", [3, -1])
    def test_label_out_of_range_is_named_with_its_row(self, backend, bad):
        with pytest.raises(LabelError, match=rf"here: label {bad} of row 1 is not one of the 3 classes 0 to 2"):
            check_labels(backend.asarray([0, bad, bad], "int64"), 3, "here")

    def test_a_column_of_labels_is_looked_at_too(self, backend):
        check_labels(backend.asarray([[0], [2]], "int64"), 3, "here")
        with pytest.raises(LabelError, match="label 5 of row 1"):
            check_labels(backend.asarray([[0], [5]], "int64"), 3, "here")

    def test_rows_of_as_many_columns_as_classes_pass(self, backend):
        with does_not_raise():
            check_labels(backend.asarray(np.eye(3)), 3, "here")

    @pytest.mark.parametrize("shares", [[0.9, 0.05, 0.05], [0, 0, 0], [1, 1, 0]])
    def test_rows_of_shares_pass(self, backend, shares):
        with does_not_raise():
            check_labels(backend.asarray([[0, 1, 0], shares]), 3, "here")

    @pytest.mark.parametrize(
        ("rows", "row", "value", "cure"),
        [
            ([[-1, 1, -1], [1, -1, -1]], 0, "-1", r"map them by \(t \+ 1\) / 2"),
            ([[0, 1, 0], [0, 0, 255]], 1, "255", "map them by t / 255"),
            ([[1, 2, 1], [2, 1, 1]], 0, "2", "map them by t - 1"),
            ([[0, 1, 0], [0.5, 3.5, 0]], 1, "3.5", "map another class to 0 and this one to 1"),
        ],
    )
    def test_rows_outside_of_0_to_1_are_refused_with_the_cure(self, backend, rows, row, value, cure):
        with pytest.raises(LabelError, match=f"here: row {row} has the target {value}, .*; {cure}"):
            check_labels(backend.asarray(rows), 3, "here")

    @pytest.mark.parametrize("shape", [(3, 2), (2, 3, 1), ()])
    def test_other_shapes_are_named(self, backend, shape):
        with pytest.raises(ShapeError, match=r"here: expected labels \(N,\) or one-hot rows \(N, 3\)"):
            check_labels(backend.asarray(np.zeros(shape, np.int64)), 3, "here")

    def test_one_hot_as_labels_of_another_number_of_classes_are_named(self, backend):
        with pytest.raises(ShapeError, match=r"got shape \(3, 3\)"):
            check_labels(backend.asarray(np.eye(3)), 4, "here")

    def test_floats_are_no_labels(self, backend):
        with pytest.raises(DTypeError, match="must be integers"):
            check_labels(backend.asarray([0.0, 1.0]), 3, "here")


def test_list_is_told_to_become_an_array():
    with pytest.raises(TypeError, match=r"here: expected arrays, got list; make one with xpdl\.asarray"):
        check_labels([0, 1], 2, "here")


class TestShares:
    @pytest.mark.parametrize("values", [[0, 1, 1], [0.0, 0.5, 1.0], [True, False, True]])
    def test_numbers_from_0_to_1_pass(self, values):
        with does_not_raise():
            check_shares(np.array(values), (1,), "here")
            check_shares(np.array(values)[:, None], (1,), "here")

    @pytest.mark.parametrize(
        ("values", "row", "cure"),
        [
            ([-1, 1, 1], 0, r"map them by \(t \+ 1\) / 2"),
            ([1, 2, 1], 1, "map them by t - 1"),
            ([0, 0, 255], 2, "map them by t / 255"),
            ([0.0, 1.0, 1.5], 2, "map no to 0 and yes to 1"),
            ([-0.1, 0.0, 1.0], 0, "map no to 0 and yes to 1"),
        ],
    )
    def test_others_are_refused_with_the_cure(self, values, row, cure):
        with pytest.raises(LabelError, match=f"here: row {row} has the target .*; {cure}"):
            check_shares(np.array(values), (1,), "here")

    def test_bytes_do_not_wrap(self):
        with pytest.raises(LabelError, match="has the target 255"):
            check_shares(np.array([0, 255], np.uint8), (1,), "here")


@pytest.mark.parametrize("check", [check_shares, check_numbers])
@pytest.mark.parametrize(("shape", "outputs"), [((3,), (2,)), ((3, 1), (2,)), ((3, 2), (1,)), ((3, 2), (2, 1))])
def test_targets_have_the_shape_of_the_outputs(check, shape, outputs):
    with pytest.raises(ShapeError, match=r"here: expected targets \(N, .*, as the outputs, got shape"):
        check(np.zeros(shape), outputs, "here")


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="read on the host, which is what this is for")
class TestFinite:
    @pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 3)])
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_the_first_row_is_named(self, backend, shape, bad):
        a = np.ones(shape)
        a[2:4] = bad
        with pytest.raises(ValueError, match=f"here: row 2 holds {bad} "):
            check_finite(backend.asarray(a), "here")

    def test_finite_numbers_integers_and_nothing_pass(self, backend):
        with does_not_raise():
            for a in (np.ones((3, 2)), np.arange(3), np.ones((0, 2))):
                check_finite(backend.asarray(a), "here")
