"""Channels-last convolutions: plans that do not transpose, for operands in any order, and nets that stay in it."""

import itertools

import numpy as np
import pytest

from tests.backends.cupy.channels_last import close, outputs, place
from tests.backends.cupy.test_captured_steps import ROWS, both
from tests.harness import nonempty
from xpdl import SGD, Sequential, SoftmaxWithLoss, Trainer, layers
from xpdl.backends import dispatch, numerics
from xpdl.backends.cupy import cudnn, cudnn_graph
from xpdl.backends.cupy.layout import is_channels_last, lies_in
from xpdl.ops import convolution
from xpdl.training.precision import loss_scale

pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]

# dtype and precision that is set -> whether tensor cores compute
SETTINGS = {
    ("float16", "highest"): True,
    ("bfloat16", "highest"): True,
    ("float32", "tf32"): True,
    ("float32", "highest"): False,
    ("float64", "tf32"): False,
}
# images, filters, and what is not 1 of stride, pad, dilation and groups
SHAPES = [
    ((2, 3, 7, 6), (8, 3, 3, 3), {"pad": (1, 1)}),
    ((3, 8, 5, 5), (16, 8, 3, 3), {"stride": (2, 2), "pad": (1, 1)}),
    ((2, 12, 4, 6), (5, 12, 1, 1), {"stride": (2, 1)}),
    ((2, 1, 6, 6), (4, 1, 5, 5), {}),
    ((2, 8, 7, 9), (8, 4, 3, 2), {"groups": 2, "stride": (2, 1), "pad": (1, 2), "dilation": (1, 2)}),
    ((2, 5, 4, 4), (5, 1, 3, 3), {"groups": 5, "pad": (1, 1)}),
    ((3, 5, 3, 3), (8, 5, 3, 3), {}),
]


def strides(dim, channels_last):
    _, c, h, w = dim
    return [c * h * w, 1, w * c, c] if channels_last else [c * h * w, h * w, w, 1]


def graphs_are(asked, channels_last, filters_last=(False, True), data_types=("HALF", "BFLOAT16", "FLOAT", "DOUBLE")):
    """Assert the order that images of graphs of those types are described with, and what orders filters may have."""
    graphs = [graph for graph in asked.executed if graph.out.fields["data_type"] in data_types]
    assert graphs
    for graph in graphs:
        for tensor in (*graph.inputs, graph.out):
            uid, dim, stride = (tensor.fields[name] for name in ("uid", "dim", "stride"))
            if uid == cudnn_graph.W:
                assert stride in [strides(dim, last) for last in filters_last], graph.kind
            elif uid != cudnn_graph.B:
                assert stride == strides(dim, channels_last), graph.kind


@pytest.mark.parametrize("dtype, precision", SETTINGS, ids="-".join)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_passes_for_operands_in_every_order(gpu, library, shape, dtype, precision):
    asked, rng = library(), np.random.default_rng(0)
    of_x, of_w, static = shape
    x, W, b = rng.normal(size=of_x), rng.normal(size=of_w), rng.normal(size=of_w[0])
    x, W, b = (place(gpu, a, dtype, False).get().astype("float64") for a in (x, W, b))
    with dispatch.generic_only():
        y = convolution.convolution(x, W, b, **static)
        dy = place(gpu, rng.normal(size=y.shape), dtype, False).get().astype("float64")
        desired = [y, np.maximum(y, 0), *convolution.convolution_backward(dy, x, W, **static)]
    # the stand-in rounds factors to TF32
    tolerance = "float16" if precision == "tf32" and dtype == "float32" else dtype
    for orders in itertools.product([False, True], repeat=3):
        on_device = [place(gpu, a, dtype, last) for a, last in zip((dy, x, W), orders, strict=True)]
        bias = gpu.array(b, dtype)
        with numerics.numerics(precision=precision), gpu.rules():
            results = [
                convolution.convolution(*on_device[1:], bias, **static),
                convolution.convolution(*on_device[1:], bias, **static, activation="relu"),
                *convolution.convolution_backward(*on_device, **static),
            ]
        for got, want in zip(results, desired, strict=True):
            assert got.dtype.name == dtype
            close(got, want, tolerance)
        # gradients of filters lie as they do
        wanted = SETTINGS[dtype, precision]
        y, rectified, dx, dW, _ = results
        assert all(lies_in(a, wanted) for a in (y, rectified, dx)) and lies_in(dW, wanted and orders[2])
        graphs_are(asked, wanted, [wanted and (orders[2] or lies_in(dW, True))])
        asked.executed.clear()


