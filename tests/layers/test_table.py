"""Every layer, in every configuration of the table, on every backend."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from tests.layers.table import CORE, FIRST, ROWS, Row, wanted
from tests.pairs import HALF, as_read, as_tuple, cast, check
from xpdl import layers
from xpdl.errors import ShapeError

Make = Callable[[Backend, Any], Any]


def plain(backend: Backend, a: Any) -> Any:
    return backend.asarray(a)


def transposed(backend: Backend, a: Any) -> Any:
    """Columns first in memory."""
    axes = tuple(reversed(range(a.ndim)))
    return backend.xp.permute_dims(backend.asarray(a.transpose(axes)), axes)


def sliced(backend: Backend, a: Any) -> Any:
    """Every second entry of a larger array, whose other entries are NaN or the largest integer."""
    if a.ndim == 0:
        return backend.asarray(a)
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1] + 1), np.nan if a.dtype.kind == "f" else 127, a.dtype)
    wide[..., 1::2] = a
    return backend.asarray(wide)[..., 1 : 2 * a.shape[-1] : 2]


def each_row(rows: list[Row]) -> Any:
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.id)


def drive(backend: Backend, row: Row, dtype: str, make: Make = plain) -> None:
    """Forward, backward and gradients against the oracle; nothing that came in is changed.

    Namespace, device, dtype and shape are checked too.
    """
    want = wanted(row)
    hosts = [cast(a, dtype) for a in (*row.inputs, want.dout, *row.params.values(), *row.constants.values())]
    arrays = [make(backend, a) for a in hosts]
    count = len(row.inputs)
    names = [*row.params, *row.constants]

    def run(*arrays: Any) -> Any:
        inputs, dout = arrays[:count], arrays[count]
        layer = row.make(dict(zip(names, arrays[count + 1 :], strict=True)))
        y = layer.forward(*inputs)
        dinputs = as_tuple(layer.backward(dout))
        grads = dict(getattr(layer, "grads", {}))
        assert list(grads) == list(row.params), "one gradient for each parameter, in their order"
        return y, dinputs[: row.wrt], grads

    y, dinputs, grads = backend.call(run, *arrays)
    # losses, and they alone, are float32 for half precision
    wide = dtype in HALF and np.shape(want.output) == ()
    check(backend, y, want.output, "float32" if wide else dtype, HALF.get(dtype))
    # central differences in float64 are good to about 1e-10 of the largest value
    loose = {"float64": 1e-8, "float32": 5e-5, **HALF}[dtype]
    for got, desired in zip(dinputs, want.dinputs, strict=True):
        check(backend, got, desired, dtype, loose)
    for name, desired in want.dparams.items():
        check(backend, grads[name], desired, dtype, loose)
    if backend.spec.values:
        for a, host in zip(arrays, hosts, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(a), as_read(host), err_msg="an argument was modified")


@each_row(ROWS)
@pytest.mark.backends("numpy", "array_api_strict", "torch", "cupy")
def test_agrees_with_the_oracle(backend: Backend, row: Row) -> None:
    for dtype in ("float64", "float32") if backend.spec.float64 else ("float32",):
        drive(backend, row, dtype)


@each_row(CORE)
@pytest.mark.backends("jit")
def test_agrees_with_the_oracle_when_traced(backend: Backend, row: Row) -> None:
    drive(backend, row, "float32")


# without jit, JAX compiles every operation for every shape: slow
@each_row(FIRST)
@pytest.mark.backends("jax")
@pytest.mark.backends("eager")
def test_agrees_with_the_oracle_on_jax_untraced(backend: Backend, row: Row) -> None:
    drive(backend, row, "float32")


@each_row(CORE)
@pytest.mark.backends("numpy", "torch", "cupy")
def test_float16_stays_float16(backend: Backend, row: Row) -> None:
    drive(backend, row, "float16")


@each_row([row for row in ROWS if not row.core])
@pytest.mark.exhaustive
@pytest.mark.backends("torch")
@pytest.mark.backends("plain")
def test_other_rows_stay_float16(backend: Backend, row: Row) -> None:
    drive(backend, row, "float16")


@pytest.mark.needs("ml_dtypes")
@each_row(FIRST)
@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [pytest.param("float16", marks=pytest.mark.slow), "bfloat16"])
@pytest.mark.backends("jit")
def test_half_precision_stays_such_when_traced(backend: Backend, row: Row, dtype: str) -> None:
    drive(backend, row, dtype)


@pytest.mark.needs("ml_dtypes")
@each_row(ROWS)
@pytest.mark.backends("torch", "cupy")
def test_bfloat16_stays_bfloat16(backend: Backend, row: Row) -> None:
    drive(backend, row, "bfloat16")


@each_row(CORE)
@pytest.mark.parametrize("layout", [transposed, sliced])
@pytest.mark.backends("numpy", "torch", "cupy")
@pytest.mark.backends("plain")
def test_accepts_any_memory_layout(backend: Backend, row: Row, layout: Make) -> None:
    drive(backend, row, "float64", layout)


# nothing is saved, or the book calls their backward twice
REPEATABLE = {layers.AddLayer, layers.Identity, *(row.cls for row in ROWS if issubclass(row.cls, layers.LossLayer))}


def arrays_back(layer: Any, dout: Any) -> list[Any]:
    """Results of a backward pass: gradients of inputs, then of parameters."""
    return [*as_tuple(layer.backward(dout)), *getattr(layer, "grads", {}).values()]


def on_backend(backend: Backend, row: Row) -> tuple[Any, list[Any], Any]:
    """The layer, its inputs and an upstream gradient."""
    layer = row.make({name: backend.asarray(a) for name, a in {**row.params, **row.constants}.items()})
    return layer, [backend.asarray(a) for a in row.inputs], backend.asarray(wanted(row).dout)


def size_after_a_pass(row: Row, times: int) -> int:
    """Bytes of the pickle of a layer that has gone through the rows of its input `times` times over."""
    layer = row.make({**row.params, **row.constants})
    layer.forward(*(np.concatenate([a] * times) for a in row.inputs))
    return len(pickle.dumps(layer))


@each_row(FIRST)
def test_a_pickle_holds_no_rows(row: Row) -> None:
    assert size_after_a_pass(row, 1) == size_after_a_pass(row, 9)


@each_row([row for row in FIRST if row.cls not in (layers.Identity, layers.AddLayer)])
@pytest.mark.backends("numpy")
def test_a_copy_needs_a_forward_of_its_own(backend: Backend, row: Row) -> None:
    layer, inputs, dout = on_backend(backend, row)
    start = dict(getattr(layer, "state", {}))
    y = layer.forward(*inputs)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        getattr(other, "state", {}).update(start)  # the step of a random mask
        with pytest.raises(RuntimeError, match="backward needs a forward first"):
            other.backward(dout)
        np.testing.assert_array_equal(other.forward(*inputs), y)


@each_row(ROWS)
@pytest.mark.backends("numpy")
def test_backward_keeps_the_output(backend: Backend, row: Row) -> None:
    layer, inputs, dout = on_backend(backend, row)
    y = layer.forward(*inputs)
    kept = np.array(y)
    layer.backward(dout)
    np.testing.assert_array_equal(y, kept)


@each_row([row for row in ROWS if row.cls in REPEATABLE])
@pytest.mark.backends("numpy", "torch")
@pytest.mark.skip_backend("meta", reason="has no values")
def test_backward_can_be_repeated(backend: Backend, row: Row) -> None:
    layer, inputs, dout = on_backend(backend, row)
    layer.forward(*inputs)
    first, second = arrays_back(layer, dout), arrays_back(layer, dout)
    assert len(first) >= row.wrt
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(a), backend.to_numpy(b))


@each_row([row for row in ROWS if row.cls not in REPEATABLE])
@pytest.mark.backends("numpy", "torch")
@pytest.mark.skip_backend("meta", reason="has no values")
def test_each_forward_is_good_for_one_backward(backend: Backend, row: Row) -> None:
    layer, inputs, dout = on_backend(backend, row)
    start = dict(getattr(layer, "state", {}))
    layer.forward(*inputs)
    first = arrays_back(layer, dout)
    with pytest.raises(RuntimeError, match="has used up what the last forward saved; call forward before each"):
        layer.backward(dout)
    getattr(layer, "state", {}).update(start)  # the step of a random mask
    layer.forward(*inputs)
    for a, b in zip(first, arrays_back(layer, dout), strict=True):
        np.testing.assert_array_equal(backend.to_numpy(a), backend.to_numpy(b))


@each_row([row for row in ROWS if row.cls not in REPEATABLE])
@pytest.mark.backends("numpy")
def test_a_layer_called_in_two_places_refuses_the_second_backward(backend: Backend, row: Row) -> None:
    layer, inputs, dout = on_backend(backend, row)
    for scale in (0.5, 1.0):
        layer.forward(*(scale * x if x.dtype.kind == "f" else x for x in inputs))
    layer.backward(dout)
    with pytest.raises(RuntimeError, match="make one layer for each place"):
        layer.backward(dout)


@each_row([row for row in ROWS if row.cls not in {*REPEATABLE, layers.MulLayer}])
@pytest.mark.backends("numpy")
def test_a_refused_dout_uses_nothing_up(backend: Backend, row: Row) -> None:
    layer, inputs, dout = on_backend(backend, row)
    layer.forward(*inputs)
    with pytest.raises((ShapeError, TypeError)):
        layer.backward("no array")
    assert len(arrays_back(layer, dout)) == max(1, row.wrt) + len(row.params)


@each_row([row for row in ROWS if row.cls not in (layers.Identity, layers.AddLayer)])
def test_backward_before_forward_is_an_error(row: Row) -> None:
    """`Identity` and `AddLayer` save nothing."""
    layer = row.make({**row.params, **row.constants})
    with pytest.raises(RuntimeError, match="backward needs a forward first"):
        layer.backward(wanted(row).dout)


@each_row(
    [
        row
        for row in ROWS
        if wanted(row).dout.ndim > 1 and row.cls not in (layers.Identity, layers.AddLayer, layers.MulLayer)
    ]
)
def test_a_dout_of_another_shape_is_an_error(row: Row) -> None:
    layer = row.make({**row.params, **row.constants})
    layer.forward(*row.inputs)
    with pytest.raises(ShapeError, match=r"dout must have the shape of the output"):
        layer.backward(wanted(row).dout[:, :-1])


@each_row(
    [
        row
        for row in ROWS
        if issubclass(row.cls, layers.Layer) and not issubclass(row.cls, layers.LossLayer) and len(row.inputs) == 1
    ]
)
def test_the_output_shape_is_known_before(row: Row) -> None:
    layer = row.make({**row.params, **row.constants})
    assert layer.built
    assert layer.output_shape(row.inputs[0].shape[1:]) == wanted(row).output.shape[1:]
    assert layer.build((None, *row.inputs[0].shape[1:])) == wanted(row).output.shape[1:]


def test_every_layer_has_a_core_row() -> None:
    abstract = {"Layer", "LossLayer"}
    missing = set(layers.__all__) - abstract - {row.cls.__name__ for row in CORE}
    assert not missing, f"add rows to tests/layers/table.py for {sorted(missing)}"


def test_every_class_of_layer_is_public() -> None:
    found = {
        c.__name__ for c in _subclasses(layers.Layer) if c.__module__.startswith("xpdl.layers") and c.__name__[0] != "_"
    }
    inner = {"Composite", "FilterLayer", "FunctionLoss", "FusedStep", "SeveralLosses", "WiredLayers"}
    # the last three are tested with the models that have them
    inner |= {"Recurrent", "CandidateScores", "TiedEmbedding", "TiedScores"}
    inner |= {"ScaleShift"}  # of models read from ONNX files; tests/layers/test_scale_shift.py
    assert found - inner <= set(layers.__all__)


def _subclasses(cls: type) -> set[type]:
    return {cls}.union(*(_subclasses(sub) for sub in cls.__subclasses__()))
