"""CUDA kernels give what their generic ops give: from dispatch through launch to every element."""

import contextlib
import inspect
import itertools

import numpy as np
import pytest

import xpdl.backends
from tests.backends.cupy.device import TOLERANCE
from tests.backends.cupy.every_kernel import RULES, compare_every_kernel, compare_taps, names, stepped
from tests.harness import nonempty
from tests.selection import host_dtypes
from xpdl import layers, optimizers
from xpdl.backends import dispatch, registry
from xpdl.backends.cupy import convolution as convolutions
from xpdl.backends.cupy import elementwise, sources
from xpdl.backends.cupy import optimizers as steps
from xpdl.backends.random import random_bits
from xpdl.layers import chain
from xpdl.models import Sequential
from xpdl.ops import activations, convolution, dropout, losses, normalization, pooling

pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]


def test_every_kernel_takes_the_arguments_of_its_op():
    kernels = {name: f for (library, name), f in registry._kernels.items() if library == "cupy"}
    assert {"convolution", "max_pooling", "fused_update", "dropout_mask"} <= set(kernels)
    for name, kernel in kernels.items():
        wanted = inspect.signature(dispatch._generics[name]).parameters.values()
        given = inspect.signature(kernel).parameters.values()
        assert [(p.name, p.kind, p.default) for p in given] == [(p.name, p.kind, p.default) for p in wanted], name


@pytest.mark.parametrize("wide", [False, True], ids=["narrow", "wide"])
@pytest.mark.parametrize("dtype", host_dtypes(*sources.TYPES))
def test_every_kernel_runs_in_every_instance(gpu, monkeypatch, dtype, wide):
    compare_every_kernel(gpu, dtype, wide, monkeypatch)


class TestOptimizers:
    @pytest.mark.parametrize("rule", RULES)
    def test_one_launch_for_all_parameters(self, gpu, rule):
        stepped(gpu, rule, [(7, 3), (3,), (steps.CHUNK,), (2 * steps.CHUNK + 1,), ()])
        assert len(gpu.launches) == 3

    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("dtype", host_dtypes(*sources.TYPES))
    def test_packs_and_single_values_are_bitwise_identical(self, gpu, rule, dtype):
        rng = np.random.default_rng(0)
        sizes = (1, 5, 64, steps.CHUNK + 11)
        starts, gradients = ([rng.normal(size=size).astype(dtype) for size in sizes] for _ in range(2))
        found = []
        for of_params, of_gradients in itertools.product((gpu.array, gpu.unaligned), repeat=2):
            optimizer = rule(0.1, clip_norm=1.0, max_norm=0.9)
            params = {str(k): of_params(a) for k, a in enumerate(starts)}
            for _ in range(2):
                optimizer.update(params, {str(k): of_gradients(a) for k, a in enumerate(gradients)})
            kept = (getattr(optimizer, kind) for kind in rule.state_names)
            found.append([a.get().tobytes() for arrays in (params, *kept) for a in arrays.values()])
        assert all(bits == found[0] for bits in found)

    def test_more_parameters_than_a_table_has_rows(self, gpu):
        stepped(gpu, optimizers.Adam, [(3,)] * (steps.TENSORS + 2))
        assert len(gpu.launches) == 6

    @pytest.mark.parametrize("rule", [rule for rule in RULES if rule is not optimizers.AdamW])
    def test_clipping_decay_and_limit_are_in_the_launch(self, gpu, rule):
        stepped(gpu, rule, [(4, 3), (3,)], clip_norm=0.5, max_norm=0.7, weight_decay={"l1": 0.01, "l2": 0.1})
        assert len(gpu.launches) == 3

    def test_rule_of_ones_own_is_left_to_its_step(self, gpu):
        class Halved(optimizers.SGD):
            def step(self, p, g, *memory):
                return (p - self.lr * g / 2,)

        params = {"W": gpu.array(np.ones(4, "float32"))}
        Halved(0.5).update(params, {"W": gpu.array(np.ones(4, "float32"))})
        np.testing.assert_array_equal(params["W"].get(), 0.75)
        assert not gpu.launches

    def test_table_fits_a_launch(self):
        assert 8 * steps._TABLE_ROWS * steps.TENSORS + steps._SHARED.size + 8 * 8 <= 4096


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("seed", range(12))
def test_taps_of_any_shape(gpu, seed, activation):
    rng = np.random.default_rng(seed)
    size, stride = (tuple(int(v) for v in rng.integers(1, 5, 2)) for _ in range(2))
    pad = tuple(int(rng.integers(0, k)) for k in size)
    shape = (*rng.integers(1, 4, 2), *(k + int(rng.integers(0, 6)) for k in size))
    # few different values, so that there are ties
    x = rng.choice([-np.inf, -1.0, 0.0, 1.0, np.nan], shape, p=[0.1, 0.4, 0.2, 0.2, 0.1])
    dy = rng.normal(size=pooling.max_pooling(x, size, stride, pad).shape)
    compare_taps(gpu, dy, x, activation, size=size, stride=stride, pad=pad)
    assert gpu.launched() == {"max_pooling", "gradient_to_taps"}


