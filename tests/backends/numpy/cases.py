"""Geometries, memory orders, dtypes and options in which test_roster.py compares kernels with the generic ops."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xpdl.backends import dispatch
from xpdl.backends.cpu.tuning import TUNING
from xpdl.ops import attention, convolution, normalization, pooling, recurrent, row_normalization

# an op, its arguments and options
Call = tuple[str, tuple[Any, ...], dict[str, Any]]

ORDERS: dict[str, Callable[[Any], Any]] = {
    "C": np.ascontiguousarray,
    "images innermost": lambda a: np.ascontiguousarray(a.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2),
    "channels last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "strided": lambda a: np.repeat(a, 2, axis=3)[..., ::2],
}
SEQUENCE_ORDERS: dict[str, Callable[[Any], Any]] = {
    "C": np.ascontiguousarray,
    "time-major": lambda a: np.ascontiguousarray(a.transpose(1, 0, 2)).transpose(1, 0, 2),
    "strided": lambda a: np.repeat(a, 2, axis=2)[..., ::2],
}
_NO_BIAS = {"need_db": False}
_NO_DATA = {"need_dx": False, "need_db": False}


@dataclasses.dataclass(frozen=True)
class Case:
    """Calls of ops that a kernel serves.

    Attributes
    ----------
    calls : function
        Makes the calls.
    rtol, atol : float
        `atol` is for values of size 1 and grows with the largest.
    exact : tuple of str
        Ops whose results are bitwise identical.
    compiled : tuple of str
        Ops that compiled code computes, where there is any.
    wide : bool
        The generic op computes in float64: it is less exact in float32 than the kernel.
    kernels : bool
        False where without compiled code the generic op answers.
    quick : bool
    """

    calls: Callable[[], Iterator[Call]]
    rtol: float
    atol: float
    exact: tuple[str, ...] = ()
    compiled: tuple[str, ...] = ()
    wide: bool = False
    kernels: bool = True
    quick: bool = True


def _affine(shape: tuple[int, ...], units: int, order: str, bias: bool) -> Iterator[Call]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    x = ORDERS[order](x) if x.ndim == 4 else x
    W, b, dy = (rng.normal(size=s) for s in ((np.prod(shape[1:]), units), (units,), (shape[0], units)))
    for activation in (None, "relu"):
        yield "affine", (x, W, b)[: 2 + bias], {"activation": activation}
    for needed in ({}, _NO_BIAS, _NO_DATA):
        yield "affine_backward", (dy, x, W), needed


_AFFINE = [
    ((3, 4), 2, "C"),
    ((1, 1), 1, "C"),
    ((1, 784), 50, "C"),
    ((1, 3, 5, 2), 6, "images innermost"),
    ((100, 784), 50, "C"),
    ((300, 900), 400, "C"),
    ((300, 400), 900, "C"),
    ((90, 700), 500, "C"),
    ((600, 700), 660, "C"),
    ((1200, 1000), 1000, "C"),
    ((900, 5, 9, 10), 60, "images innermost"),
    *(((4, 3, 5, 2), 6, order) for order in ORDERS),
    ((50, 8, 9, 10), 120, "images innermost"),
    ((5, 1, 1, 1), 3, "images innermost"),
    ((2, 3, 4), 2, "C"),
]


def geometry(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """A random configuration of a convolution whose filter fits: shapes of images and filters, and options."""
    size, stride, dilation = (tuple(int(v) for v in rng.integers(1, high, 2)) for high in (5, 4, 3))
    pad = tuple(int(v) for v in rng.integers(0, 4, 2))
    extent = [d * (k - 1) + 1 for d, k in zip(dilation, size, strict=True)]
    images = [max(1, e - 2 * p) + int(rng.integers(0, 6)) for e, p in zip(extent, pad, strict=True)]
    n, c, f, groups = (int(v) for v in rng.integers(1, (9, 5, 5, 5)))
    options = {"stride": stride, "pad": pad, "dilation": dilation, "groups": groups}
    return (n, c * groups, *images), (f * groups, c, *size), options


def _convolution(seed: int, order: str) -> Iterator[Call]:
    rng = np.random.default_rng(seed)
    x_shape, W_shape, options = geometry(rng)
    x, W, b = (rng.normal(size=shape) for shape in (x_shape, W_shape, W_shape[:1]))
    with dispatch.generic_only():
        dy = rng.normal(size=convolution.convolution(x, W, b, **options).shape)
    x, dy = ORDERS[order](x), ORDERS[order](dy)
    yield "convolution", (x, W, b), options
    for needed in ({}, _NO_BIAS, _NO_DATA):
        yield "convolution_backward", (dy, x, W), {**options, **needed}


def _dropout_mask(shape: tuple[int, ...], ratio: float) -> Iterator[Call]:
    yield "dropout_mask", (np.zeros(shape, np.float32), ratio, (5, 6), 3), {}


_TASK = TUNING.dropout_mask_task
_MASKS = [(), (0, 3), (1,), (7, 5), (_TASK,), (_TASK + 1,), (3, _TASK // 2 + 5)]


def _losses(shape: tuple[int, int], dtype: str, labels: str, order: str) -> Iterator[Call]:
    rng = np.random.default_rng(0)
    x = np.asarray(3 * rng.normal(size=shape), dtype, order="F" if order == "F" else "C")
    x = np.repeat(x, 2, axis=1)[:, ::2] if order == "strided" else x
    t = rng.integers(0, shape[1], shape[0]).astype(labels)
    yield "softmax_with_loss", (x, t), {}
    y = np.asarray(rng.random(shape), dtype)
    for dout in (1.0, -0.3):
        yield "softmax_with_loss_backward", (y, t, dout), {}


def normalized(shape: tuple[int, ...], dtype: str, order: str = "C") -> list[Any]:
    """Read-only: `dy`, `x`, gamma, beta, given mean and variance."""
    rng = np.random.default_rng(0)
    images = [rng.normal(size=shape), rng.normal(3.0, 2.0, shape)]
    channels = rng.normal(size=(4, shape[1]))
    channels[3] **= 2
    made = [ORDERS[order](a.astype(dtype)) if a.ndim == 4 else a.astype(dtype) for a in images]
    made += [a.astype(dtype) for a in channels]
    for array in made:
        array.flags.writeable = False
    return made


EPS = 1e-3


def _normalization(
    shape: tuple[int, ...], order: str, dtype: str, adds: bool, activation: str | None
) -> Iterator[Call]:
    dy, x, *channels = normalized(shape, dtype, order)
    gamma, beta = channels[:2]
    residual = np.ascontiguousarray(dy[::-1]) if adds else None
    epilogue = {"activation": activation, **({"residual": residual} if adds else {})}
    yield "batch_normalization", (x, gamma, beta, EPS), epilogue
    yield "normalize", (x, *channels, EPS), epilogue
    with dispatch.generic_only():
        y, *statistics = normalization.batch_normalization(x, gamma, beta, EPS, **epilogue)
    for other in ORDERS.values() if x.ndim == 4 else (np.ascontiguousarray,):
        through = {"y": other(y), "activation": activation}
        yield "batch_normalization_backward", (other(dy), x, gamma, *statistics, EPS), through


_NORMALIZATION = ("batch_normalization", "batch_normalization_backward", "normalize")
_IMAGES = [(1, 1, 1, 1), (1, 3, 2, 2), (4, 3, 5, 2), (7, 1, 3, 3), (60, 16, 28, 20), (700, 2, 3, 17)]
_ROWS = [(1, 1), (2, 5), (100, 37), (3, 1003), (1500, 300)]


def windows(seed: int) -> tuple[Any, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Images with many ties, a size, a stride and a border of pooling."""
    rng = np.random.default_rng(seed)
    size, stride = (tuple(int(v) for v in rng.integers(1, 4, 2)) for _ in range(2))
    pad = tuple(int(rng.integers(0, k)) for k in size)
    shape = (*rng.integers(1, 5, 2), *(k + int(rng.integers(0, 7)) for k in size))
    x = rng.integers(-2, 3, shape).astype(np.float32 if seed % 5 else np.float64)
    if seed % 3 == 0:
        # the border is -inf, too: of a window of nothing else the first may be either
        special = [np.nan, np.inf] if any(pad) else [np.nan, np.inf, -np.inf]
        x[rng.random(shape) < 0.2] = rng.choice(special)
    return x, size, stride, pad