def test_operands_in_the_order_of_a_plan_are_not_copied(gpu, library):
    library()
    rng = np.random.default_rng(0)
    shapes = (2, 8, 6, 6), (16, 8, 3, 3), (2, 16, 4, 4)
    x, W, dy = (place(gpu, rng.normal(size=shape), "float16", True) for shape in shapes)
    b = gpu.array(rng.normal(size=16), "float16")
    gpu.launches.clear()
    convolution.convolution(x, W, b, activation="relu")
    convolution.convolution_backward(dy, x, W, need_db=False)
    assert not gpu.launched()


def test_unaligned_operands_are_copied_in_their_order(gpu, library):
    asked, rng = library(), np.random.default_rng(0)
    arrays = (rng.normal(size=shape).astype("float16") for shape in ((2, 8, 6, 6), (16, 8, 3, 3), (2, 16, 4, 4)))
    aligned = [place(gpu, a, "float16", True) for a in arrays]
    x, W, dy = (gpu.unaligned(a.get().transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2) for a in aligned)
    assert is_channels_last(x) and is_channels_last(W) and is_channels_last(dy)
    got = [convolution.convolution(x, W), *convolution.convolution_backward(dy, x, W)]
    of_x, of_w, of_dy = aligned
    wanted = [convolution.convolution(of_x, of_w), *convolution.convolution_backward(of_dy, of_x, of_w)]
    for actual, desired in zip(got, wanted, strict=True):
        close(actual, desired.get().astype("float64"), "float16")
    graphs_are(asked, True, [True])


@pytest.mark.parametrize("lacking", ["fprop", "wgrad", "dgrad"])
def test_without_a_channels_last_plan_there_is_one_for_the_order_of_axes(gpu, library, monkeypatch, lacking):
    asked = library()
    described = cudnn_graph.describe

    def describe(cudnn, case, *args, **where):
        if case.kind == lacking and case.channels_last:
            raise asked.cudnnGraphNotSupportedError(case.kind)
        return described(cudnn, case, *args, **where)

    monkeypatch.setattr("xpdl.backends.cupy.cudnn.describe", describe)
    rng = np.random.default_rng(0)
    x, W, dy = rng.normal(size=(2, 8, 6, 6)), rng.normal(size=(4, 8, 3, 3)), rng.normal(size=(2, 4, 4, 4))
    for op, arrays in ((convolution.convolution, (x, W)), (convolution.convolution_backward, (dy, x, W))):
        rounded = [place(gpu, a, "float16", False).get().astype("float64") for a in arrays]
        with dispatch.generic_only():
            desired = outputs(op(*rounded))
        for last in (False, True):
            for got, want in zip(outputs(op(*(place(gpu, a, "float16", last) for a in arrays))), desired, strict=True):
                close(got, want, "float16")
    orders = {graph.kind: graph.out.fields["stride"][1] == 1 for graph in asked.executed}
    assert orders == {kind: kind != lacking for kind in ("fprop", "wgrad", "dgrad")}


def test_filters_are_copied_for_a_plan_that_takes_channels_last_ones_alone(gpu, library, monkeypatch):
    asked = library()
    described = cudnn_graph.describe

    def describe(cudnn, case, *args, **where):
        if case.channels_last and not case.filters_last:
            raise asked.cudnnGraphNotSupportedError(case.kind)
        return described(cudnn, case, *args, **where)

    monkeypatch.setattr("xpdl.backends.cupy.cudnn.describe", describe)
    rng = np.random.default_rng(0)
    dy, x, W = (rng.normal(size=shape) for shape in ((2, 4, 4, 4), (2, 8, 6, 6), (4, 8, 3, 3)))
    exact = [place(gpu, a, "float16", False).get().astype("float64") for a in (dy, x, W)]
    on_device = [place(gpu, a, "float16", last) for a, last in ((dy, True), (x, True), (W, False))]
    got = [convolution.convolution(*on_device[1:]), *convolution.convolution_backward(*on_device)]
    with dispatch.generic_only():
        desired = [convolution.convolution(*exact[1:]), *convolution.convolution_backward(*exact)]
    for actual, want in zip(got, desired, strict=True):
        close(actual, want, "float16")
    graphs_are(asked, True, [True])