def test_the_border_has_no_tap_of_a_window_that_holds_nothing_larger(gpu):
    x = np.full((1, 1, 2, 2), -np.inf)
    static = {"size": (2, 2), "stride": (2, 2), "pad": (1, 1)}
    compare_taps(gpu, np.arange(4.0).reshape(1, 1, 2, 2), x, None, **static)
    _, taps = pooling.max_pooling_with_taps(gpu.array(x), **static)
    assert taps.get().ravel().tolist() == [3, 2, 1, 0]


def test_windows_of_more_than_255_values_have_no_taps(gpu):
    x = np.arange(2 * 18.0 * 18).reshape(1, 2, 18, 18)
    for size, noted in (((15, 17), True), ((16, 16), False), ((1, 18), True)):
        y, taps = pooling.max_pooling_with_taps(gpu.array(x), size, (1, 1))
        assert (taps is not None) == noted
        np.testing.assert_array_equal(y.get(), pooling.max_pooling(x, size, (1, 1)))
        dx = pooling.max_pooling_backward(y, gpu.array(x), y, size, (1, 1), (0, 0), taps)
        np.testing.assert_allclose(dx.get(), pooling.max_pooling_backward(y.get(), x, y.get(), size, (1, 1)))


@pytest.mark.parametrize("first", [(), (layers.Relu(),)], ids=["alone", "after relu"])
def test_the_layer_hands_its_taps_to_its_backward_pass(gpu, first):
    x = np.random.default_rng(5).integers(-3, 4, (2, 3, 6, 6)).astype("float32")
    net = chain.Chain(*first, layers.Pooling(2, 2))
    dx = net.backward(net.forward(gpu.array(x)))
    assert [name for name, *_ in gpu.launches] == ["max_pooling", "gradient_to_taps"]
    y = net.forward(x)
    np.testing.assert_array_equal(dx.get(), net.backward(y))


@pytest.mark.parametrize("seed", range(12))
def test_pooling_of_any_shape(gpu, seed):
    rng = np.random.default_rng(seed)
    size, stride = (tuple(int(v) for v in rng.integers(1, 4, 2)) for _ in range(2))
    pad = tuple(int(rng.integers(0, k)) for k in size)
    x = rng.integers(-2, 3, (*rng.integers(1, 4, 2), *(k + int(rng.integers(0, 6)) for k in size))).astype(float)
    y = pooling.max_pooling(x, size, stride, pad)
    dy = rng.normal(size=y.shape)
    static = {"size": size, "stride": stride, "pad": pad}
    gpu.compare(pooling.max_pooling, x, **static)
    gpu.compare(pooling.max_pooling_backward, dy, x, y, **static)
    gpu.compare(pooling.average_pooling_backward, dy, x, **static)


def test_not_a_number_wins_a_window_and_takes_no_gradient(gpu):
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    x[0, 0, 0, 1], x[0, 0, 2, 2] = np.nan, -np.inf
    static = {"size": (2, 2), "stride": (2, 2)}
    gpu.compare(pooling.max_pooling, x, **static)
    gpu.compare(
        pooling.max_pooling_backward, np.ones((1, 1, 2, 2)), x, pooling.max_pooling(x, (2, 2), (2, 2)), **static
    )


