"""Launch every kernel and compare it with its generic op: on the real CuPy, and on the imitation of it."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest

from tests.backends.cupy.channels_last import compare_channels_last
from tests.backends.cupy.device import TOLERANCE, Device
from xpdl import Adam, optimizers
from xpdl.backends import dispatch
from xpdl.backends.cupy import capture, joining, launch, products, sources
from xpdl.backends.cupy import convolution as convolution_kernels
from xpdl.backends.cupy import loss_scaling as loss_scaling_kernels
from xpdl.ops import (
    activations,
    affine,
    attention,
    convolution,
    dropout,
    embedding,
    gelu,
    losses,
    normalization,
    pooling,
    positional,
    recurrent,
    row_normalization,
    windows,
)
from xpdl.optimizers.adam import corrected_rate
from xpdl.training.precision import loss_scale

RULES = [
    optimizers.SGD,
    optimizers.Momentum,
    optimizers.Nesterov,
    optimizers.AdaGrad,
    optimizers.RMSprop,
    optimizers.AdaDelta,
    optimizers.Adam,
    optimizers.AdamW,
]
WIDE = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}
#: of products, whose sums are in float32 or float64
SUMS = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-13}
KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(')
# a mask looks at no value, nor do device_args and sorted ids, and a scale is not in half precision: one instance serves all;
# generic ops join arrays of the dtype that they compute with
OF_ONE_DTYPE = ("join", "dropout_mask", "update_loss_scale", "corrected_rate", "put", "sort_runs", "merge_runs")


def through_relu(op):
    """A backward pass of batch normalization that takes the output of the relu as an array among the others."""

    def backward(dy, x, gamma, mean, var, y, *, eps):
        return op(dy, x, gamma, mean, var, eps, y=y, activation="relu")

    return backward


def with_residual(op):
    """Batch normalization and the sum and relu after it, with the residual as an array behind the others."""

    def forward(*arrays, eps):
        return op(*arrays[:-1], eps, activation="relu", residual=arrays[-1])

    return forward


def names(file: str) -> list[str]:
    """The kernels of a file."""
    return KERNEL.findall(sources.text(f"{file}.cu"))


def compare_every_kernel(gpu: Device, dtype: str, wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Assert that the instance of every kernel runs, and gives what its op gives."""
    monkeypatch.setattr(launch, "_NARROW", 0 if wide else 1 << 30)
    monkeypatch.setattr(convolution_kernels, "COLUMN_BYTES", 4000)
    for compare in (
        compare_convolutions,
        compare_elementwise,
        compare_affine,
        compare_pooling,
        compare_windows,
        compare_normalization,
        compare_channels_last,
        compare_row_normalization,
        compare_positions,
        compare_joining,
        compare_softmax,
        compare_embedding,
        compare_losses,
        compare_loss_scaling,
        compare_captured,
    ):
        compare(gpu, dtype)
    for rule in RULES:
        stepped(gpu, rule, [(3, 2), (5,)], dtype)
    instances = {(each.dtype, each.wide) for each in gpu.launches if each.name not in OF_ONE_DTYPE}
    assert instances == {(dtype, wide)}
    before = len(gpu.launches)
    compare_recurrent(gpu, dtype)
    compare_attention(gpu, dtype)
    # in the dtype that is computed with, as are the products and sums beside them; moves of heads cast
    launches = [each for each in gpu.launches[before:] if not each.name.startswith("heads")]
    assert {(each.dtype, each.wide) for each in launches} == {(WIDE[dtype], wide)}
    assert gpu.launched() == {name for file in sources.FILES for name in names(file)}


def compare_convolutions(gpu, dtype):
    rng = np.random.default_rng(0)
    x, W, b = rng.normal(size=(5, 4, 7, 6)), rng.normal(size=(6, 2, 3, 2)), rng.normal(size=6)
    options = {"stride": (2, 1), "pad": (1, 2), "dilation": (1, 2), "groups": 2}
    dy = rng.normal(size=convolution.convolution(x, W, b, **options).shape)
    gpu.compare(convolution.convolution, x, W, b, dtype=dtype, **options)
    gpu.compare(convolution.convolution_backward, dy, x, W, dtype=dtype, **options)
    for bias in ((b,), ()):
        gpu.compare(convolution.convolution, x, W, *bias, dtype=dtype, activation="relu", **options)