def _max_pooling(seed: int, order: str, activation: str | None) -> Iterator[Call]:
    x, *geometry = windows(seed)
    x = ORDERS[order](x)
    with dispatch.generic_only():
        y = pooling.max_pooling(x, *geometry, activation=activation)
    yield "max_pooling", (x, *geometry), {"activation": activation}
    dy = ORDERS[order](np.random.default_rng(seed).normal(size=y.shape).astype(x.dtype))
    yield "max_pooling_backward", (dy, x, y, *geometry), {"activation": activation}


def _average_pooling(seed: int, order: str) -> Iterator[Call]:
    x, *geometry = windows(seed)
    x = ORDERS[order](x.astype(np.float32))
    with dispatch.generic_only():
        y = pooling.average_pooling(x, *geometry)
    yield "average_pooling", (x, *geometry), {}
    yield "average_pooling_backward", (np.random.default_rng(seed).normal(size=y.shape).astype("f"), x, *geometry), {}


def _recurrent(
    op: str, shape: tuple[int, int, int, int], order: str, masked: bool, dtype: str = "float64"
) -> Iterator[Call]:
    n, t, f, h = shape
    rng, gates, count = np.random.default_rng(0), {"rnn": 1, "lstm": 4, "gru": 3}[op], 2 if op == "lstm" else 1
    x, dy = (SEQUENCE_ORDERS[order](rng.normal(size=(n, t, size)).astype(dtype)) for size in (f, h))
    states = [rng.normal(size=(n, h)).astype(dtype) for _ in range(count)]
    Wx, Wh, b, bh = (
        rng.normal(size=size).astype(dtype) for size in ((f, gates * h), (h, gates * h), (gates * h,), (h,))
    )
    mask = (rng.random((n, t)) < 0.7,) if masked else ()
    given = (x, *states, Wx, Wh, b, *((bh,) if op == "gru" else ()), *mask)
    yield op, given, {}
    with dispatch.generic_only():
        results = getattr(recurrent, op)(*given)
    saved = results if isinstance(results, tuple) else (results,)
    for other in SEQUENCE_ORDERS.values():
        yield f"{op}_backward", (dy, x, *states, Wx, Wh, *map(other, saved), *mask), {}


