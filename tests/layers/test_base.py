"""Behaviour of every layer: sizes from the input, arrays used without a copy, modes, and clear errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import Backend, nonempty
from tests.layers.table import CORE, ROWS, Row
from tests.selection import params_of
from xpdl.backends.namespaces import array_namespace, device, dtype_name, is_array
from xpdl.errors import DTypeError, MixedArraysError, ShapeError
from xpdl.layers import (
    Affine,
    BatchNormalization,
    Chain,
    Convolution,
    Embedding,
    Flatten,
    GlobalAveragePooling,
    Identity,
    Layer,
    Pooling,
    Relu,
    Residual,
    Sigmoid,
    Softmax,
    Tanh,
)

# (id, layer without arrays, shape of an input, its parameters)
LAZY = [
    ("affine", lambda: Affine(units=3), (2, 4), {"W": (4, 3), "b": (3,)}),
    ("affine of images", lambda: Affine(units=3, use_bias=False), (2, 2, 3, 2), {"W": (12, 3)}),
    ("convolution", lambda: Convolution(filters=4, size=3), (2, 2, 4, 5), {"W": (4, 2, 3, 3), "b": (4,)}),
    (
        "convolution in groups",
        lambda: Convolution(filters=4, size=(1, 2), groups=2, use_bias=False),
        (1, 6, 3, 3),
        {"W": (4, 3, 1, 2)},
    ),
    ("normalisation of features", BatchNormalization, (3, 5), {"gamma": (5,), "beta": (5,)}),
    ("normalisation of channels", BatchNormalization, (3, 2, 4, 4), {"gamma": (2,), "beta": (2,)}),
    (
        "chain",
        lambda: Chain(Convolution(filters=2, size=3), Relu(), Pooling(2, 2), ("scores", Affine(units=3))),
        (2, 1, 6, 6),
        {"Convolution1.W": (2, 1, 3, 3), "Convolution1.b": (2,), "scores.W": (8, 3), "scores.b": (3,)},
    ),
    (
        "residual",
        lambda: Residual(Affine(units=4), BatchNormalization(), shortcut=Affine(units=4, use_bias=False)),
        (2, 3),
        {
            "body.Affine1.W": (3, 4),
            "body.Affine1.b": (4,),
            "body.BatchNormalization1.gamma": (4,),
            "body.BatchNormalization1.beta": (4,),
            "shortcut.Affine1.W": (3, 4),
        },
    ),
]
each_lazy = pytest.mark.parametrize(("make", "shape", "sizes"), [case[1:] for case in LAZY], ids=[c[0] for c in LAZY])


def shapes(layer: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in layer.params.items()}


def arrays(layer: Any) -> list[Any]:
    values = [owner[key] for kind in ("params", "state") for _, owner, key in layer.named(kind)]
    return [value for value in values if is_array(value)]


@each_lazy
def test_build_makes_parameters_of_fitting_sizes(make: Any, shape: Any, sizes: Any) -> None:
    layer = make()
    assert not layer.built and not dict(layer.params)
    out = layer.build(shape[1:])
    assert layer.built and shapes(layer) == sizes and list(layer.params) == list(sizes)
    assert layer.forward(np.ones(shape, np.float32)).shape == (shape[0], *out)


@each_lazy
@pytest.mark.backends("plain", "strict:device1", "torch:meta")
def test_the_first_forward_builds_beside_the_input_in_its_dtype(
    backend: Backend, make: Any, shape: Any, sizes: Any
) -> None:
    for dtype in ("float32", "float64"):
        layer = make()
        layer.forward(backend.asarray(np.ones(shape), dtype))
        assert shapes(layer) == sizes
        for array in arrays(layer):
            assert array_namespace(array) is backend.xp and device(array) == backend.device
            assert dtype_name(array.dtype) == dtype


@each_lazy
@pytest.mark.backends("strict:device1", "torch")
def test_build_makes_parameters_on_the_backend_in_use(backend: Backend, make: Any, shape: Any, sizes: Any) -> None:
    layer = make()
    with backend.use("float64"):
        layer.build(shape[1:])
    for array in nonempty(arrays(layer)):
        assert array_namespace(array) is backend.xp and device(array) == backend.device
        assert dtype_name(array.dtype) == "float64"


@each_lazy
def test_building_twice_keeps_the_parameters(make: Any, shape: Any, sizes: Any) -> None:
    layer = make()
    layer.build(shape[1:])
    before = dict(layer.params)
    layer.build(shape[1:])
    layer.forward(np.ones(shape, np.float32))
    for name, array in nonempty(before.items()):
        assert layer.params[name] is array


@each_lazy
def test_one_seed_gives_the_same_weights(make: Any, shape: Any, sizes: Any) -> None:
    found = []
    for seed in (5, 5, 6):
        xpdl.seed(seed)
        layer = make()
        layer.build(shape[1:])
        found.append(np.concatenate([layer.params[name].ravel() for name in sizes]))
    np.testing.assert_array_equal(found[0], found[1])
    if any(name.endswith("W") for name in sizes):
        assert np.any(found[0] != found[2])


@each_lazy
def test_built_by_the_first_forward_or_before_the_weights_are_the_same(make: Any, shape: Any, sizes: Any) -> None:
    before, later = make(), make()
    xpdl.seed(5)
    before.build(shape[1:])
    xpdl.seed(5)
    later.forward(np.ones(shape, np.float32))
    for name in nonempty(sizes):
        np.testing.assert_array_equal(before.params[name], later.params[name])


@each_lazy
def test_what_is_built_draws_nothing_more(make: Any, shape: Any, sizes: Any) -> None:
    weights = []
    for forwards in (0, 2):
        xpdl.seed(5)
        first, second = make(), make()
        first.build(shape[1:])
        for _ in range(forwards):
            first.forward(np.ones(shape, np.float32))
        second.build(shape[1:])
        weights.append([second.params[name] for name in sizes])
    for a, b in nonempty(zip(*weights, strict=True)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("row", [row for row in ROWS if row.params], ids=lambda row: row.id)
def test_given_arrays_are_used_and_not_copied(row: Row) -> None:
    layer = row.make({**row.params, **row.constants})
    layer.forward(*row.inputs)
    assert all(layer.params[name] is array for name, array in row.params.items())


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Affine(units=2), ("W", "b")),
        (lambda: Convolution(filters=2, size=1), ("W", "b")),
        (lambda: BatchNormalization(), ("gamma", "beta")),
    ],
)
def test_attributes_are_views_of_the_dicts(make: Any, names: tuple[str, ...]) -> None:
    layer = make()
    for name in names:
        assert getattr(layer, name) is None and getattr(layer, f"d{name}") is None
    y = layer.forward(np.ones((2, 3, 1, 1)))
    layer.backward(np.ones_like(y))
    for name in names:
        assert getattr(layer, name) is layer.params[name]
        assert getattr(layer, f"d{name}") is layer.grads[name]
        replaced = np.full_like(layer.params[name], 3.0)
        setattr(layer, name, replaced)
        assert layer.params[name] is replaced
    assert np.any(layer.forward(np.ones((2, 3, 1, 1))) != y)


@pytest.mark.parametrize("row", [row for row in CORE if issubclass(row.cls, Layer)], ids=lambda row: row.id)
def test_modes_are_switched_and_calls_chain(row: Row) -> None:
    layer = row.make({**row.params, **row.constants})
    assert layer.train() is layer and layer.training
    assert layer.eval() is layer and not layer.training
    assert layer.train(True).training


def test_a_layer_is_called_like_a_function() -> None:
    np.testing.assert_array_equal(Relu()(np.array([-1.0, 1.0])), [0.0, 1.0])


def test_a_layer_that_gives_nothing_says_so() -> None:
    class Empty(Layer):
        pass

    with pytest.raises(NotImplementedError, match="Empty has no forward"):
        Empty().forward(np.ones(2))
    with pytest.raises(NotImplementedError, match="Empty has no backward"):
        Empty().backward(np.ones(2))


# --- errors

WITH_PARAMETERS = [row for row in CORE if row.params and row.cls is not Embedding]  # which takes nothing else


@pytest.mark.parametrize("row", WITH_PARAMETERS, ids=lambda row: row.id)
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
@pytest.mark.backends("numpy", "array_api_strict", "torch")
def test_integers_are_refused_where_there_are_parameters(backend: Backend, row: Row, dtype: str) -> None:
    layer = row.make({name: backend.asarray(a) for name, a in {**row.params, **row.constants}.items()})
    with pytest.raises(DTypeError, match=rf"expected a floating array, got {dtype}.*asarray"):
        layer.forward(backend.asarray(np.ones(row.inputs[0].shape), dtype))


@pytest.mark.parametrize("make", [case[1] for case in LAZY], ids=[c[0] for c in LAZY])
def test_integers_are_refused_before_anything_is_built(make: Any) -> None:
    layer = make()
    with pytest.raises(DTypeError, match="expected a floating array, got int64"):
        layer.forward(np.ones((2, 4, 6, 6), np.int64))
    assert not dict(layer.params)


@pytest.mark.parametrize("row", WITH_PARAMETERS, ids=lambda row: row.id)
@pytest.mark.backends("strict:device1", "torch")
def test_an_input_of_another_library_is_an_error_that_names_both(backend: Backend, row: Row) -> None:
    layer = row.make({name: backend.asarray(a) for name, a in {**row.params, **row.constants}.items()})
    with pytest.raises(
        MixedArraysError, match=rf"numpy.*{backend.spec.library}|{backend.spec.library}.*numpy"
    ) as caught:
        layer.forward(*row.inputs)
    assert "asarray" in str(caught.value)


@pytest.mark.parametrize("row", WITH_PARAMETERS, ids=lambda row: row.id)
@pytest.mark.parametrize("library", params_of("array_api_strict", "torch"))
def test_an_input_on_another_device_is_an_error_that_names_both(row: Row, library: str) -> None:
    own, other = {"array_api_strict": ("CPU_DEVICE", "device1"), "torch": ("cpu", "meta")}[library]
    with xpdl.use(library, dtype="float64"):
        layer = row.make({name: xpdl.asarray(a) for name, a in {**row.params, **row.constants}.items()})
        x = xpdl.asarray(row.inputs[0], device=other)
        with pytest.raises(MixedArraysError, match=rf"(?s){other}.*{own}|{own}.*{other}"):
            layer.forward(x)


# the others compute with dout alone, and what they give follows it
MEETS_DOUT = [
    row
    for row in CORE
    if issubclass(row.cls, Layer)
    and len(row.inputs) == 1
    # these keep no array that a dout could be mixed with
    and row.cls.__name__ not in ("Identity", "Flatten", "Reshape", "Permute", "Slice")
    and row.id != "Dropout 0.25, evaluated"
]


@pytest.mark.parametrize("row", MEETS_DOUT, ids=lambda row: row.id)
@pytest.mark.backends("strict:device1", "torch")
def test_a_dout_of_another_library_is_an_error_that_names_both(backend: Backend, row: Row) -> None:
    layer = row.make({name: backend.asarray(a) for name, a in {**row.params, **row.constants}.items()})
    y = layer.forward(backend.asarray(row.inputs[0]))
    with pytest.raises(MixedArraysError, match=rf"numpy.*{backend.spec.library}|{backend.spec.library}.*numpy"):
        layer.backward(np.ones(tuple(y.shape)))


def test_a_dout_that_is_no_array_is_an_error() -> None:
    layer = Relu()
    layer.forward(np.ones(3))
    with pytest.raises(TypeError, match=r"Relu.backward: expected an array dout.*got float"):
        layer.backward(1.0)


@pytest.mark.parametrize("shape", [(0,), (-1, 2), (2.5,), 7, "ab", (1, None)])
def test_an_input_shape_that_is_none_is_an_error(shape: Any) -> None:
    with pytest.raises(ShapeError, match=r"Affine: input_shape must hold positive ints"):
        Affine(units=2).build(shape)


@pytest.mark.parametrize(
    ("layer", "row"),
    [
        (Affine(np.ones((3, 2))), (4,)),
        (Convolution(filters=1, size=3), (4,)),
        (Convolution(np.ones((1, 2, 1, 1))), (3, 4, 4)),
        (Convolution(filters=2, size=1, groups=2), (3, 4, 4)),
        (Convolution(filters=1, size=5), (1, 4, 4)),
        (Pooling(5, 5), (1, 4, 4)),
        (Pooling(2, 2), (4, 4)),
        (BatchNormalization(np.ones(3)), (4,)),
        (Residual(Affine(units=3)), (4,)),
    ],
)
def test_what_does_not_fit_is_an_error_at_build_time_that_names_the_layer(layer: Layer, row: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=f"^{type(layer).__name__}: "):
        layer.build(row)
    layer.set_name("net.third")
    with pytest.raises(ShapeError, match=r"^net\.third: "):
        layer.build(row)


@pytest.mark.parametrize("row", [row for row in WITH_PARAMETERS if row.cls is not Residual], ids=lambda row: row.id)
@pytest.mark.backends("numpy", "array_api_strict", "torch")
def test_an_integer_dout_is_refused_where_there_are_parameters(backend: Backend, row: Row) -> None:
    layer = row.make({name: backend.asarray(a) for name, a in {**row.params, **row.constants}.items()})
    y = layer.forward(backend.asarray(row.inputs[0]))
    with pytest.raises(DTypeError, match=r"\.backward: expected a floating array, got int64"):
        layer.backward(backend.asarray(np.ones(tuple(y.shape), np.int64)))


@pytest.mark.parametrize("row", [row for row in MEETS_DOUT if not row.params and row.core], ids=lambda row: row.id)
@pytest.mark.backends("numpy", "array_api_strict", "torch")
@pytest.mark.backends("values")
def test_an_integer_dout_becomes_floats_elsewhere(backend: Backend, row: Row) -> None:
    def gradient(dtype: str) -> Any:
        layer = row.make({name: backend.asarray(a) for name, a in row.constants.items()})
        y = layer.forward(backend.asarray(row.inputs[0]))
        return backend.to_numpy(layer.backward(backend.asarray(np.ones(tuple(y.shape)), dtype)))

    np.testing.assert_allclose(gradient("int64"), gradient("float64"), rtol=1e-6)


@pytest.mark.parametrize("cls", [Relu, Sigmoid, Tanh, Softmax, Identity, Flatten, Affine, GlobalAveragePooling])
@pytest.mark.parametrize("x", [[1.0, 2.0], None, 3.0, "text"], ids=repr)
def test_an_input_that_is_no_array_is_an_error_that_names_the_layer(cls: Any, x: Any) -> None:
    layer = cls(units=1) if cls is Affine else cls()
    with pytest.raises(TypeError, match="expected arrays, got"):
        layer.forward(x)


@pytest.mark.parametrize("cls", [Relu, Sigmoid, Tanh, Softmax])
@pytest.mark.backends("numpy", "strict:device1", "torch")
def test_complex_numbers_are_refused(backend: Backend, cls: Any) -> None:
    x = backend.asarray(np.ones((2, 3), np.complex128), "complex128")
    with pytest.raises(DTypeError, match=f"{cls.__name__}: expected real numbers, got complex128"):
        cls().forward(x)


@pytest.mark.backends("numpy", "array_api_strict", "torch")
def test_what_has_no_rows_or_no_scores_is_an_error(backend: Backend) -> None:
    for shape in ((), (2, 0)):
        with pytest.raises(ShapeError, match="Softmax: expected at least one score"):
            Softmax().forward(backend.asarray(np.ones(shape)))
    with pytest.raises(ShapeError, match=r"Flatten: expected a batch \(N, \.\.\.\)"):
        Flatten().forward(backend.asarray(1.0))
    for shape in ((0, 3), (0, 3, 2, 2)):
        norm, x = BatchNormalization(), backend.asarray(np.ones(shape))
        with pytest.raises(ShapeError, match="BatchNormalization: the mean over an empty batch is undefined"):
            norm.forward(x)
        assert tuple(norm.eval().forward(x).shape) == shape