def test_without_any_plan_channels_last_images_go_by_columns(gpu, library):
    library(("fprop", "wgrad", "dgrad"))
    rng = np.random.default_rng(0)
    for dtype in ("float16", "bfloat16", "float32"):
        x, W, dy = rng.normal(size=(2, 8, 6, 6)), rng.normal(size=(4, 8, 3, 3)), rng.normal(size=(2, 4, 4, 4))
        x, W, dy = (place(gpu, a, dtype, False).get().astype("float64") for a in (x, W, dy))
        with dispatch.generic_only():
            desired = [convolution.convolution(x, W), *convolution.convolution_backward(dy, x, W)]
        on_device = [place(gpu, a, dtype, True) for a in (dy, x, W)]
        got = [convolution.convolution(*on_device[1:]), *convolution.convolution_backward(*on_device)]
        for actual, want in zip(got, desired, strict=True):
            close(actual, want, dtype)
    assert "im2col" in gpu.launched()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_casts_filters_to_channels_last_and_gradients_back(gpu, library, dtype):
    library()
    rng = np.random.default_rng(0)
    shapes = [(8, 3, 3, 3), (5,), (16, 8, 1, 1), (7, 12, 3, 2), (40, 40, 3, 3), (4, 1, 5, 5), (6, 5)]
    own = [gpu.array(rng.normal(size=shape), "float32") for shape in shapes]
    scale = gpu.array(np.array(3.0), "float32")
    with gpu.rules():
        cast = loss_scale.cast_all(own, dtype)
        wide = loss_scale.unscale(cast, scale, "float32")
    assert gpu.launched() == {"cast_all", "unscale"}
    for a, rounded, grad in zip(own, cast, wide, strict=True):
        assert is_channels_last(rounded) == (a.ndim == 4 and min(a.shape[1], a.shape[2] * a.shape[3]) > 1)
        assert grad.flags.c_contiguous and (rounded.dtype.name, grad.dtype.name) == (dtype, "float32")
        host = a.get().astype(dtype)
        np.testing.assert_array_equal(rounded.get(), host)
        np.testing.assert_array_equal(grad.get(), host.astype("float32") / np.float32(3))
    assert bool(loss_scale.all_finite(cast).get())
    cast[4][39, 39, 2, 2] = np.inf
    assert not bool(loss_scale.all_finite(cast).get())


def test_without_cudnn_filters_keep_the_order_of_their_axes(gpu, monkeypatch):
    monkeypatch.setattr(cudnn, "problem", lambda: "there is none")
    [cast] = loss_scale.cast_all([gpu.array(np.ones((8, 3, 3, 3)), "float32")], "float16")
    assert cast.flags.c_contiguous


# ------------------------------------------------------------------------------------------------ nets


def block(filters, stride=1):
    body = [
        layers.Convolution(filters=filters, size=3, pad=1, stride=stride, use_bias=False),
        layers.BatchNormalization(),
        layers.Relu(),
        layers.Convolution(filters=filters, size=3, pad=1, use_bias=False),
        layers.BatchNormalization(),
    ]
    shortcut = layers.Convolution(filters=filters, size=1, stride=stride, use_bias=False) if stride > 1 else None
    return [layers.Residual(*body, shortcut=shortcut), layers.Relu()]


NETS = {
    "residual": lambda: [
        layers.Convolution(filters=8, size=3, pad=1, use_bias=False),
        layers.BatchNormalization(),
        layers.Relu(),
        *block(8),
        *block(16, 2),
        layers.GlobalAveragePooling(),
        layers.Affine(units=5),
    ],
    "pooling": lambda: [
        layers.Convolution(filters=8, size=3),
        layers.Relu(),
        layers.Pooling(2, 2),
        layers.Dropout(0.25),
        layers.Convolution(filters=5, size=3, pad=1),
        layers.Sigmoid(),
        layers.AveragePooling(2, 2),
        layers.Affine(units=5),
    ],
    "flat": lambda: [
        layers.Convolution(filters=12, size=3, stride=2),
        layers.BatchNormalization(),
        layers.Relu(),
        layers.Flatten(),
        layers.Affine(units=5),
    ],
}


def made(name):
    return Sequential(*NETS[name](), loss=SoftmaxWithLoss, seed=0)