def _gelu(dtype: str, approximate: str) -> Iterator[Call]:
    far = [-1e20, -40.0, -15.0]  # of those the output is 0, with which a tolerance does not grow
    for values in (far, np.negative(far), [0.0, -0.0, 1e-30, -1e-30], np.linspace(-14, 14, 9001)):
        x = np.array(values, dtype)
        yield "gelu", (x, approximate), {}
        yield "gelu_backward", (np.random.default_rng(0).normal(size=x.shape).astype(dtype), x, approximate), {}


def _row_normalization(shape: tuple[int, ...], dtype: str) -> Iterator[Call]:
    rng, width = np.random.default_rng(0), shape[-1:]
    x, dy, gamma, beta = (rng.normal(1.0, 2.0, size).astype(dtype) for size in (shape, shape, width, width))
    for op, given in (("layer_normalization", (x, gamma, beta)), ("rms_normalization", (x, gamma))):
        yield op, (*given, EPS), {}
        with dispatch.generic_only():
            _, *statistics = getattr(row_normalization, op)(*given, EPS)
        yield f"{op}_backward", (dy, x, gamma, *statistics), {}


def _embedding(ids: str, dtype: str) -> Iterator[Call]:
    rng = np.random.default_rng(0)
    dy = rng.normal(size=(7, 9, 5)).astype(dtype)
    # those that are no rows have no gradient
    yield "embedding_backward", (dy, rng.integers(0 if ids[0] == "u" else -3, 30, (7, 9)).astype(ids), 20), {}