def compare_affine(gpu, dtype):
    rng = np.random.default_rng(0)
    rows, weights, bias = rng.normal(size=(9, 5)), rng.normal(size=(5, 3)), rng.normal(size=3)
    gpu.compare(affine.affine, rows, weights, bias, dtype=dtype)
    gpu.compare(affine.affine_backward, rng.normal(size=(9, 3)), rows, weights, dtype=dtype)
    # a gradient of several parts
    gpu.compare(affine.affine_backward, rng.normal(size=(2100, 3)), rng.normal(size=(2100, 5)), weights, dtype=dtype)
    for given in ((rows, weights, bias), (rows, weights)):
        gpu.compare(affine.affine, *given, dtype=dtype, activation="relu")


TANH = {"approximate": "tanh"}
#: activations, and their backward passes, with options
UNITS = [
    (activations.relu, {}),
    (activations.sigmoid, {}),
    (activations.leaky_relu, {"slope": 0.3}),
    (activations.elu, {"alpha": 0.5}),
    (activations.silu, {}),
    (activations.softplus, {}),
    (gelu.gelu, {}),
    (gelu.gelu, TANH),
]
UNITS_BACKWARD = [
    (activations.relu_backward, {}),
    (activations.sigmoid_backward, {}),
    (activations.tanh_backward, {}),
    (activations.leaky_relu_backward, {"slope": 0.3}),
    (activations.elu_backward, {"alpha": 0.5}),
    (activations.silu_backward, {}),
    (activations.softplus_backward, {}),
    (gelu.gelu_backward, {}),
    (gelu.gelu_backward, TANH),
]


def compare_elementwise(gpu, dtype):
    rows = np.random.default_rng(0).normal(size=(9, 5))
    for op, options in UNITS:
        gpu.compare(op, 3 * rows, dtype=dtype, **options)
    for op, options in UNITS_BACKWARD:
        gpu.compare(op, rows, np.tanh(rows[::-1]), dtype=dtype, **options)
    gpu.compare(dropout.dropout, rows, rows > 0, dtype=dtype, scale=1.25)
    gpu.compare(dropout.dropout_mask, rows, dtype=dtype, drop_ratio=0.3, words=(1, 2, 3, 4), counter=5)


def compare_pooling(gpu, dtype):
    rng = np.random.default_rng(0)
    # few different values: ties
    tied = rng.integers(-2, 3, (5, 4, 7, 6)).astype(float)
    pools = {"size": (3, 2), "stride": (2, 1), "pad": (1, 1)}
    top = pooling.max_pooling(tied, **pools)
    gpu.compare(pooling.max_pooling, tied, dtype=dtype, **pools)
    gpu.compare(pooling.max_pooling_backward, rng.integers(-8, 9, top.shape) / 8, tied, top, dtype=dtype, **pools)
    for activation in (None, "relu"):
        compare_taps(gpu, rng.integers(-8, 9, top.shape) / 8, tied, activation, dtype=dtype, **pools)
    gpu.compare(pooling.average_pooling, tied, dtype=dtype, **pools)
    gpu.compare(pooling.average_pooling_backward, rng.normal(size=top.shape), tied, dtype=dtype, **pools)


def compare_windows(gpu, dtype):
    x = np.random.default_rng(0).normal(size=(5, 4, 7, 6))
    taps = {"filter_h": 3, "filter_w": 2, "stride": (2, 1), "pad": (1, 0)}
    gpu.compare(windows.im2col, x, dtype=dtype, **taps)
    gpu.compare(windows.col2im, windows.im2col(x, **taps), dtype=dtype, input_shape=x.shape, **taps)


