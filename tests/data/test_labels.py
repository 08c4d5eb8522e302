"""Labels outside the classes are found where data enters, on every backend."""

import numpy as np
import pytest

from xpdl import DTypeError, LabelError, ShapeError
from xpdl.data import check_labels


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="labels are read on the host, which is what this is for")
class TestOnEveryBackend:
    @pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
    def test_labels_in_range_pass(self, backend, dtype):
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
        check_labels(backend.asarray(np.eye(3)), 3, "here")

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
