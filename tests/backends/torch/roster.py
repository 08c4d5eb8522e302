"""Every kernel for PyTorch's tensors with arguments for it: the rows that tests/backends/torch/test_roster.py drives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.backends.numpy import roster
from tests.backends.numpy.roster import Arguments, Make, drawn
from xpdl.backends import dispatch

#: ops whose kernels take more than arrays, and the tests that drive them
DRIVEN_ELSEWHERE = {"fused_update": "test_optimizers.py, by every rule of an optimizer"}
#: so few rows that a case takes a millisecond
ROWS_OF_A_BATCH = 7


def _pair(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    """Two arrays, the second of outputs of sigmoid and tanh."""
    dy, y = drawn(rng, dtype, (rows, 30), (rows, 30))
    return (dy, np.tanh(y)), {}


def _normalize_backward(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    dy, x, gamma, mean, var = drawn(rng, dtype, (rows, 6, 4, 3), (rows, 6, 4, 3), *[(6,)] * 3)
    return (dy, x, gamma, mean, abs(var), 1e-3), {}


def _overlapping(make: Make) -> Make:
    """The same with overlapping windows and a border; few values, so that there are equal ones."""

    def images(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
        (x, *_), options = make(rng, dtype, rows)
        return (np.round(x), (3, 2), (2, 1), (1, 1)), options

    return images


def _overlapping_backward(size: tuple[int, int]) -> Make:
    """The same, backward."""

    def images(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
        (x,) = drawn(rng, dtype, (rows, 5, 12, 10))
        x = np.round(x)
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(2, 3))[:, :, ::2, ::1]
        y = windows.max(axis=(4, 5))
        return (rng.normal(size=y.shape).astype(dtype), x, y, size, (2, 1), (1, 1)), {}

    return images


def _means_of_large_windows_backward(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return (*drawn(rng, dtype, (rows, 5, 3, 5), (rows, 5, 12, 10)), (9, 8), (2, 1), (1, 1)), {}


def _strided_convolution(make: Make) -> Make:
    """The same in two groups, with steps, distances between taps, and a border."""

    def grouped(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
        x, W, b, dy = drawn(rng, dtype, (rows, 4, 12, 11), (6, 2, 3, 2), (6,), (rows, 6, 5, 11))
        options = {"stride": (2, 1), "pad": (1, 1), "dilation": (2, 2), "groups": 2}
        return ((dy, x, W) if make is roster._convolution_backward else (x, W, b)), options

    return grouped


def _gelu_by_tanh(make: Make) -> Make:
    """The same with the approximation."""

    def approximate(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
        (*arrays, _), options = make(rng, dtype, rows)
        return (*arrays, "tanh"), options

    return approximate


def _gelu(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return (*drawn(rng, dtype, (rows, 30)), "none"), {}


def _attention(queries: int, causal: bool, masked: bool = True) -> Make:
    """Of 60 keys, of which some do not count; in the first row none does, and first queries of others see none."""

    def make(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
        q, k, v = drawn(rng, dtype, (rows, 2, queries, 8), *[(rows, 2, 60, 8)] * 2)
        mask = rng.random((rows, 60)) < 0.6
        mask[0], mask[1, :9] = False, False
        return (q, k, v, *([mask] if masked else [])), {"causal": causal}

    return make


def _attention_backward(make: Make) -> Make:
    """The same, backward."""

    def backward(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
        (q, k, v, *mask), options = make(rng, dtype, rows)
        dy, y = drawn(rng, dtype, q.shape, q.shape)
        log_sum = np.full((*q.shape[:3], 1), 5.0, np.promote_types(dtype, "float32"))
        return (dy, q, k, v, y, log_sum, *mask), options

    return backward


RECURRENT = [f"{op}{end}" for op in ("rnn", "lstm", "gru") for end in ("", "_backward")]


def _without_mask(make: Make) -> Make:
    """The same of a recurrent op, all steps of which count."""

    def every_step(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
        (*arrays, _), options = make(rng, dtype, rows)
        return tuple(arrays), options

    return every_step


_ATTENTION = {
    "": _attention(60, True),
    " to all": _attention(7, False),
    " of the last": _attention(1, True),
    " without a mask": _attention(60, True, masked=False),
}
MAKE: dict[str, Make] = {
    **{name: row.make for name, row in roster.ROWS.items() if " " not in name},
    "max_pooling_with_taps": roster._pooling,
    "normalize_backward": _normalize_backward,
    "sigmoid": roster._one,
    "sigmoid_backward": _pair,
    "tanh_backward": _pair,
    "softmax": roster._one,
    "log_softmax": roster._one,
}
#: ops without a kernel for tensors
for _name in ("global_norm_scale", "rms_normalization", "rms_normalization_backward", "rotary"):
    del MAKE[_name]
MAKE |= {
    **{f"attention{which}": make for which, make in _ATTENTION.items()},
    **{f"attention_backward{which}": _attention_backward(make) for which, make in _ATTENTION.items()},
    **{f"{name} of every step": _without_mask(roster.ROWS[name].make) for name in RECURRENT},
    "gelu by tanh": _gelu_by_tanh(_gelu),
    "gelu_backward by tanh": _gelu_by_tanh(roster._gelu_backward),
    "max_pooling overlapping": _overlapping(roster._pooling),
    "max_pooling_with_taps overlapping": _overlapping(roster._pooling),
    "max_pooling_backward overlapping": _overlapping_backward((3, 2)),
    "max_pooling_backward of large windows": _overlapping_backward((9, 8)),
    "average_pooling overlapping": _overlapping(roster._pooling),
    "average_pooling_backward of large windows": _means_of_large_windows_backward,
    "convolution grouped": _strided_convolution(roster._convolution),
    "convolution_backward grouped": _strided_convolution(roster._convolution_backward),
}


def _with(make: Make, **more: Any) -> Make:
    def made(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
        args, options = make(rng, dtype, rows)
        return args, {**options, **{name: f(rng, args) for name, f in more.items()}}

    return made


def _variants() -> dict[str, Make]:
    """Rows with an epilogue, and without what is not needed."""

    def relu(rng: Any, args: Any) -> Any:
        return "relu"

    def output(rng: Any, args: Any) -> Any:
        return np.maximum(rng.normal(size=args[0].shape), 0).astype(args[0].dtype)

    found: dict[str, Make] = {}
    for name, make in MAKE.items():
        takes = inspect.signature(dispatch._generics[roster.op_of(name)]).parameters
        if "activation" in takes:
            # max pooling has its own output among its arguments
            more = {"y": output} if takes.get("y") and takes["y"].kind is inspect.Parameter.KEYWORD_ONLY else {}
            found[f"{name} with relu"] = _with(make, activation=relu, **more)
        if "residual" in takes:
            found[f"{name} with residual"] = _with(make, activation=relu, residual=output)
        if "need_dx" in takes:
            found[f"{name} of parameters"] = _with(make, need_dx=lambda *_: False, need_db=lambda *_: False)
    return found


MAKE |= _variants()


def as_tensors(torch: Any, value: Any, change: Callable[[Any], Any] = lambda a: a) -> Any:
    """Nested arguments with tensors, each changed, for arrays."""
    if isinstance(value, (list, tuple)):
        return type(value)(as_tensors(torch, item, change) for item in value)
    if isinstance(value, dict):
        return {name: as_tensors(torch, item, change) for name, item in value.items()}
    return change(torch.from_numpy(value.copy())) if isinstance(value, np.ndarray) else value


def tensors(value: Any) -> Iterator[Any]:
    """All tensors in nested arguments, one after the other."""
    if isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors(item)
    elif hasattr(value, "requires_grad"):
        yield value