def compare_normalization(gpu, dtype):
    rng = np.random.default_rng(0)
    for values in (rng.normal(size=(5, 4, 7, 6)), rng.normal(size=(9, 5))):
        gamma, beta, mean, var = rng.normal(size=(4, values.shape[1]))
        given = (gamma, beta, mean, np.abs(var))
        for activation in (None, "relu"):
            options = {"dtype": dtype, "eps": 1e-3, "activation": activation}
            gpu.compare(normalization.batch_normalization, values, gamma, beta, **options)
            gpu.compare(normalization.normalize, values, *given, **options)
        for op, *others in ((normalization.batch_normalization, gamma, beta), (normalization.normalize, *given)):
            gpu.compare(with_residual(op), values, *others, rng.normal(size=values.shape), dtype=dtype, eps=1e-3)
        _, *statistics = normalization.batch_normalization(values, gamma, beta, 1e-3)
        arrays = rng.normal(size=values.shape), values, gamma, *statistics
        for op in (normalization.batch_normalization_backward, normalization.normalize_backward):
            gpu.compare(op, *arrays, dtype=dtype, eps=1e-3)
            gpu.compare(through_relu(op), *arrays, rng.normal(size=values.shape), dtype=dtype, eps=1e-3)


def both_passes(forward, backward):
    """The gradients of a normalization of rows, by the statistics of its forward pass."""

    def passes(dy, *arrays, **options):
        own = {name: value for name, value in options.items() if name != "eps"}
        _, *statistics = forward(*arrays, **options)
        return backward(dy, *arrays[:2], *own.values(), *statistics)

    return passes


LAYER = row_normalization.layer_normalization, row_normalization.layer_normalization_backward
RMS = row_normalization.rms_normalization, row_normalization.rms_normalization_backward
GROUP = row_normalization.group_normalization, row_normalization.group_normalization_backward
# Odd sizes and packs, rows of several tiles, and parameters with several partial sums.
ROWS = [(9, 5), (3, 4, 8), (2, 4500), (700, 3)]
PLANES = [((5, 4, 7, 6), 2), ((3, 6), 3), ((2, 2, 4500), 1), ((3, 8, 4), 8)]


def compare_row_normalization(gpu, dtype, rows=ROWS, planes=PLANES):
    rng = np.random.default_rng(0)

    def compare(pair, *arrays, **options):
        gpu.compare(pair[0], *arrays, dtype=dtype, eps=1e-3, **options)
        gpu.compare(both_passes(*pair), rng.normal(size=arrays[0].shape), *arrays, dtype=dtype, eps=1e-3, **options)

    for shape in rows:
        x, (gamma, beta) = 2 + rng.normal(size=shape), rng.normal(size=(2, shape[-1]))
        compare(LAYER, x, gamma, beta)
        compare(RMS, x, gamma)
    for shape, groups in planes:
        compare(GROUP, 2 + rng.normal(size=shape), *rng.normal(size=(2, shape[1])), groups=groups)


def compare_positions(gpu, dtype):
    rng = np.random.default_rng(0)
    for shape in ((2, 3, 5, 4), (3, 5, 2), (7, 6)):
        for options in ({}, {"base": 100.0, "first": 9}, {"inverse": True}):
            gpu.compare(attention.rotary, rng.normal(size=shape), dtype=dtype, **options)
    for shape in ((2, 5, 4), (1, 3, 7)):
        gpu.compare(positional.sinusoidal_positions, rng.normal(size=shape), dtype=dtype, base=100.0)


def compare_joining(gpu, dtype):
    rng = np.random.default_rng(0)
    for axis in (0, 1, 2):
        for sizes in ((1, 4), (3, 0, 2), tuple(range(1, 10)), (1,) * joining.PARTS):
            parts = [rng.normal(size=np.where(np.arange(3) == axis, size, (2, 3, 5))).astype(dtype) for size in sizes]
            with gpu.rules():
                y = joining.joined([gpu.array(part) for part in parts], axis)
            np.testing.assert_array_equal(y.get(), np.concatenate(parts, axis=axis))


def compare_softmax(gpu, dtype):
    rng = np.random.default_rng(0)
    for shape in ((9, 5), (2, 3, 8), (2, 4500)):
        x = rng.normal(size=shape)
        gpu.compare(activations.softmax, x, dtype=dtype)
        gpu.compare(activations.softmax_backward, x[::-1], activations.softmax(x), dtype=dtype)