@pytest.mark.parametrize("seed", range(12))
def test_convolution_in_chunks(gpu, seed, monkeypatch):
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
    gpu.compare(convolution.convolution, x, W, **static)
    gpu.compare(convolution.convolution_backward, dy, x, W, **static)
    gpu.compare(convolution.convolution_backward, dy, x, W, **static, need_dx=False)
    gpu.compare(convolution.convolution_backward, dy, x, W, **static, need_db=False)


def test_columns_take_no_more_than_their_buffer(gpu, monkeypatch):
    limit = 100_000
    monkeypatch.setattr(convolutions, "COLUMN_BYTES", limit)
    sizes = []
    gather = convolutions.gather
    monkeypatch.setattr(convolutions, "gather", lambda x, col, *rest: sizes.append(col.nbytes) or gather(x, col, *rest))
    x, W = np.ones((40, 3, 16, 16)), np.ones((4, 3, 3, 3))
    gpu.compare(convolution.convolution, x, W, pad=(1, 1))
    assert max(sizes) <= limit and sum(sizes) == 40 * 27 * 256 * 4


@pytest.mark.parametrize("shape", [(700, 3), (40, 70), (6, 5, 40, 40), (3, 1, 70, 60)], ids=str)
def test_sums_of_several_blocks(gpu, shape):
    rng = np.random.default_rng(2)
    # far from 0: a variance as the difference of two sums would be lost
    x, gamma, beta = 300.0 + rng.normal(size=shape), *rng.normal(size=(2, shape[1]))
    _, *statistics = normalization.batch_normalization(x, gamma, beta, 1e-3)
    gpu.compare(normalization.batch_normalization, x, gamma, beta, dtype="float64", eps=1e-3)
    arrays = rng.normal(size=shape), x, gamma, *statistics
    gpu.compare(normalization.batch_normalization_backward, *arrays, dtype="float64", eps=1e-3)
    narrow = [gpu.array(a.astype("float32")) for a in (x, gamma, beta)]
    _, mean, var = normalization.batch_normalization(*narrow, 1e-3)
    axes = (0, *range(2, x.ndim))
    np.testing.assert_allclose(mean.get(), x.mean(axis=axes), rtol=1e-6)
    np.testing.assert_allclose(var.get(), x.var(axis=axes), rtol=1e-3)


@pytest.mark.parametrize("size", [1, 5, 64, 9001])
@pytest.mark.parametrize("dtype", host_dtypes(*sources.TYPES))
def test_elements_in_packs_and_one_by_one_are_bitwise_identical(gpu, monkeypatch, dtype, size):
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
        gpu.compare(op, *given, dtype=dtype, **options)
        found = []
        # a thread takes one pack, or many
        for place, blocks in itertools.product((gpu.array, gpu.unaligned), (1 << 12, 1)):
            monkeypatch.setattr(elementwise, "_MOST_BLOCKS", blocks)
            found.append(op(*map(place, given), **options).get())
        assert all(a.tobytes() == found[0].tobytes() for a in found), op.__name__


@pytest.mark.parametrize("shape", [(7, 16), (7, 5), (3, 4, 16), (3, 4, 5)], ids=str)
@pytest.mark.parametrize("dtype", host_dtypes(*sources.TYPES))
@pytest.mark.parametrize("relu", [False, True])
def test_bias_in_packs_and_one_by_one_is_bitwise_identical(gpu, monkeypatch, shape, dtype, relu):
    rng = np.random.default_rng(0)
    y, b = (rng.integers(-16, 17, size).astype(dtype) for size in (shape, shape[1]))
    want = y + b.reshape(-1, *(1,) * (len(shape) - 2))
    want = np.maximum(want, np.zeros((), dtype)) if relu else want
    for place, blocks in itertools.product((gpu.array, gpu.unaligned), (1 << 12, 1)):
        monkeypatch.setattr(elementwise, "_MOST_BLOCKS", blocks)
        for other in (gpu.array, gpu.unaligned):
            got = place(y)
            elementwise.add_bias(got, other(b), relu=relu)
            np.testing.assert_array_equal(got.get(), want)
        got = place(y)
        elementwise.add_bias(got, None, relu=relu)
        np.testing.assert_array_equal(got.get(), np.maximum(y, np.zeros((), dtype)) if relu else y)


