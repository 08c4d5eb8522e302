"""Every layer and option, written to a file and read back: the same predictions, and the same step of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpdl
from tests.layers.table import ROWS, Row
from tests.onnx.graphs import outputs
from tests.onnx.test_export import model_of
from xpdl import layers as L
from xpdl import use

pytestmark = pytest.mark.needs("onnx")

#: rows that no model is read from -> the reason that the error gives
NOT_READ = {
    **dict.fromkeys(("Softmax (5,)", "LogSoftmax (5,)"), "it is over the axis -1 of 1, and not over one of a row"),
    **{row.id: "it is over the axis -1 of 1" for row in ROWS if " one " in row.id and "column" not in row.id},
}
#: running variances of these, which a file has together with what a float32 lacks of eps, round in float64
ROUNDED = {row.id for row in ROWS if row.cls is L.BatchNormalization}

each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def written(row: Row, dtype: str, path: Any) -> tuple[Any, Any, str | None]:
    """The row's layer as a model of one layer, its input, and the activation of its loss."""
    x = row.inputs[0] if row.cls is L.Embedding else row.inputs[0].astype(dtype)
    with use("numpy", dtype=dtype):
        model, activation = model_of(row, {k: a.astype(dtype) for k, a in {**row.params, **row.constants}.items()})
        model = model if isinstance(model, xpdl.Sequential) else xpdl.Sequential(model, seed=3)
        model.build(x.shape[1:])
        xpdl.onnx.export(model, path, x.shape[1:], activation=activation)
    return model, x, activation


@pytest.mark.quick(lambda row, dtype: dtype == "float32" and row.core)
@each_dtype
@pytest.mark.applies(lambda row: row.id not in NOT_READ)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_step_of_training_is_bitwise_identical(row: Row, dtype: str, tmp_path: Any) -> None:
    model, x, activation = written(row, dtype, tmp_path / "x.onnx")
    with use("numpy", dtype=dtype):
        again = xpdl.onnx.load(tmp_path / "x.onnx", seed=3)
    y = model.predict(x)
    expected = y if activation is None else model.last_layer.activation(y)
    ulps = 4e-15 if dtype == "float64" and row.id in ROUNDED else 0.0
    np.testing.assert_allclose(outputs(again, x), expected, rtol=ulps, atol=ulps)
    dout = np.random.default_rng(0).standard_normal(y.shape).astype(dtype)
    for one in (model, again):
        one.forward(x, True)
        one.backward(dout)
        xpdl.SGD(lr=0.1).update(one.params, one.grads)
    assert len(model.params) == len(again.params) == len(row.params)
    for a, b in zip(model.params.values(), again.params.values(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(model.buffers.values(), again.buffers.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=ulps, atol=0)


@pytest.mark.parametrize("name", sorted(NOT_READ))
def test_what_does_not_come_back_is_named(name: str, tmp_path: Any) -> None:
    (row,) = (row for row in ROWS if row.id == name)
    written(row, "float64", tmp_path / "x.onnx")
    with pytest.raises(
        ValueError, match=rf"cannot be read into layers: (the .* of )?node '\w+' \(\w+\).*{NOT_READ[name]}"
    ):
        xpdl.onnx.load(tmp_path / "x.onnx")