#: (N, heads, T, S, D), masked, options
ATTENTION = [
    ((2, 2, 3, 3, 2), False, {}),
    ((2, 2, 5, 5, 2), True, {"causal": True, "block": 2}),
    ((1, 2, 4, 6, 3), True, {"block": 3}),
    ((2, 1, 3, 9, 8), False, {"causal": True, "block": 2}),
    ((1, 1, 2, 2100, 4), False, {"causal": True}),
]


def attention_passes(dy, q, k, v, *mask, **options):
    """The gradients of attention, by the results of its forward pass."""
    results = attention.attention(q, k, v, *mask, **options)
    return attention.attention_backward(dy, q, k, v, *results, *mask, **options)


def compare_attention(gpu, dtype, cases=ATTENTION):
    rng = np.random.default_rng(0)
    for (n, heads, t, s, d), masked, options in cases:
        # heads side by side, as in the layer
        q, k, v = (rng.normal(size=(n, length, heads, d)).transpose(0, 2, 1, 3) for length in (t, s, s))
        # a query without keys has a log-sum that is beyond float16
        mask = (np.maximum(rng.random((n, s)) < 0.7, np.arange(s) == 0),) if masked else ()
        gpu.compare(attention.attention, q, k, v, *mask, dtype=dtype, **options)
        gpu.compare(attention_passes, rng.normal(size=q.shape), q, k, v, *mask, dtype=dtype, **options)


RECURRENT = {
    recurrent.rnn: (1, 1, 1, recurrent.rnn_backward),
    recurrent.lstm: (4, 2, 1, recurrent.lstm_backward),
    recurrent.gru: (3, 1, 2, recurrent.gru_backward),
}


def recurrent_arrays(op, rng, n, steps, features, units):
    """The arrays of a recurrent op, scaled as initial weights are, without a mask."""
    parts, states, biases, _ = RECURRENT[op]
    sizes = [(n, steps, features), *[(n, units)] * states, (features, parts * units), (units, parts * units)]
    sizes += [(parts * units,), (units,)][:biases]
    return [rng.normal(size=size) / np.sqrt(size[0] if size[-1] > units else 1) for size in sizes]


def compare_recurrent(gpu, dtype, sizes=((3, 4, 5, 8), (2, 3, 2, 3), (1, 1, 1, 1))):
    """With packs of units and one by one, with and without a mask."""
    rng = np.random.default_rng(0)
    for op, (_, states, _, backward) in RECURRENT.items():
        for size in sizes:
            given = recurrent_arrays(op, rng, *size)
            for mask in ((), (rng.random(size[:2]) < 0.6,)):
                results = op(*given, *mask)
                results = results if isinstance(results, tuple) else (results,)
                gpu.compare(op, *given, *mask, dtype=dtype)
                arrays = rng.normal(size=results[0].shape), *given[: 3 + states], *results
                gpu.compare(backward, *arrays, *mask, dtype=dtype)


def by_row(op):
    """A loss with the weights of its rows as an array behind the others."""
    return functools.wraps(op)(lambda *arrays, **static: op(*arrays[:-1], sample_weight=arrays[-1], **static))


def compare_embedding(gpu, dtype):
    rng = np.random.default_rng(0)
    # packs and single units, several runs to merge, ids beyond the table, segments of many places
    for count, units, shape in ((5, 8, (3, 4)), (300, 3, (7,)), (4, 16, (41, 60)), (2000, 5, (1025,)), (1, 1, (1,))):
        table = rng.normal(size=(count, units))
        for ids in (rng.integers(0, count, shape), rng.integers(-2, count + 2, shape).astype("int32")):
            gpu.compare(embedding.embedding, table, ids, dtype=dtype)
            dy = rng.integers(-8, 9, (*shape, units)) / 8
            gpu.compare(embedding.embedding_backward, dy, ids, dtype=dtype, count=count)