def normalized(x, gamma, beta, dy):
    """All that kernels of batch normalization make of `x`: forward with a residual and relu, and backward."""
    epilogue = {"activation": "relu", "residual": dy[::-1]}
    y, mean, var = normalization.batch_normalization(x, gamma, beta, 1e-3, **epilogue)
    back = normalization.batch_normalization_backward(dy, x, gamma, mean, var, 1e-3, y=y, activation="relu")
    return y, mean, var, *back, normalization.normalize(x, gamma, beta, mean, var, 1e-3, **epilogue)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("pixels", [(4, 4), (7, 7), (8, 12), (1, 3), (5, 8), ()], ids=str)
@pytest.mark.parametrize("images", [1, 3, 70])
@pytest.mark.parametrize("place", ["array", "unaligned"])
def test_packs_of_any_width_are_all_values_once(gpu, images, pixels, dtype, place):
    rng = np.random.default_rng(images)
    # far from 0 and of few bits, so that sums of half precision are exact enough to compare
    x = (rng.integers(-8, 9, (images, 3, *pixels)) / 4 + 2).astype(dtype)
    dy = (rng.integers(-8, 9, x.shape) / 4).astype(dtype)
    kept = "float64" if dtype == "float64" else "float32"
    gamma, beta = rng.normal(size=(2, 3)).astype(kept)
    place = getattr(gpu, place)
    got = normalized(place(x), *map(gpu.array, (gamma, beta)), place(dy))
    kernels = ("channel_moments", "batch_normalization", "channel_products", "normalize")
    assert {name if pixels else f"{name}_of_rows" for name in kernels} <= gpu.launched()
    want = normalized(*(a.astype("float64") for a in (x, gamma, beta, dy)))
    for actual, desired in zip(got, want, strict=True):
        tolerance = TOLERANCE[actual.dtype.name]
        limit = tolerance * max(1.0, np.abs(desired).max())
        np.testing.assert_allclose(actual.get().astype("float64"), desired, rtol=tolerance, atol=limit)


@pytest.mark.parametrize("shape", [(40, 2, 8, 8), (200, 2, 5, 5), (3000, 2), (2, 2, 60, 64)], ids=str)
def test_variance_in_one_pass_is_as_exact_as_in_two(gpu, shape):
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
        _, mean, var = normalization.batch_normalization(*map(gpu.array, (x, ones, ones)), 1e-3)
        exact, axes = x.astype("float64"), (0, *range(2, x.ndim))
        spread = np.abs(exact).max(axis=axes)
        np.testing.assert_allclose(mean.get(), exact.mean(axis=axes), rtol=1e-6, atol=1e-7 * spread.max())
        # with two passes too, differences are from a mean that is rounded
        rounding = float(np.spacing(np.abs(mean.get()).max()))
        np.testing.assert_allclose(var.get(), exact.var(axis=axes), rtol=2e-5, atol=rounding**2, err_msg=case)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("at", [(0, 0, 0, 0), (3, 0, 2, 1)], ids=["first", "later"])
