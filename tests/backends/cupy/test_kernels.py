"""The CUDA kernels, compiled for the host, are the generic ops: from dispatch through launch to every element."""

import contextlib
import ctypes
import inspect
import itertools

import numpy as np
import pytest

import xpdl.backends
from tests.backends.cupy import fake, test_capture, test_loss_scaling
from tests.backends.cupy import host as compiled
from tests.ops.table import CORE
from tests.pairs import check_pair
from xpdl import layers, optimizers
from xpdl.backends import dispatch
from xpdl.backends.cupy import convolution as convolutions
from xpdl.backends.cupy import elementwise, launch, sources
from xpdl.backends.cupy import optimizers as steps
from xpdl.backends.random import random_bits
from xpdl.layers import chain
from xpdl.models import Sequential
from xpdl.ops import activations, affine, convolution, dropout, losses, normalization, pooling, windows

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
TOLERANCE = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 5e-5, "float64": 1e-11}


def launched():
    return {name for name, *_ in fake.launches}


def compare(host, op, *arrays, dtype="float32", **static):
    """What a kernel gives on the stand-in against the generic op in float64, from the same values."""
    rounded = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
    before = len(fake.launches)
    with host.rules():
        got = op(*map(fake.module.asarray, rounded), **static)
    assert len(fake.launches) > before, "no kernel ran"
    with dispatch.generic_only():
        want = op(*(a.astype("float64") if a.dtype.kind not in "biu" else a for a in rounded), **static)
    results = zip(*(r if isinstance(r, tuple) else (r,) for r in (got, want)), strict=True)
    for place, (actual, desired) in enumerate(results):
        if desired is None:
            assert actual is None
            continue
        assert isinstance(actual, fake.ndarray) and actual.shape == np.shape(desired)
        if np.asarray(desired).dtype.kind != "f":
            np.testing.assert_array_equal(actual.get(), desired)
            continue
        # losses and statistics stay in the dtype that is computed with
        wide = np.ndim(desired) == 0 or (place > 0 and op.__name__.endswith(("normalization", "forward")))
        assert actual.dtype.name == (launch.computing_dtype(np.dtype(dtype)) if wide else dtype)
        finite = np.abs(desired)[np.isfinite(desired)]
        tolerance = TOLERANCE[dtype]
        limit = tolerance * finite.max(initial=0.0)
        np.testing.assert_allclose(actual.get().astype("float64"), desired, rtol=tolerance, atol=limit)


def through_relu(op):
    """A backward pass of batch normalisation that takes the rectified output as an array among the others."""

    def backward(dy, x, gamma, mean, var, y, *, eps):
        return op(dy, x, gamma, mean, var, eps, y)

    return backward


def with_addend(op):
    """Batch normalisation and the sum and relu after it, with the addend as an array behind the others."""

    def forward(*arrays, eps):
        return op(*arrays[:-1], eps, True, arrays[-1])

    return forward


def test_every_kernel_takes_the_arguments_of_its_op():
    kernels = {name: f for (library, name), f in dispatch._kernels.items() if library == "cupy"}
    assert {"convolution", "max_pooling", "step_together", "dropout_mask"} <= set(kernels)
    for name, kernel in kernels.items():
        wanted = inspect.signature(dispatch._generics[name]).parameters.values()
        given = inspect.signature(kernel).parameters.values()
        assert [(p.name, p.kind, p.default) for p in given] == [(p.name, p.kind, p.default) for p in wanted], name


@pytest.mark.parametrize("case", CORE, ids=lambda case: case.id)
def test_op_of_the_table(host, case):
    check_pair(host, case, "float32")