def compare_losses(gpu, dtype):
    rows = np.random.default_rng(0).normal(size=(9, 5))
    y, soft = activations.softmax(rows), np.abs(rows[::-1])
    labels = np.array([0, 4, 1, 2, 3, 4, 0, 0, 2])
    for t in (labels, labels.astype("uint8"), soft):
        gpu.compare(losses.softmax_with_loss, rows, t, dtype=dtype)
        gpu.compare(losses.softmax_with_loss_backward, y, t, dtype=dtype, dout=2.5)
        for weights in (np.array([2.0, 0.0, 0.5, 1.25, 0.0, 1.0, 3.0, 0.25, 1.0]), np.zeros(9), labels > 1):
            gpu.compare(by_row(losses.softmax_with_loss), rows, t, weights, dtype=dtype)
            gpu.compare(by_row(losses.softmax_with_loss_backward), y, t, weights, dtype=dtype, dout=2.5)
    gpu.compare(losses.softmax_with_loss_backward, y, soft, np.array(2.5), dtype=dtype)


def same(gpu, op, *args):
    """Assert that a kernel answers, and is bitwise identical to the generic op."""
    before = len(gpu.launches)
    with gpu.rules():
        got = op(*args)
    assert len(gpu.launches) > before, "no kernel ran"
    with dispatch.generic_only():
        want = op(*args)
    for actual, desired in zip(*(r if isinstance(r, list) else [r] for r in (got, want)), strict=True):
        assert actual.dtype == desired.dtype and actual.shape == desired.shape
        np.testing.assert_array_equal(actual.get(), desired.get())


def compare_loss_scaling(gpu, dtype):
    """Each kernel of loss_scaling.cu against its op, for passes in `dtype`."""
    rng, wide, array = np.random.default_rng(0), WIDE[dtype], gpu.array
    shapes = [(3, 5), (loss_scaling_kernels.CHUNK + 1,), (1,)]
    values = [array((10 * rng.normal(size=shape)).astype(wide)) for shape in shapes]
    same(gpu, loss_scale.cast_all, values, dtype)
    grads = [array(a.get().astype(dtype)) for a in values]
    for scale in (None, array(np.array(2.0**12, wide)), array(np.array(3.0, wide))):
        same(gpu, loss_scale.unscale, grads, scale, wide)
    same(gpu, loss_scale.all_finite, grads)
    for bad in (np.inf, -np.inf, np.nan):
        spoiled = array(grads[1].get())
        spoiled[loss_scaling_kernels.CHUNK] = bad
        same(gpu, loss_scale.all_finite, [grads[0], spoiled, grads[2]])
    for state in ([8.0, 2.0, 1.0], [8.0, 3.0, 1.0], [16.0, 9.0, 0.0]):
        for finite in (True, False):
            args = array(np.array(state, wide)), array(np.array(finite)), 4, 20.0
            same(gpu, loss_scale.update_loss_scale, *args)
    for beta1, beta2, skipped_steps in ((0.9, 0.999, 2.0), (0.0, 0.0, 0.0)):
        rule = Adam(0.25, beta1, beta2)
        rule.iter = 7
        with gpu.rules():
            rate = corrected_rate(array(np.array(skipped_steps, wide)), 7, lr=0.25, beta1=beta1, beta2=beta2)
        rule.iter -= int(skipped_steps)
        assert rate.dtype.name == wide and rate.shape == ()
        np.testing.assert_allclose(rate.get(), rule.corrected_lr, rtol={"float32": 1e-7, "float64": 1e-14}[wide])


def compare_captured(gpu, dtype):
    """Each kernel of captured steps against NumPy."""
    rng = np.random.default_rng(5)
    product(gpu, rng, (70, 150), (150, 3), dtype)
    device_args = capture._DeviceArgs()
    device_args.number("lr")
    device_args.fill({"lr": 0.25}, {})