_HEAD_ORDERS: dict[str, Callable[[Any], Any]] = {
    "C": np.ascontiguousarray,
    "heads last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3),
    "strided": lambda a: np.repeat(a, 2, axis=3)[..., ::2],
}


def _attention(shape: tuple[int, ...], order: str, masked: bool, options: dict[str, Any]) -> Iterator[Call]:
    n, h, t, s, d = shape
    rng = np.random.default_rng(0)
    q, k, v, dy = (_HEAD_ORDERS[order](rng.normal(size=(n, h, length, d))) for length in (t, s, s, t))
    # the first sequence sees no key
    mask = ((rng.random((n, s)) < 0.6) & (np.arange(n) > 0)[:, None],) if masked else ()
    yield "attention", (q, k, v, *mask), options
    with dispatch.generic_only():
        results = attention.attention(q, k, v, *mask, **options)
    yield "attention_backward", (dy, q, k, v, *results, *mask), options


_ROW_NORMALIZATION = tuple(f"{name}_normalization{end}" for name in ("layer", "rms") for end in ("", "_backward"))


def _of(function: Callable[..., Iterator[Call]], *args: Any) -> Callable[[], Iterator[Call]]:
    return lambda: function(*args)


CASES: dict[str, Case] = {
    **{
        f"affine {shape} {units} {order} {bias}": Case(
            _of(_affine, shape, units, order, bias), 1e-11, 1e-11, quick=bool(np.prod(shape) * units < 5e7)
        )
        for shape, units, order in _AFFINE
        for bias in (True, False)
    },
    **{
        f"convolution {seed} {order}": Case(_of(_convolution, seed, order), 1e-11, 1e-11)
        for seed in range(40)
        for order in ORDERS
    },
    **{
        f"dropout_mask {shape} {ratio}": Case(
            _of(_dropout_mask, shape, ratio), 0, 0, compiled=("dropout_mask",) if np.prod(shape) else ()
        )
        for shape in _MASKS
        for ratio in (0.0, 0.5, 0.9, 1 - 2**-30)
    },
    **{
        f"losses {shape} {dtype} {labels} {order}": Case(
            _of(_losses, shape, dtype, labels, order),
            tolerance,
            tolerance / 100,
            exact=("softmax_with_loss_backward",),
            kernels=order == "C" and dtype != "float16",
            compiled=("softmax_with_loss",) if dtype == "float32" and shape[1] > TUNING.loss_few_classes else (),
        )
        for shape in ((1, 1), (1, 5), (7, 3), (100, 10), (300, 70))
        for dtype, tolerance in (("float16", 4e-3), ("float32", 2e-6), ("float64", 1e-14))
        for labels in ("int64", "uint8", "int32")
        for order in ("C", "F", "strided")
    },
    **{
        f"gelu {dtype} {approximate}": Case(
            _of(_gelu, dtype, approximate),
            tolerance,
            tolerance,
            wide=True,
            compiled=("gelu", "gelu_backward") if dtype == "float32" else (),
            kernels=dtype == "float32",
        )
        for dtype, tolerance in (("float32", 2e-6), ("float64", 1e-12))
        for approximate in ("none", "tanh")
    },
    **{
        f"row normalization {shape} {dtype}": Case(
            _of(_row_normalization, shape, dtype), tolerance, tolerance, compiled=_ROW_NORMALIZATION
        )
        for shape in ((1, 1), (3, 4), (2, 3, 5), (2, 2, 1, 3), (300, 200), (2, 40000))
        for dtype, tolerance in (("float32", 2e-5), ("float64", 1e-12))
    },
    **{
        f"embedding {ids} {dtype}": Case(_of(_embedding, ids, dtype), tolerance, tolerance)
        for ids in ("int64", "int32", "uint8")
        for dtype, tolerance in (("float16", 2e-3), ("float32", 1e-6), ("float64", 1e-13))
    },
    **{
        f"attention {shape} {order} {options}{' masked' if masked else ''}": Case(
            _of(_attention, shape, order, masked, options), 1e-11, 1e-11
        )
        for shape in ((1, 1, 1, 1, 1), (2, 3, 5, 5, 4), (3, 2, 4, 7, 3), (2, 2, 9, 4, 2), (2, 3, 150, 160, 3))
        for order in _HEAD_ORDERS
        for options in ({}, {"causal": True}, {"causal": True, "block": 3})
        for masked in (False, True)
    },
    **{
        f"{op} {shape} {order}{' masked' if masked else ''}": Case(
            _of(_recurrent, op, shape, order, masked), 1e-10, 1e-10, quick=shape[0] < 300
        )
        for op in ("rnn", "lstm", "gru")
        for shape in ((1, 1, 1, 1), (2, 3, 5, 4), (5, 2, 1, 3), (7, 9, 3, 6), (300, 4, 8, 70))
        for order in SEQUENCE_ORDERS
        for masked in (False, True)
    },
    **{
        f"{op} {shape} {order} float32{' masked' if masked else ''}": Case(
            _of(_recurrent, op, shape, order, masked, "float32"),
            2e-5,
            2e-5,
            compiled=(op, f"{op}_backward"),
            quick=shape[0] < 300,
            wide=True,
        )
        for op in ("lstm", "gru")
        for shape in ((1, 1, 1, 1), (7, 9, 3, 6), (300, 4, 8, 70))
        for order in SEQUENCE_ORDERS
        for masked in (False, True)
    },
    **{
        f"normalization {shape} {order} {dtype} {adds} {activation}": Case(
            _of(_normalization, shape, order, dtype, adds, activation),
            tolerance,
            tolerance,
            compiled=_NORMALIZATION,
            wide=True,
            kernels=len(shape) == 4,
        )
        for shapes, orders, sums in ((_IMAGES, ("C", "images innermost"), (False, True)), (_ROWS, ("C",), (False,)))
        for shape in shapes
        for order in orders
        for dtype, tolerance in (("float64", 1e-11), ("float32", 2e-5))
        for adds in sums
        for activation in (None, "relu")
    },
    **{
        f"max_pooling {seed} {order} {activation}": Case(
            _of(_max_pooling, seed, order, activation),
            1e-6,
            1e-6,
            exact=("max_pooling",),
            compiled=("max_pooling", "max_pooling_backward") if order != "strided" else (),
        )
        for activation, seeds in ((None, 60), ("relu", 20))
        for seed in range(seeds)
        for order in ORDERS
    },
    **{
        f"average_pooling {seed} {order}": Case(
            _of(_average_pooling, seed, order),
            1e-6,
            1e-6,
            compiled=("average_pooling", "average_pooling_backward") if order != "strided" else (),
            kernels=False,
        )
        for seed in range(20)
        for order in ORDERS
    },
}

#: thresholds at which small arrays are worth compiled code
SMALL_IS_ENOUGH = {
    "compiled_rows_fewest_images": 1,
    "compiled_pooling_neighbours": 1,
    "compiled_pooling_neighbours_backward": 1,
    "recurrent_shared_products": 1,
    "recurrent_two_tasks": 2,
    "recurrent_four_tasks": 4,
}