@pytest.mark.parametrize("wide", [False, True], ids=["narrow", "wide"])
@pytest.mark.parametrize("dtype", sources.TYPES)
def test_every_kernel_runs_in_every_instance(host, monkeypatch, dtype, wide):
    """Together they launch all there are, so that none is compiled and never compared."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    monkeypatch.setattr(launch, "_NARROW", 0 if wide else 1 << 30)
    monkeypatch.setattr(convolutions, "COLUMN_BYTES", 4000)
    rng = np.random.default_rng(0)
    x, W, b = rng.normal(size=(5, 4, 7, 6)), rng.normal(size=(6, 2, 3, 2)), rng.normal(size=6)
    options = {"stride": (2, 1), "pad": (1, 2), "dilation": (1, 2), "groups": 2}
    y = convolution.convolution(x, W, b, **options)
    dy = rng.normal(size=y.shape)
    compare(host, convolution.convolution, x, W, b, dtype=dtype, **options)
    compare(host, convolution.convolution_backward, dy, x, W, dtype=dtype, **options)
    for bias in ((b,), ()):
        compare(host, convolution.rectified_convolution, x, W, *bias, dtype=dtype, **options)
    rows, weights, bias = rng.normal(size=(9, 5)), rng.normal(size=(5, 3)), rng.normal(size=3)
    compare(host, affine.affine, rows, weights, bias, dtype=dtype)
    compare(host, affine.affine_backward, rng.normal(size=(9, 3)), rows, weights, dtype=dtype)
    # a gradient of several parts
    compare(host, affine.affine_backward, rng.normal(size=(900, 3)), rng.normal(size=(900, 5)), weights, dtype=dtype)
    for given in ((rows, weights, bias), (rows, weights)):
        compare(host, affine.rectified_affine, *given, dtype=dtype)
    for op in (activations.relu, activations.sigmoid):
        compare(host, op, rows, dtype=dtype)
    for op in (activations.relu_backward, activations.sigmoid_backward, activations.tanh_backward):
        compare(host, op, rows, np.tanh(rows[::-1]), dtype=dtype)
    compare(host, dropout.dropout, rows, rows > 0, dtype=dtype, scale=1.25)
    compare(host, dropout.dropout_mask, rows, dtype=dtype, drop_ratio=0.3, words=(1, 2, 3, 4), counter=5)
    # few different values: ties
    tied = rng.integers(-2, 3, x.shape).astype(float)
    pools = {"size": (3, 2), "stride": (2, 1), "pad": (1, 1)}
    top = pooling.max_pooling(tied, **pools)
    compare(host, pooling.max_pooling, tied, dtype=dtype, **pools)
    compare(host, pooling.max_pooling_backward, rng.integers(-8, 9, top.shape) / 8, tied, top, dtype=dtype, **pools)
    for rectified in (False, True):
        compare_taps(host, rng.integers(-8, 9, top.shape) / 8, tied, rectified, dtype=dtype, **pools)
    compare(host, pooling.average_pooling, tied, dtype=dtype, **pools)
    compare(host, pooling.average_pooling_backward, rng.normal(size=top.shape), tied, dtype=dtype, **pools)
    taps = {"filter_h": 3, "filter_w": 2, "stride": (2, 1), "pad": (1, 0)}
    col = windows.im2col(x, **taps)
    compare(host, windows.im2col, x, dtype=dtype, **taps)
    compare(host, windows.col2im, col, dtype=dtype, input_shape=x.shape, **taps)
    for values in (x, rows):
        gamma, beta, mean, var = rng.normal(size=(4, values.shape[1]))
        given = (gamma, beta, mean, np.abs(var))
        for rectified in (False, True):
            options = {"dtype": dtype, "eps": 1e-3, "rectified": rectified}
            compare(host, normalization.batch_normalization, values, gamma, beta, **options)
            compare(host, normalization.normalize, values, *given, **options)
        for op, *others in ((normalization.batch_normalization, gamma, beta), (normalization.normalize, *given)):
            compare(host, with_addend(op), values, *others, rng.normal(size=values.shape), dtype=dtype, eps=1e-3)
        _, *statistics = normalization.batch_normalization(values, gamma, beta, 1e-3)
        arrays = rng.normal(size=values.shape), values, gamma, *statistics
        for op in (normalization.batch_normalization_backward, normalization.normalize_backward):
            compare(host, op, *arrays, dtype=dtype, eps=1e-3)
            compare(host, through_relu(op), *arrays, rng.normal(size=values.shape), dtype=dtype, eps=1e-3)
    labels, soft = np.array([0, 4, 1, 2, 3, 4, 0, 0, 2]), np.abs(rng.normal(size=rows.shape))
    for t in (labels, labels.astype("uint8"), soft):
        compare(host, losses.softmax_with_loss, rows, t, dtype=dtype)
        compare(host, losses.softmax_with_loss_backward, activations.softmax(rows), t, dtype=dtype, dout=2.5)
    compare(host, losses.softmax_with_loss_backward, activations.softmax(rows), soft, np.array(2.5), dtype=dtype)
    for rule in RULES:
        stepped(host, rule, [(3, 2), (5,)], dtype)
    test_loss_scaling.compare_all(host, dtype)
    test_capture.compare_all(dtype)
    assert launched() == {kernel for file in sources.FILES for kernel in compiled.kernels(file)}
    # a mask looks at no value, nor do slots, and a scale is not in half precision: one instance serves all
    others = ("dropout_mask", "scaling_after", "corrected_rate", "put")
    assert {(d, w) for name, d, w, *_ in fake.launches if name not in others} == {(dtype, wide)}


def stepped(host, rule, shapes, dtype="float32", **options):
    """Parameters after three steps on the stand-in, against those of NumPy in float64."""
    rng = np.random.default_rng(1)
    start = {f"p{k}": rng.normal(size=shape).astype(dtype) for k, shape in enumerate(shapes)}
    gradients = [{name: rng.normal(size=p.shape).astype(dtype) for name, p in start.items()} for _ in range(3)]
    ours, theirs = rule(0.1, **options), rule(0.1, **options)
    params = {name: fake.module.asarray(p) for name, p in start.items()}
    owned = dict(params)
    exact = {name: p.astype("float64") for name, p in start.items()}
    for grads in gradients:
        with host.rules():
            ours.update(params, {name: fake.module.asarray(g) for name, g in grads.items()})
        theirs.update(exact, {name: g.astype("float64") for name, g in grads.items()})
    for name, p in params.items():
        assert p is owned[name], "updated in place"
        tolerance = 3 * TOLERANCE[dtype]
        np.testing.assert_allclose(p.get().astype("float64"), exact[name], rtol=tolerance, atol=tolerance)
    for kind in rule.memory:
        for name, kept in getattr(ours, kind).items():
            desired = getattr(theirs, kind)[name]
            limit = 3 * TOLERANCE[dtype] * max(1.0, np.abs(desired).max())
            np.testing.assert_allclose(kept.get().astype("float64"), desired, rtol=3 * TOLERANCE[dtype], atol=limit)


class TestOptimizers:
    @pytest.mark.parametrize("rule", RULES)
    def test_one_launch_for_all_parameters(self, host, rule):
        stepped(host, rule, [(7, 3), (3,), (steps.CHUNK,), (2 * steps.CHUNK + 1,), ()])
        assert len(fake.launches) == 3

    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("dtype", sources.TYPES)
    def test_packs_and_single_values_have_the_same_bits(self, host, rule, dtype):
        if dtype == "bfloat16":
            pytest.importorskip("ml_dtypes")
        rng = np.random.default_rng(0)
        sizes = (1, 5, 64, steps.CHUNK + 11)
        starts, gradients = ([rng.normal(size=size).astype(dtype) for size in sizes] for _ in range(2))
        found = []
        for of_params, of_gradients in itertools.product((fake.module.asarray, fake.unaligned), repeat=2):
            optimizer = rule(0.1, clip_norm=1.0, max_norm=0.9)
            params = {str(k): of_params(a) for k, a in enumerate(starts)}
            for _ in range(2):
                optimizer.update(params, {str(k): of_gradients(a) for k, a in enumerate(gradients)})
            kept = (getattr(optimizer, kind) for kind in rule.memory)
            found.append([a.get().tobytes() for arrays in (params, *kept) for a in arrays.values()])
        assert all(bits == found[0] for bits in found)

    def test_more_parameters_than_a_table_has_rows(self, host):
        stepped(host, optimizers.Adam, [(3,)] * (steps.TENSORS + 2))
        assert len(fake.launches) == 6

    @pytest.mark.parametrize("rule", [rule for rule in RULES if rule is not optimizers.AdamW])
    def test_clipping_decay_and_limit_are_in_the_launch(self, host, rule):
        stepped(host, rule, [(4, 3), (3,)], clip_norm=0.5, max_norm=0.7, weight_decay={"l1": 0.01, "l2": 0.1})
        assert len(fake.launches) == 3

    def test_rule_of_ones_own_is_left_to_its_step(self, host):
        class Halved(optimizers.SGD):
            def step(self, p, g, *memory):
                return (p - self.lr * g / 2,)

        params = {"W": fake.module.asarray(np.ones(4, "float32"))}
        Halved(0.5).update(params, {"W": fake.module.asarray(np.ones(4, "float32"))})
        np.testing.assert_array_equal(params["W"].get(), 0.75)
        assert not fake.launches

    def test_table_fits_a_launch(self):
        assert 8 * steps._TABLE_ROWS * steps.TENSORS + steps._SHARED.size + 8 * 8 <= 4096


def compare_taps(host, dy, x, rectified, *, dtype="float32", **static):
    """Forward and backward passes of max pooling with taps against the generic op, and the taps against an argmax."""
    suffix = "rectified_max_pooling" if rectified else "max_pooling"
    forward, backward = getattr(pooling, f"{suffix}_with_taps"), getattr(pooling, f"{suffix}_backward")
    given = [fake.module.asarray(a.astype(dtype)) for a in (dy, x)]
    with host.rules():
        y, taps = forward(given[1], **static)
        # images and maxima are not read
        unread = launch.empty(given[1].shape, given[1].dtype)
        dx = backward(given[0], unread, y, **static, taps=taps)
    with dispatch.generic_only():
        host_x, host_dy = (a.get().astype("float64") for a in given[::-1])
        top, none = forward(host_x, **static)
        want = backward(host_dy, host_x, top, **static)
    assert none is None and taps.dtype.name == "uint8" and dx.dtype.name == dtype
    np.testing.assert_array_equal(y.get().astype("float64"), top)
    np.testing.assert_array_equal(taps.get(), taps_of(host_x, rectified, **static))
    rounding = TOLERANCE[dtype] * np.abs(want).max()
    np.testing.assert_allclose(dx.get().astype("float64"), want, rtol=TOLERANCE[dtype], atol=rounding)


def taps_of(x, rectified, size, stride, pad):
    """The first maximum of each window that lies in the image; 255 where it is NaN or, if rectified, not positive."""
    around = ((0, 0), (0, 0), *((p, p) for p in pad))

    def windows_of(padded):
        seen = np.lib.stride_tricks.sliding_window_view(padded, size, (2, 3))[:, :, :: stride[0], :: stride[1]]
        return seen.reshape(*seen.shape[:4], -1)

    seen = windows_of(np.pad(x, around, constant_values=-np.inf))
    inside = windows_of(np.pad(np.ones(x.shape, bool), around))
    top = seen.max(-1, keepdims=True)
    dropped = np.isnan(top) | (rectified & (top <= 0)) | ~inside.any(-1, keepdims=True)
    return np.where(dropped[..., 0], 255, (inside & (seen == top)).argmax(-1))


@pytest.mark.parametrize("rectified", [False, True], ids=["", "rectified"])
@pytest.mark.parametrize("seed", range(12))
def test_taps_of_any_shape(host, seed, rectified):
    rng = np.random.default_rng(seed)
    size, stride = (tuple(int(v) for v in rng.integers(1, 5, 2)) for _ in range(2))
    pad = tuple(int(rng.integers(0, k)) for k in size)
    shape = (*rng.integers(1, 4, 2), *(k + int(rng.integers(0, 6)) for k in size))
    # few different values, so that there are ties
    x = rng.choice([-np.inf, -1.0, 0.0, 1.0, np.nan], shape, p=[0.1, 0.4, 0.2, 0.2, 0.1])
    dy = rng.normal(size=pooling.max_pooling(x, size, stride, pad).shape)
    compare_taps(host, dy, x, rectified, size=size, stride=stride, pad=pad)
    assert launched() == {"max_pooling", "gradient_to_taps"}


def test_the_border_has_no_tap_of_a_window_that_holds_nothing_larger(host):
    x = np.full((1, 1, 2, 2), -np.inf)
    static = {"size": (2, 2), "stride": (2, 2), "pad": (1, 1)}
    compare_taps(host, np.arange(4.0).reshape(1, 1, 2, 2), x, False, **static)
    _, taps = pooling.max_pooling_with_taps(fake.module.asarray(x), **static)
    assert taps.get().ravel().tolist() == [3, 2, 1, 0]


def test_windows_of_more_than_255_values_have_no_taps(host):
    x = np.arange(2 * 18.0 * 18).reshape(1, 2, 18, 18)
    for size, noted in (((15, 17), True), ((16, 16), False), ((1, 18), True)):
        y, taps = pooling.max_pooling_with_taps(fake.module.asarray(x), size, (1, 1))
        assert (taps is not None) == noted
        np.testing.assert_array_equal(y.get(), pooling.max_pooling(x, size, (1, 1)))
        dx = pooling.max_pooling_backward(y, fake.module.asarray(x), y, size, (1, 1), (0, 0), taps)
        np.testing.assert_allclose(dx.get(), pooling.max_pooling_backward(y.get(), x, y.get(), size, (1, 1)))


@pytest.mark.parametrize("first", [(), (layers.Relu(),)], ids=["alone", "after relu"])
def test_the_layer_hands_its_taps_to_its_backward_pass(host, first):
    x = np.random.default_rng(5).integers(-3, 4, (2, 3, 6, 6)).astype("float32")
    net = chain.Chain(*first, layers.Pooling(2, 2))
    dx = net.backward(net.forward(fake.module.asarray(x)))
    assert [name for name, *_ in fake.launches] == ["max_pooling", "gradient_to_taps"]
    y = net.forward(x)
    np.testing.assert_array_equal(dx.get(), net.backward(y))


@pytest.mark.parametrize("seed", range(12))
def test_pooling_of_any_shape(host, seed):
    rng = np.random.default_rng(seed)
    size, stride = (tuple(int(v) for v in rng.integers(1, 4, 2)) for _ in range(2))
    pad = tuple(int(rng.integers(0, k)) for k in size)
    x = rng.integers(-2, 3, (*rng.integers(1, 4, 2), *(k + int(rng.integers(0, 6)) for k in size))).astype(float)
    y = pooling.max_pooling(x, size, stride, pad)
    dy = rng.normal(size=y.shape)
    static = {"size": size, "stride": stride, "pad": pad}
    compare(host, pooling.max_pooling, x, **static)
    compare(host, pooling.max_pooling_backward, dy, x, y, **static)
    compare(host, pooling.average_pooling_backward, dy, x, **static)


def test_not_a_number_wins_a_window_and_takes_no_gradient(host):
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    x[0, 0, 0, 1], x[0, 0, 2, 2] = np.nan, -np.inf
    static = {"size": (2, 2), "stride": (2, 2)}
    compare(host, pooling.max_pooling, x, **static)
    compare(
        host, pooling.max_pooling_backward, np.ones((1, 1, 2, 2)), x, pooling.max_pooling(x, (2, 2), (2, 2)), **static
    )


@pytest.mark.parametrize("seed", range(12))
def test_convolution_in_chunks(host, seed, monkeypatch):
    rng = np.random.default_rng(seed)
    groups, n = int(rng.integers(1, 3)), int(rng.integers(1, 7))
    size, stride, dilation = (tuple(int(v) for v in rng.integers(1, 4, 2)) for _ in range(3))
    pad = tuple(int(v) for v in rng.integers(0, 3, 2))
    shape = (int(rng.integers(0, 5)) + dilation[i] * (size[i] - 1) + 1 for i in (0, 1))
    x = rng.normal(size=(n, 2 * groups, *shape))
    W = rng.normal(size=(3 * groups, 2, *size))
    static = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}
    dy = rng.normal(size=convolution.convolution(x, W, **static).shape)
    monkeypatch.setattr(convolutions, "COLUMN_BYTES", int(rng.integers(1, 20000)))
    compare(host, convolution.convolution, x, W, **static)
    compare(host, convolution.convolution_backward, dy, x, W, **static)
    compare(host, convolution.convolution_backward, dy, x, W, **static, need_dx=False)
    compare(host, convolution.convolution_backward, dy, x, W, **static, need_db=False)


def test_columns_take_no_more_than_their_buffer(host, monkeypatch):
    limit = 100_000
    monkeypatch.setattr(convolutions, "COLUMN_BYTES", limit)
    sizes = []
    gather = convolutions.gather
    monkeypatch.setattr(convolutions, "gather", lambda x, col, *rest: sizes.append(col.nbytes) or gather(x, col, *rest))
    x, W = np.ones((40, 3, 16, 16)), np.ones((4, 3, 3, 3))
    compare(host, convolution.convolution, x, W, pad=(1, 1))
    assert max(sizes) <= limit and sum(sizes) == 40 * 27 * 256 * 4


@pytest.mark.parametrize("shape", [(700, 3), (40, 70), (6, 5, 40, 40), (3, 1, 70, 60)], ids=str)
def test_sums_of_several_blocks(host, shape):
    rng = np.random.default_rng(2)
    # far from 0: a variance as the difference of two sums would be lost
    x, gamma, beta = 300.0 + rng.normal(size=shape), *rng.normal(size=(2, shape[1]))
    _, *statistics = normalization.batch_normalization(x, gamma, beta, 1e-3)
    compare(host, normalization.batch_normalization, x, gamma, beta, dtype="float64", eps=1e-3)
    arrays = rng.normal(size=shape), x, gamma, *statistics
    compare(host, normalization.batch_normalization_backward, *arrays, dtype="float64", eps=1e-3)
    narrow = [fake.module.asarray(a.astype("float32")) for a in (x, gamma, beta)]
    _, mean, var = normalization.batch_normalization(*narrow, 1e-3)
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(mean.get(), x.mean(axis=axes), rtol=1e-6)
    np.testing.assert_allclose(var.get(), x.var(axis=axes), rtol=1e-3)


@pytest.mark.parametrize("size", [1, 5, 64, 9001])
@pytest.mark.parametrize("dtype", sources.TYPES)
def test_elements_in_packs_and_one_by_one_have_the_same_bits(host, monkeypatch, dtype, size):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(size)
    x, y = rng.normal(size=(2, size)).astype(dtype)
    keep = rng.random(size) < 0.5
    ops = [activations.relu, activations.relu_backward, activations.sigmoid, activations.sigmoid_backward]
    ops += [activations.tanh_backward, dropout.dropout, dropout.dropout_mask]
    for op in ops:
        if op is dropout.dropout_mask:
            given, options = (x,), {"drop_ratio": 0.3, "words": (1, 2, 3, 4), "counter": 5}
        else:
            second = keep if op is dropout.dropout else y
            given = (x, second)[: len(inspect.signature(op).parameters)]
            options = {}
        compare(host, op, *given, dtype=dtype, **options)
        found = []
        # a thread takes one pack, or many
        for place, blocks in itertools.product((fake.module.asarray, fake.unaligned), (1 << 12, 1)):
            monkeypatch.setattr(elementwise, "_MOST_BLOCKS", blocks)
            found.append(op(*map(place, given), **options).get())
        assert all(a.tobytes() == found[0].tobytes() for a in found), op.__name__


@pytest.mark.parametrize("shape", [(7, 16), (7, 5), (3, 4, 16), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("dtype", sources.TYPES)
@pytest.mark.parametrize("relu", [False, True])
def test_bias_in_packs_and_one_by_one_has_the_same_bits(host, monkeypatch, shape, dtype, relu):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    rng = np.random.default_rng(0)
    y, b = (rng.integers(-16, 17, size).astype(dtype) for size in (shape, shape[1]))
    want = y + b.reshape(-1, *(1,) * (len(shape) - 2))
    want = np.maximum(want, np.zeros((), dtype)) if relu else want
    for place, blocks in itertools.product((fake.module.asarray, fake.unaligned), (1 << 12, 1)):
        monkeypatch.setattr(elementwise, "_MOST_BLOCKS", blocks)
        for other in (fake.module.asarray, fake.unaligned):
            got = place(y)
            elementwise.add_bias(got, other(b), relu=relu)
            np.testing.assert_array_equal(got.get(), want)
        got = place(y)
        elementwise.add_bias(got, None, relu=relu)
        np.testing.assert_array_equal(got.get(), np.maximum(y, np.zeros((), dtype)) if relu else y)


def normalized(x, gamma, beta, dy):
    """All that kernels of batch normalisation make of `x`: forward with an addend and relu, and backward."""
    addend = dy[::-1]
    y, mean, var = normalization.batch_normalization(x, gamma, beta, 1e-3, True, addend)
    back = normalization.batch_normalization_backward(dy, x, gamma, mean, var, 1e-3, y)
    return y, mean, var, *back, normalization.normalize(x, gamma, beta, mean, var, 1e-3, True, addend)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("pixels", [(4, 4), (7, 7), (8, 12), (1, 3), (5, 8), ()], ids=str)
@pytest.mark.parametrize("images", [1, 3, 70])
@pytest.mark.parametrize("place", [fake.module.asarray, fake.unaligned], ids=["aligned", "unaligned"])
def test_packs_of_any_width_are_all_values_once(host, images, pixels, dtype, place):
    rng = np.random.default_rng(images)
    # far from 0 and of few bits, so that sums of half precision are exact enough to compare
    x = (rng.integers(-8, 9, (images, 3, *pixels)) / 4 + 2).astype(dtype)
    dy = (rng.integers(-8, 9, x.shape) / 4).astype(dtype)
    kept = "float64" if dtype == "float64" else "float32"
    gamma, beta = rng.normal(size=(2, 3)).astype(kept)
    got = normalized(place(x), *map(fake.module.asarray, (gamma, beta)), place(dy))
    assert {"channel_moments", "batch_normalization", "channel_products", "normalize"} <= launched()
    want = normalized(*(a.astype("float64") for a in (x, gamma, beta, dy)))
    for actual, desired in zip(got, want, strict=True):
        tolerance = TOLERANCE[actual.dtype.name]
        limit = tolerance * max(1.0, np.abs(desired).max())
        np.testing.assert_allclose(actual.get().astype("float64"), desired, rtol=tolerance, atol=limit)


@pytest.mark.parametrize("shape", [(40, 2, 8, 8), (200, 2, 5, 5), (3000, 2), (2, 2, 60, 64)], ids=str)
def test_variance_in_one_pass_is_as_exact_as_in_two(host, shape):
    rng = np.random.default_rng(0)
    ones = np.ones(2, "float32")
    for case in ("far from 0", "the first far from others", "constant", "tiny and huge"):
        x = rng.normal(size=shape)
        if case == "far from 0":
            x += 1000.0
        elif case == "the first far from others":
            x[0] = x[0] * 1e-3 + 1e4
            x[:, 1] = 5.0
            x[0, 1] = -1e5
        elif case == "constant":
            x[...] = 0.1
        else:
            x *= 10.0 ** rng.integers(-6, 7, shape)
        x = x.astype("float32")
        _, mean, var = normalization.batch_normalization(*map(fake.module.asarray, (x, ones, ones)), 1e-3)
        exact, axes = x.astype("float64"), (0, *range(2, x.ndim))
        spread = np.abs(exact).max(axis=axes)
        np.testing.assert_allclose(mean.get(), exact.mean(axis=axes), rtol=1e-6, atol=1e-7 * spread.max())
        np.testing.assert_allclose(var.get(), exact.var(axis=axes), rtol=2e-5, err_msg=case)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("at", [(0, 0, 0, 0), (3, 0, 2, 1)], ids=["first", "later"])
def test_statistics_of_what_is_not_finite_are_those_of_the_generic_op(host, bad, at):
    x = np.random.default_rng(0).normal(size=(5, 2, 4, 4)).astype("float32")
    x[at] = bad
    ones = np.ones(2, "float32")
    with np.errstate(invalid="ignore"):
        want = normalization.batch_normalization(x, ones, ones, 1e-3)
    got = normalization.batch_normalization(*map(fake.module.asarray, (x, ones, ones)), 1e-3)
    for actual, desired in zip(got, want, strict=True):
        np.testing.assert_allclose(actual.get(), desired, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows,classes", [(1, 1), (300, 10), (3, 1000), (17, 65)])
def test_losses_of_any_number_of_classes(host, rows, classes):
    rng = np.random.default_rng(3)
    x, t = 20 * rng.normal(size=(rows, classes)), rng.integers(0, classes, rows)
    compare(host, losses.softmax_with_loss, x, t)
    compare(host, losses.softmax_with_loss_backward, activations.softmax(x), t)


def test_infinite_scores(host):
    x = np.array([[1.0, -np.inf, 2.0], [3.0, 1.0, -np.inf]])
    compare(host, losses.softmax_with_loss, x, np.array([0, 0]))
    compare(host, losses.softmax_with_loss, x, np.array([1, 0]))


@pytest.mark.parametrize("counter,ratio", [(0, 0.5), (7, 0.1), (1 << 40, 0.9)])
def test_masks_are_those_of_the_cpu(host, counter, ratio):
    x = np.zeros((3, 1001), "float32")
    words = (0xFFFFFFFF, 2, 3, 4)
    mask = dropout.dropout_mask(fake.module.asarray(x), ratio, words, counter)
    np.testing.assert_array_equal(mask.get(), dropout.dropout_mask(x, ratio, words, counter))
    assert launched() == {"dropout_mask"}


def test_a_value_at_the_threshold_is_kept(host):
    x, words = np.zeros(500, "float32"), (5, 6, 7, 8)
    ratio = float(random_bits(x, words, 3)[17]) / 2**24
    mask = dropout.dropout_mask(fake.module.asarray(x), ratio, words, 3)
    assert mask.get()[17] and (mask.get() == dropout.dropout_mask(x, ratio, words, 3)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_rounded_to_nearest_and_ties_to_even(host, dtype):
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    every = np.arange(1 << 16, dtype=np.uint16)
    exponent = {"float16": 0x7C00, "bfloat16": 0x7F80}[dtype]
    x = every[every & exponent != exponent].view(dtype)
    # the products have more bits than fit, ties among them, and some overflow
    for scale in (1.5, 1.0 + 2**-9, 3e-5):
        got = dropout.dropout(fake.module.asarray(x), fake.module.asarray(np.ones(x.shape, bool)), scale).get()
        with np.errstate(over="ignore"):
            want = (x.astype("float32") * np.float32(scale)).astype(dtype)
        np.testing.assert_array_equal(got.view(np.uint16), want.view(np.uint16))


def test_mixed_dtypes_empty_arrays_and_integers_are_left_to_the_generic_op(host):
    ones = {dtype: fake.module.asarray(np.ones((2, 3), dtype)) for dtype in ("float32", "float64", "int64")}
    empty = fake.module.asarray(np.ones((0, 3), "float32"))
    assert activations.relu_backward(ones["float32"], ones["float64"]).get().sum() == 6
    assert activations.relu(empty).shape == (0, 3)
    assert activations.relu(ones["int64"]).get().sum() == 6
    assert not fake.launches


def network():
    return Sequential(
        layers.Convolution(filters=4, size=3, pad=1),
        layers.BatchNormalization(),
        layers.Relu(),
        layers.Pooling(2, 2),
        layers.Dropout(0.25),
        layers.Affine(units=12),
        layers.Sigmoid(),
        layers.Affine(units=10),
        loss=layers.SoftmaxWithLoss,
        seed=0,
    )


def trained(backend, module, steps, rules=contextlib.nullcontext):
    rng = np.random.default_rng(4)
    with backend:
        net, adam = network(), optimizers.Adam()
        net.build((1, 8, 8))
        for _ in range(steps):
            x, t = module.asarray(rng.normal(size=(7, 1, 8, 8))), module.asarray(rng.integers(0, 10, 7))
            with rules():
                adam.update(net.params, net.gradient(x, t))
    return net


def test_training_step_reads_nothing_back_and_is_that_of_numpy(host):
    ours = trained(host.use("float64"), fake.module, 5, host.rules)
    theirs = trained(xpdl.backends.use("numpy", dtype="float64"), np, 5)
    for name, value in theirs.params.items():
        np.testing.assert_allclose(ours.params[name].get(), value, rtol=1e-9, atol=1e-12)
    for name, value in theirs.buffers.items():
        np.testing.assert_allclose(ours.buffers[name].get(), value, rtol=1e-9, atol=1e-12)


class TestTheStandIn:
    """It would be of no use if it let everything through."""

    def test_a_wrong_dtype_is_noticed(self, host):
        x = fake.module.asarray(np.ones(4, "float64"))
        with pytest.raises(AssertionError, match=r"relu: float64 where \*float32 is expected"):
            launch.launch_elementwise("elementwise", "relu", "float32", 4, x, x)

    def test_a_missing_argument_is_noticed(self, host):
        with pytest.raises(AssertionError, match=r"relu takes .* got 2"):
            launch.launch_elementwise("elementwise", "relu", "float32", 4, fake.module.asarray(np.ones(4, "float32")))

    def test_arguments_in_another_order_are_noticed(self, host):
        x = fake.module.asarray(np.ones(4, "float32"))
        with pytest.raises(AssertionError, match=r"dropout: .* is expected"):
            launch.launch_elementwise("elementwise", "dropout", "float32", 4, x, x, x > 0, 1.0)

    def test_writing_beyond_the_end_is_noticed(self, host):
        x, y = fake.module.asarray(np.ones(8, "float32")), launch.empty((4,), np.dtype("float32"))
        with pytest.raises(AssertionError, match="relu wrote beyond an array"):
            launch.launch_elementwise("elementwise", "relu", "float32", 8, x, y)

    def test_what_is_not_written_is_not_a_number(self, host):
        assert np.isnan(launch.empty((4,), np.dtype("float32")).get()).all()

    def test_reading_on_the_host_is_refused_under_the_rules(self, host):
        x = fake.module.asarray(np.ones(()))
        for read in (float, bool, fake.ndarray.get):
            with host.rules(), pytest.raises(RuntimeError, match="read on the host"):
                read(x)

    def test_a_barrier_that_some_threads_miss_is_noticed(self, host, monkeypatch, tmp_path):
        right = sources.text("losses.cu")
        wrong = right.replace("I end = row < (I)rows ? K : 0;", "I end = K; if (row >= (I)rows) return;")
        assert wrong != right
        text = sources.text
        monkeypatch.setattr(sources, "text", lambda file: wrong if file == "losses.cu" else text(file))
        compiled.library.cache_clear()
        kernel = compiled.HostKernel("losses", "float32", False, "softmax_with_loss")
        monkeypatch.undo()
        compiled.library.cache_clear()
        x, losses = np.ones((3, 8), "float32"), np.ones(3, "float32")
        labels, y = np.zeros(3, "int64"), np.empty_like(x)
        args = [ctypes.c_void_p(a.ctypes.data if isinstance(a, np.ndarray) else a) for a in (x, labels, 0, y, losses)]
        with pytest.raises(AssertionError, match="miss a barrier"):
            kernel.run((1,), (4, 64), [*args, ctypes.c_longlong(3), ctypes.c_longlong(8)])


def test_every_kernel_is_found_by_the_tests():
    names = list(itertools.chain.from_iterable(map(compiled.kernels, sources.FILES)))
    assert len(names) == len(set(names)) == sum(sources.text(f"{f}.cu").count("__global__") for f in sources.FILES)