def product(gpu, rng, of_a, of_b, dtype="float32", turned=(False, False)):
    """A product by the kernel, of arrays that lie transposed in memory where `turned` says so."""
    sides = []
    for shape, turn in zip((of_a, of_b), turned, strict=True):
        stored = (*shape[:-2], shape[-1], shape[-2]) if turn else shape
        a = gpu.array(rng.normal(size=stored).astype(dtype))
        sides.append(a.transpose(*range(len(shape) - 2), len(shape) - 1, len(shape) - 2) if turn else a)
    a, b = sides
    c = products.tiled(a, b)
    assert c.dtype.name == dtype
    exact, terms = (np.matmul(f(a.get().astype("float64")), f(b.get().astype("float64"))) for f in (np.array, np.abs))
    # rounding of sums, by the sizes of their terms
    assert (np.abs(c.get().astype("float64") - exact) <= SUMS[dtype] * terms).all()


def stepped(gpu, rule, shapes, dtype="float32", **options):
    """Parameters after three steps on the stand-in, against those of NumPy in float64."""
    rng = np.random.default_rng(1)
    start = {f"p{k}": rng.normal(size=shape).astype(dtype) for k, shape in enumerate(shapes)}
    gradients = [{name: rng.normal(size=p.shape).astype(dtype) for name, p in start.items()} for _ in range(3)]
    ours, theirs = rule(0.1, **options), rule(0.1, **options)
    params = {name: gpu.array(p) for name, p in start.items()}
    owned = dict(params)
    exact = {name: p.astype("float64") for name, p in start.items()}
    for grads in gradients:
        with gpu.rules():
            ours.update(params, {name: gpu.array(g) for name, g in grads.items()})
        theirs.update(exact, {name: g.astype("float64") for name, g in grads.items()})
    for name, p in params.items():
        assert p is owned[name], "updated in place"
        tolerance = 3 * TOLERANCE[dtype]
        np.testing.assert_allclose(p.get().astype("float64"), exact[name], rtol=tolerance, atol=tolerance)
    for kind in rule.state_names:
        for name, kept in getattr(ours, kind).items():
            desired = getattr(theirs, kind)[name]
            limit = 3 * TOLERANCE[dtype] * max(1.0, np.abs(desired).max())
            np.testing.assert_allclose(kept.get().astype("float64"), desired, rtol=3 * TOLERANCE[dtype], atol=limit)


def compare_taps(gpu, dy, x, activation, *, dtype="float32", **static):
    """Forward and backward passes of max pooling with taps against the generic op, and the taps against an argmax."""
    options = {**static, "activation": activation}
    given = [gpu.array(a.astype(dtype)) for a in (dy, x)]
    with gpu.rules():
        y, taps = pooling.max_pooling_with_taps(given[1], **options)
        # images and maxima are not read
        unread = launch.empty(given[1].shape, given[1].dtype)
        dx = pooling.max_pooling_backward(given[0], unread, y, **options, taps=taps)
    with dispatch.generic_only():
        host_x, host_dy = (a.get().astype("float64") for a in given[::-1])
        top, none = pooling.max_pooling_with_taps(host_x, **options)
        want = pooling.max_pooling_backward(host_dy, host_x, top, **options)
    assert none is None and taps.dtype.name == "uint8" and dx.dtype.name == dtype
    np.testing.assert_array_equal(y.get().astype("float64"), top)
    np.testing.assert_array_equal(taps.get(), taps_of(host_x, activation, **static))
    rounding = TOLERANCE[dtype] * np.abs(want).max()
    np.testing.assert_allclose(dx.get().astype("float64"), want, rtol=TOLERANCE[dtype], atol=rounding)


def taps_of(x, activation, size, stride, pad):
    """The first maximum of each window that lies in the image; 255 where it is NaN or, before a relu, not positive."""
    around = ((0, 0), (0, 0), *((p, p) for p in pad))

    def windows_of(padded):
        seen = np.lib.stride_tricks.sliding_window_view(padded, size, (2, 3))[:, :, :: stride[0], :: stride[1]]
        return seen.reshape(*seen.shape[:4], -1)

    seen = windows_of(np.pad(x, around, constant_values=-np.inf))
    inside = windows_of(np.pad(np.ones(x.shape, bool), around))
    top = seen.max(-1, keepdims=True)
    dropped = np.isnan(top) | ((activation == "relu") & (top <= 0)) | ~inside.any(-1, keepdims=True)
    return np.where(dropped[..., 0], 255, (inside & (seen == top)).argmax(-1))