def test_statistics_of_what_is_not_finite_are_those_of_the_generic_op(gpu, bad, at):
    x = np.random.default_rng(0).normal(size=(5, 2, 4, 4)).astype("float32")
    x[at] = bad
    ones = np.ones(2, "float32")
    with np.errstate(invalid="ignore"):
        want = normalization.batch_normalization(x, ones, ones, 1e-3)
    got = normalization.batch_normalization(*map(gpu.array, (x, ones, ones)), 1e-3)
    for actual, desired in zip(nonempty(got), want, strict=True):
        np.testing.assert_allclose(actual.get(), desired, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows,classes", [(1, 1), (300, 10), (3, 1000), (17, 65)])
def test_losses_of_any_number_of_classes(gpu, rows, classes):
    rng = np.random.default_rng(3)
    x, t = 20 * rng.normal(size=(rows, classes)), rng.integers(0, classes, rows)
    gpu.compare(losses.softmax_with_loss, x, t)
    gpu.compare(losses.softmax_with_loss_backward, activations.softmax(x), t)


def test_infinite_scores(gpu):
    x = np.array([[1.0, -np.inf, 2.0], [3.0, 1.0, -np.inf]])
    gpu.compare(losses.softmax_with_loss, x, np.array([0, 0]))
    gpu.compare(losses.softmax_with_loss, x, np.array([1, 0]))


@pytest.mark.parametrize("counter,ratio", [(0, 0.5), (7, 0.1), (1 << 40, 0.9)])
def test_masks_are_those_of_the_cpu(gpu, counter, ratio):
    x = np.zeros((3, 1001), "float32")
    words = (0xFFFFFFFF, 2, 3, 4)
    mask = dropout.dropout_mask(gpu.array(x), ratio, words, counter)
    np.testing.assert_array_equal(mask.get(), dropout.dropout_mask(x, ratio, words, counter))
    assert gpu.launched() == {"dropout_mask"}


def test_a_value_at_the_threshold_is_kept(gpu):
    x, words = np.zeros(500, "float32"), (5, 6, 7, 8)
    ratio = float(random_bits(x, words, 3)[17]) / 2**24
    mask = dropout.dropout_mask(gpu.array(x), ratio, words, 3)
    assert mask.get()[17] and (mask.get() == dropout.dropout_mask(x, ratio, words, 3)).all()


@pytest.mark.parametrize("dtype", host_dtypes("float16", "bfloat16"))
def test_half_precision_is_rounded_to_nearest_and_ties_to_even(gpu, dtype):
    every = np.arange(1 << 16, dtype=np.uint16)
    exponent = {"float16": 0x7C00, "bfloat16": 0x7F80}[dtype]
    x = every[every & exponent != exponent].view(dtype)
    # the products have more bits than fit, ties among them, and some overflow
    for scale in (1.5, 1.0 + 2**-9, 3e-5):
        # a GPU flushes subnormals of float32 to zero
        x = x[np.abs(x.astype("float32") * np.float32(min(scale, 1))) >= np.finfo("float32").smallest_normal]
        got = dropout.dropout(gpu.array(x), gpu.array(np.ones(x.shape, bool)), scale).get()
        with np.errstate(over="ignore"):
            want = (x.astype("float32") * np.float32(scale)).astype(dtype)
        np.testing.assert_array_equal(got.view(np.uint16), want.view(np.uint16))


def test_mixed_dtypes_empty_arrays_and_integers_are_left_to_the_generic_op(gpu):
    ones = {dtype: gpu.array(np.ones((2, 3), dtype)) for dtype in ("float32", "float64", "int64")}
    empty = gpu.array(np.ones((0, 3), "float32"))
    assert activations.relu_backward(ones["float32"], ones["float64"]).get().sum() == 6
    assert activations.relu(empty).shape == (0, 3)
    assert activations.relu(ones["int64"]).get().sum() == 6
    assert not gpu.launches


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


def test_training_step_reads_nothing_back_and_is_that_of_numpy(backend, gpu):
    ours = trained(backend.use("float64"), gpu.cupy, 5, gpu.rules)
    theirs = trained(xpdl.backends.use("numpy", dtype="float64"), np, 5)
    for name, value in nonempty(theirs.params.items()):
        np.testing.assert_allclose(ours.params[name].get(), value, rtol=1e-9, atol=1e-12)
    for name, value in nonempty(theirs.buffers.items()):
        np.testing.assert_allclose(ours.buffers[name].get(), value, rtol=1e-9, atol=1e-12)


def test_every_kernel_is_found_by_the_tests():
    found = list(itertools.chain.from_iterable(map(names, sources.FILES)))
    assert len(found) == len(set(found)) == sum(sources.text(f"{f}.cu").count("__global__") for f in sources.FILES)
