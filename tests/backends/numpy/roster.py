"""Every kernel for NumPy's arrays with arguments for it: the rows that tests/backends/numpy/test_roster.py drives."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

import xpdl.layers
import xpdl.optimizers  # noqa: F401 its steps are ops, too
from xpdl.backends import dispatch
from xpdl.backends.namespaces import array_namespace

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Make = Callable[[np.random.Generator, str, int], Arguments]

# Ops whose kernels take more than arrays, and the tests that drive them.
DRIVEN_ELSEWHERE = {"fused_update": "test_optimizers.py, by every rule of an optimizer"}


@dataclasses.dataclass(frozen=True)
class Row:
    """Arguments of one op.

    Attributes
    ----------
    make : function
        Of a generator, a dtype and a number of rows: arguments that a kernel serves.
    rows : int
        So many that threads share the work.
    declined : tuple of functions
        Each makes arguments that are left to the generic op from those of `make`.
    in_place : bool
        The op writes into its first argument.
    compiled : bool
        Kernels answer with compiled code alone.
    """

    make: Make
    rows: int
    declined: tuple[Callable[[Arguments], Arguments], ...] = ()
    in_place: bool = False
    compiled: bool = False


def integers(arguments: Arguments) -> Arguments:
    args, options = arguments
    return tuple(a.astype(int) if is_floating(a) else a for a in args), options


def no_rows(arguments: Arguments) -> Arguments:
    args, options = arguments
    count = args[0].shape[0]
    return tuple(a[:0] if isinstance(a, np.ndarray) and a.shape[0] == count else a for a in args), options


def of_two_dtypes(arguments: Arguments) -> Arguments:
    args, options = arguments
    return (args[0].astype("float16"), *args[1:]), options


def every_second_column(arguments: Arguments) -> Arguments:
    args, options = arguments
    return tuple(a[:, ::2] if isinstance(a, np.ndarray) else a for a in args), options


def is_floating(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def drawn(rng: np.random.Generator, dtype: str, *shapes: tuple[int, ...]) -> list[Any]:
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def _two(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return tuple(drawn(rng, dtype, (rows, 700), (rows, 700))), {}


def _one(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return tuple(drawn(rng, dtype, (rows, 700))), {}


def _dropout(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return (*drawn(rng, dtype, (rows, 700)), rng.random((rows, 700)) < 0.5, 2.0), {}


def _dropout_mask(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return (*drawn(rng, dtype, (rows, 700)), 0.5, (5, 6), 3), {}


def _affine(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return tuple(drawn(rng, dtype, (rows, 300), (300, 250), (250,))), {}


def _affine_backward(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return tuple(drawn(rng, dtype, (rows, 250), (rows, 300), (300, 250))), {}


def _convolution(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return tuple(drawn(rng, dtype, (rows, 5, 12, 11), (6, 5, 3, 3), (6,))), {"pad": (1, 1)}


def _convolution_backward(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return tuple(drawn(rng, dtype, (rows, 6, 12, 11), (rows, 5, 12, 11), (6, 5, 3, 3))), {"pad": (1, 1)}


def images_innermost(a: Any) -> Any:
    return np.ascontiguousarray(a.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2)


def _pooling(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return (*map(images_innermost, drawn(rng, dtype, (rows, 5, 12, 10))), (2, 2), (2, 2)), {}


def _max_pooling_backward(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    x, dy = drawn(rng, dtype, (rows, 5, 12, 10), (rows, 5, 6, 5))
    y = x.reshape(rows, 5, 6, 2, 5, 2).max(axis=(3, 5))
    return (*map(images_innermost, (dy, x, y)), (2, 2), (2, 2)), {}


def _average_pooling_backward(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return (*map(images_innermost, drawn(rng, dtype, (rows, 5, 6, 5), (rows, 5, 12, 10))), (2, 2), (2, 2)), {}


def _batch_normalization(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return (*drawn(rng, dtype, (rows, 6, 12, 10), (6,), (6,)), 1e-3), {}


def _batch_normalization_backward(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    dy, x, gamma = drawn(rng, dtype, (rows, 6, 12, 10), (rows, 6, 12, 10), (6,))
    return (dy, x, gamma, x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3)), 1e-3), {}


def _normalize(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    x, gamma, beta, mean, var = drawn(rng, dtype, (rows, 6, 12, 10), *[(6,)] * 4)
    return (x, gamma, beta, mean, abs(var), 1e-3), {}


def _scores(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return (*drawn(rng, dtype, (rows, 40)), rng.integers(0, 40, rows)), {}


def _denormals(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    (x,) = drawn(rng, dtype, (rows * 700,))
    x[::3] = np.finfo(dtype).smallest_subnormal
    return (x,), {}


def _gradients(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return (drawn(rng, dtype, (rows, 700), (40,)), 1.5), {}


def _without_size(arguments: Arguments) -> Arguments:
    (grads, limit), options = arguments
    return ([0 * a for a in grads], limit), options


def _recurrent(gates: int, states: int, saved: tuple[int, ...] = (), biases: tuple[int, ...] = ()) -> Make:
    """Of a recurrent op, which saves arrays of so many units each; those of backward, where that is what is saved."""

    def make(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
        steps, features, units = 3, 20, 120
        shapes = [(rows, steps, features), *[(rows, units)] * states, (features, gates * units), (units, gates * units)]
        arrays = drawn(rng, dtype, *shapes, *[(count * units,) for count in biases])
        results = [np.tanh(a) for a in drawn(rng, dtype, *[(rows, steps, count * units) for count in saved])]
        dy = drawn(rng, dtype, (rows, steps, units)) if saved else []
        return (
            *dy,
            *(0.1 * a if a.shape[0] == units else a for a in arrays),
            *results,
            rng.random((rows, steps)) < 0.8,
        ), {}

    return make


def _gelu_backward(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return (*drawn(rng, dtype, (rows, 700), (rows, 700)), "none"), {}


def _layer_normalization(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return (*drawn(rng, dtype, (rows, 5, 140), (140,), (140,)), 1e-3), {}


def _layer_normalization_backward(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    dy, x, gamma, mean, std = drawn(rng, dtype, (rows, 5, 140), (rows, 5, 140), (140,), *[(rows, 5, 1)] * 2)
    return (dy, x, gamma, mean, 1.0 + abs(std)), {}


def _rms_normalization(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return (*drawn(rng, dtype, (rows, 5, 140), (140,)), 1e-3), {}


def _rms_normalization_backward(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    (dy, x, gamma, _, rms), options = _layer_normalization_backward(rng, dtype, rows)
    return (dy, x, gamma, rms), options


def _embedding_backward(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return (*drawn(rng, dtype, (rows, 5, 30)), rng.integers(0, 40, (rows, 5)), 50), {}


def _rotary(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    return drawn(rng, dtype, (rows, 2, 70, 8)), {"base": 100.0, "first": 3, "inverse": True}


def _attention(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    q, k, v = drawn(rng, dtype, (rows, 2, 70, 8), *[(rows, 2, 90, 8)] * 2)
    return (q, k, v, rng.random((rows, 90)) < 0.7), {"causal": True}


def _attention_backward(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
    (q, k, v, mask), options = _attention(rng, dtype, rows)
    dy, y = drawn(rng, dtype, q.shape, q.shape)
    log_sum = np.full((*q.shape[:3], 1), 5.0, np.promote_types(dtype, "float32"))
    return (dy, q, k, v, y, log_sum, mask), options


ROWS = {
    "relu": Row(_one, 400, (integers, every_second_column)),
    "relu_backward": Row(_two, 400, (integers, every_second_column)),
    "add": Row(_two, 400, (integers, every_second_column)),
    "dropout": Row(_dropout, 400, (integers, every_second_column)),
    "dropout_mask": Row(_dropout_mask, 400),
    "affine": Row(_affine, 400, (integers, no_rows)),
    "affine_backward": Row(_affine_backward, 400, (integers, no_rows)),
    "convolution": Row(_convolution, 300, (integers, no_rows, of_two_dtypes)),
    "convolution_backward": Row(_convolution_backward, 300, (integers, no_rows, of_two_dtypes)),
    "max_pooling": Row(_pooling, 600, (integers,)),
    "max_pooling_backward": Row(_max_pooling_backward, 600, (integers,)),
    "average_pooling": Row(_pooling, 600, (integers,), compiled=True),
    "average_pooling_backward": Row(_average_pooling_backward, 600, (integers,), compiled=True),
    "batch_normalization": Row(_batch_normalization, 600, (integers,)),
    "batch_normalization_backward": Row(_batch_normalization_backward, 600, (integers,)),
    "normalize": Row(_normalize, 600, (integers,)),
    "softmax_with_loss": Row(_scores, 3000, (integers, no_rows)),
    "softmax_with_loss_backward": Row(_scores, 3000, (integers, no_rows)),
    "gelu": Row(_one, 800, (integers, every_second_column)),
    "gelu_backward": Row(_gelu_backward, 800, (integers, every_second_column)),
    "layer_normalization": Row(_layer_normalization, 800, (integers, no_rows, of_two_dtypes)),
    "layer_normalization_backward": Row(_layer_normalization_backward, 800, (integers, no_rows, of_two_dtypes)),
    "rms_normalization": Row(_rms_normalization, 800, (integers, no_rows, of_two_dtypes)),
    "rms_normalization_backward": Row(_rms_normalization_backward, 800, (integers, no_rows, of_two_dtypes)),
    "embedding_backward": Row(_embedding_backward, 400, (integers, no_rows)),
    "rotary": Row(_rotary, 90, (integers, no_rows)),
    "attention": Row(_attention, 90, (integers, no_rows, of_two_dtypes)),
    "attention_backward": Row(_attention_backward, 90, (integers, no_rows, of_two_dtypes)),
    "rnn": Row(_recurrent(1, 1, biases=(1,)), 400, (integers, no_rows, of_two_dtypes)),
    "rnn_backward": Row(_recurrent(1, 1, saved=(1,)), 400, (integers, no_rows, of_two_dtypes)),
    "lstm": Row(_recurrent(4, 2, biases=(4,)), 400, (integers, no_rows, of_two_dtypes)),
    "lstm_backward": Row(_recurrent(4, 2, saved=(1, 1, 4)), 400, (integers, no_rows, of_two_dtypes)),
    "gru": Row(_recurrent(3, 1, biases=(3, 1)), 400, (integers, no_rows, of_two_dtypes)),
    "gru_backward": Row(_recurrent(3, 1, saved=(1, 4)), 400, (integers, no_rows, of_two_dtypes)),
    "flush_denormals": Row(_denormals, 1000, in_place=True),
    "global_norm_scale": Row(_gradients, 1000, (_without_size,)),
}


def _with(row: Row, *epilogues: str) -> Row:
    """The same of the op with ``activation="relu"`` ("relu"), or a residual beside its first array ("residual")."""

    def make(rng: np.random.Generator, dtype: str, rows: int) -> Arguments:
        args, options = row.make(rng, dtype, rows)
        residual = {"residual": rng.normal(size=args[0].shape).astype(dtype)} if "residual" in epilogues else {}
        relu = {"activation": "relu"} if "relu" in epilogues else {}
        return args, {**options, **residual, **relu}

    return dataclasses.replace(row, make=make)


def op_of(name: str) -> str:
    """The op of a row, whose name may say more."""
    return name.split(" ")[0]


def _epilogues(name: str) -> list[tuple[str, ...]]:
    """The epilogues that an op can be given."""
    takes = inspect.signature(dispatch._generics[name]).parameters
    if "activation" not in takes or name.endswith("backward"):
        return []
    return [("relu",), ("residual",), ("residual", "relu")] if "residual" in takes else [("relu",)]


ROWS |= {
    f"{name} with {' and '.join(epilogues)}": _with(row, *epilogues)
    for name, row in ROWS.items()
    for epilogues in _epilogues(name)
}


def kernels(name: str) -> tuple[Callable[..., Any], ...]:
    """The kernels of an op for NumPy's arrays, in the order in which they are tried."""
    return dispatch.kernels_for(array_namespace(np.empty(0))).get(op_of(name), ())


def registered() -> set[str]:
    """The ops that have a kernel for NumPy's arrays."""
    return {name for name, found in dispatch.kernels_for(array_namespace(np.empty(0))).items() if found}