def gradients(backend, name, dtype, precision):
    """Gradients of the parameters and the outputs in evaluation of a net that took two steps, as NumPy arrays."""
    rng = np.random.default_rng(1)
    with backend.use(dtype), numerics.numerics(precision=precision):
        net, optimizer = made(name), SGD(0.05)
        net.build((3, 12, 10))
        for _ in range(2):
            x, t = backend.asarray(rng.normal(size=(6, 3, 12, 10)), dtype), backend.asarray(rng.integers(0, 5, 6))
            with backend.rules():
                grads = net.gradient(x, t)
                optimizer.update(net.params, grads)
        grads["prediction"] = net.predict(x, train_flg=False)
        return {key: backend.to_numpy(value).astype("float64") for key, value in grads.items()}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("dtype, precision", [("float32", "tf32"), ("float16", "highest"), ("bfloat16", "highest")])
def test_a_net_computes_what_it_computes_in_the_order_of_axes(
    backend, gpu, library, monkeypatch, name, dtype, precision
):
    asked = library()
    found = gradients(backend, name, dtype, precision)
    graphs_are(asked, True)
    asked = library()
    monkeypatch.setattr("xpdl.backends.cupy.cudnn.prefers_channels_last", lambda dtype: False)
    desired = gradients(backend, name, dtype, precision)
    graphs_are(asked, False)
    # of factors rounded to TF32, a last bit decides
    tolerance = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}[dtype]
    for key, value in desired.items():
        scale = np.abs(value).max()
        assert np.abs(found[key] - value).max() <= tolerance * scale + 1e-6, key


@pytest.mark.parametrize("name", ["residual", "pooling"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_images_stay_channels_last_between_the_layers_of_a_net(backend, gpu, library, name, dtype):
    library()
    rng = np.random.default_rng(0)
    with backend.use(dtype):
        net = made(name)
        net.build((3, 12, 10))
        x, t = backend.asarray(rng.normal(size=(4, 3, 12, 10)), dtype), backend.asarray(rng.integers(0, 5, 4))
        net.gradient(x, t)
    kept = [getattr(leaf, attribute, None) for leaf in net.leaves() for attribute in ("x", "out", "mask")]
    orders = [is_channels_last(a) for a in kept if a is not None and a is not x and len(a.shape) == 4]
    assert set(orders) == {dtype == "float16"}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("mode", ["bfloat16", "float16", "tf32"])
def test_captured_steps_are_bitwise_those_of_uncaptured_ones(backend, gpu, library, name, mode):
    asked, rng = library(), np.random.default_rng(3)
    x, t = rng.normal(size=(ROWS, 3, 12, 10)), rng.integers(0, 5, ROWS)
    options = {} if mode == "tf32" else {"precision": mode}
    with numerics.numerics(precision="tf32" if mode == "tf32" else "highest"):
        both(backend, lambda: made(name), x, t, dtype="float32", optimizer="sgd", **options)
    # evaluation between epochs is in float32
    graphs_are(asked, True, data_types={"tf32": ["FLOAT"], "float16": ["HALF"], "bfloat16": ["BFLOAT16"]}[mode])


def test_plans_for_the_last_batch_are_channels_last_and_made_at_the_first_step(backend, gpu, library):
    asked, counts = library(), []

    class Counts:
        def on_batch_end(self, trainer, step):
            counts.append(len(asked.graphs))

    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(13, 3, 12, 10)), rng.integers(0, 5, 13)
    with backend.use("float32"):
        options = {"precision": "bfloat16", "verbose": False, "seed": 0, "callbacks": [Counts()]}
        Trainer(made("flat"), x, t, x[:5], t[:5], 2, 5, "sgd", {}, **options).train()
    # forward and the gradient of filters, for batches of 5 and of 3; the first layer's images need none
    assert counts[:3] == [4] * 3
    graphs_are(asked, True, [True], ["BFLOAT16"])
    sizes = {(graph.kind, graph.inputs[0].fields["dim"][0]) for graph in asked.graphs if graph.kind == "wgrad"}
    assert sizes == {("wgrad", 5), ("wgrad", 3)}


def test_equal_runs_are_bitwise_identical(backend, gpu, library):
    library()
    first, second = (gradients(backend, "residual", "bfloat16", "highest") for _ in range(2))
    for key, value in nonempty(first.items()):
        np.testing.assert_array_equal(value, second[key], err_msg=key)
