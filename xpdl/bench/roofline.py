"""Bytes and FLOP of every kernel that a training step launches, so that what is left to gain is visible on paper.

A kernel without its row in `KERNELS` is an error; `tests/bench/test_roofline.py` compares the table with the CUDA sources.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

from xpdl.backends.cupy.trace import Call, Size
from xpdl.bench.device_rates import Rates
from xpdl.bench.step_cost import Cost


def _arrays_once(args: Any, itemsize: int) -> float:
    """Bytes of all arrays: each is read once, or written once."""
    return float(sum(value.nbytes for value in vars(args).values() if isinstance(value, Size)))


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Cost of a launch, by its arguments as `xpdl.backends.cupy.trace.Call` has them.

    Attributes
    ----------
    flop : function of args
        An addition, a multiplication, a comparison and a function such as exp count 1 each, as in `xpdl.models.flops`.
    bytes : function of args and the bytes of a value
        That go to or from memory at least once; what a cache serves again is not counted.
    """

    flop: Callable[[Any], float]
    bytes: Callable[[Any, int], float] = _arrays_once


def _per_thread(flop: float) -> Kernel:
    """A kernel whose threads share `n` values."""
    return Kernel(lambda a: flop * a.n)


def _per_value(flop: float) -> Kernel:
    """A kernel over the values of its largest array."""
    return Kernel(lambda a: flop * max(value.size for value in vars(a).values() if isinstance(value, Size)))


def _per_tap(array: str) -> Kernel:
    """A kernel that looks at each tap of the window of each value of `array`."""
    return Kernel(lambda a: getattr(a, array).size * a.s.KH * a.s.KW)


def _update(flop: float) -> Kernel:
    """An optimizer's rule: parameters and state are read and written, gradients are read."""

    def moved(a: Any, itemsize: int) -> float:
        table = a.table
        states = [(first != 0) + (second != 0) for first, second in zip(table.first, table.second, strict=True)]
        return float(itemsize * sum(size * (3 + 2 * count) for size, count in zip(table.size, states, strict=True)))

    return Kernel(lambda a: flop * sum(a.table.size), moved)


def _converted(flop: float, read: bool, written: bool) -> Kernel:
    """A kernel over many arrays: `read` and `written` say whether in the dtype computed with, of 4 bytes, or stored."""

    def moved(a: Any, itemsize: int) -> float:
        into = (max(4, itemsize) if written else itemsize) if any(a.table.to) else 0
        return float(sum(a.table.size) * ((max(4, itemsize) if read else itemsize) + into))

    return Kernel(lambda a: flop * sum(a.table.size), moved)


def _step(flop: float, values: int) -> Kernel:
    """A kernel of a recurrent layer's step: `values` are read or written for each unit; those of other steps are not."""
    return Kernel(lambda a: flop * a.n, lambda a, itemsize: float(values * itemsize * a.n))


def _tiled_flop(a: Any) -> float:
    matrices = a.c.size // (a.s.M * a.s.N)
    return float(2 * a.s.M * a.s.N * a.s.K * matrices)


def _tiled_bytes(a: Any, itemsize: int) -> float:
    """The partial sums replace the result where K is split."""
    return float(a.a.nbytes + a.b.nbytes + (a.sums or a.c).nbytes)


def _moved(a: Any, itemsize: int) -> float:
    """Values as stored, and in the dtype that is computed with."""
    return float((itemsize + max(4, itemsize)) * a.rows * a.size * sum(a.s.steps))


#: name in xpdl/backends/cupy/cuda/*.cu -> cost of a launch
KERNELS: dict[str, Kernel] = {
    # capture.cu
    "put": _per_thread(0),
    # elementwise.cu
    "add": _per_thread(1),
    "relu": _per_thread(1),
    "relu_backward": _per_thread(1),
    "sigmoid": _per_thread(4),
    "sigmoid_backward": _per_thread(3),
    "tanh_backward": _per_thread(3),
    "leaky_relu": _per_thread(2),
    "leaky_relu_backward": _per_thread(2),
    "elu": _per_thread(3),
    "elu_backward": _per_thread(3),
    "silu": _per_thread(5),
    "silu_backward": _per_thread(9),
    "softplus": _per_thread(4),
    "softplus_backward": _per_thread(3),
    "gelu": _per_thread(8),
    "gelu_backward": _per_thread(14),
    "add_bias": Kernel(lambda a: a.n, lambda a, itemsize: 2 * a.y.nbytes + a.b.nbytes),
    "dropout": _per_thread(1),
    "dropout_mask": _per_thread(0),
    # losses.cu
    "softmax_with_loss": Kernel(lambda a: 7 * a.x.size),
    "mean_loss": _per_value(1),
    "total_weight": _per_value(1),
    "softmax_with_loss_backward": Kernel(lambda a: 3 * a.y.size),
    # embedding.cu
    "embedding": Kernel(lambda a: 0, lambda a, itemsize: float(a.ids.nbytes + 2 * a.y.nbytes)),
    "sort_runs": Kernel(lambda a: 0),
    "merge_runs": Kernel(lambda a: 0),
    "segment_sums": Kernel(lambda a: a.dy.size),
    # layout.cu
    "transpose": Kernel(lambda a: 0),
    "join": Kernel(lambda a: 0, lambda a, itemsize: 2.0 * a.y.nbytes),
    "heads_apart": Kernel(lambda a: 0, _moved),
    "heads_beside": Kernel(lambda a: 0, _moved),
    # positional.cu
    "rotary": Kernel(lambda a: 26 * a.pairs),
    "sinusoidal_positions": _per_thread(21),
    # loss_scaling.cu
    "cast_all": _converted(0, read=True, written=False),
    "unscale": _converted(1, read=False, written=True),
    "all_finite": _converted(2, read=False, written=False),
    "update_loss_scale": Kernel(lambda a: 4),
    "corrected_rate": Kernel(lambda a: 8),
    # normalization.cu
    "channel_sums": Kernel(lambda a: a.x.size),
    "channel_totals": Kernel(lambda a: a.sums.size),
    "channel_moments": Kernel(lambda a: 4 * a.x.size),
    "batch_normalization": Kernel(lambda a: (4 + bool(a.relu) + bool(a.residual)) * a.x.size),
    "normalize": Kernel(lambda a: (4 + bool(a.relu) + bool(a.residual)) * a.x.size),
    "channel_products": Kernel(lambda a: 5 * a.x.size),
    "batch_normalization_backward": Kernel(lambda a: 6 * a.x.size),
    # normalization_rows.cu
    "channel_sums_of_rows": Kernel(lambda a: a.x.size),
    "channel_moments_of_rows": Kernel(lambda a: 4 * a.x.size),
    "batch_normalization_of_rows": Kernel(lambda a: (4 + bool(a.relu) + bool(a.residual)) * a.x.size),
    "normalize_of_rows": Kernel(lambda a: (4 + bool(a.relu) + bool(a.residual)) * a.x.size),
    "channel_products_of_rows": Kernel(lambda a: 5 * a.x.size),
    "batch_normalization_backward_of_rows": Kernel(lambda a: 6 * a.x.size),
    # row_normalization.cu
    "row_normalization": Kernel(lambda a: (8 if a.mean else 5) * a.x.size),
    "row_normalization_backward": Kernel(lambda a: 10 * a.x.size),
    "row_products": Kernel(lambda a: 5 * a.x.size),
    "plane_products": Kernel(lambda a: 5 * a.x.size),
    # softmax.cu
    "softmax": Kernel(lambda a: 5 * a.x.size),
    "softmax_backward": Kernel(lambda a: (6 if a.log_sum else 5) * a.y.size),
    # optimizers.cu
    "sgd_step": _update(2),
    "momentum_step": _update(4),
    "nesterov_step": _update(7),
    "ada_grad_step": _update(7),
    "rmsprop_step": _update(9),
    "ada_delta_step": _update(16),
    "adam_step": _update(12),
    "adam_w_step": _update(13),
    # pooling.cu
    "max_pooling": _per_tap("y"),
    "max_pooling_backward": _per_tap("y"),
    "gradient_to_taps": _per_tap("dy"),
    "average_pooling": _per_tap("y"),
    "average_pooling_backward": _per_tap("dy"),
    # pooling_channels_last.cu
    "max_pooling_channels_last": _per_tap("y"),
    "gradient_to_taps_channels_last": _per_tap("dy"),
    "average_pooling_channels_last": _per_tap("y"),
    "average_pooling_backward_channels_last": _per_tap("dy"),
    # products.cu
    "matmul": Kernel(_tiled_flop, _tiled_bytes),
    "add_parts": Kernel(lambda a: a.sums.size),
    # recurrent.cu
    "rnn_step": _step(3, 3),
    "rnn_step_backward": _step(5, 4),
    "lstm_step": _step(25, 15),
    "lstm_step_backward": _step(29, 15),
    "gru_step": _step(19, 12),
    "gru_step_backward": _step(21, 16),
    # windows.cu
    "im2col": Kernel(lambda a: 0),
    "im2col_rows": _per_thread(0),
    "col2im": Kernel(lambda a: a.col.size),
    "images_of_rows": Kernel(lambda a: a.n if a.b else 0),
    "rows_of_images": _per_thread(0),
}

_ITEMSIZES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


def call_cost(call: Call) -> Cost:
    """Cost of a launch of a kernel of ours, a product by cuBLAS, or a convolution by cuDNN."""
    args, itemsize = call.args, _ITEMSIZES[call.dtype]
    if call.library == "cublas":
        *stack, m, k = args.a
        n, matrices = args.b[-1], math.prod(stack)
        return Cost(2.0 * matrices * m * n * k, float(itemsize * matrices * (m * k + k * n + m * n)))
    if call.library == "cudnn":
        values = math.prod(args.x) + math.prod(args.w) + math.prod(args.y) + args.bias * args.w[0]
        return Cost(2.0 * math.prod(args.y) * math.prod(args.w[1:]), float(itemsize * values))
    kernel = KERNELS[call.name]
    return Cost(float(kernel.flop(args)), float(kernel.bytes(args, itemsize)))


@dataclasses.dataclass(frozen=True)
class Total:
    """All launches of a kernel in a step, or all calls of a library function, and what they cost together."""

    library: str
    name: str
    calls: int
    cost: Cost

    def seconds(self, rates: Rates, fp32_rates: Rates) -> float:
        """At the roofline: that of `rates` for cuBLAS and cuDNN; our own kernels do without tensor cores."""
        return self.cost.seconds(fp32_rates if self.library == "xpdl" else rates)


def totals(calls: Iterable[Call]) -> list[Total]:
    """Sum up the calls of a step (see `xpdl.backends.cupy.trace.traced`) by library and name."""
    found: dict[tuple[str, str], Total] = {}
    for call in calls:
        key = (call.library, call.name)
        before = found.get(key, Total(*key, 0, Cost(0.0, 0.0)))
        found[key] = Total(*key, before.calls + 1, before.cost + call_cost(call))
    return list(found.values())


def table(rows: Iterable[Total], least: Cost, rates: Rates, fp32_rates: Rates) -> str:
    """One line per kernel in Markdown, the longest first, their sum, and the least that the layers of the net need."""
    timed = sorted(((row.seconds(rates, fp32_rates), row) for row in rows), key=lambda pair: -pair[0])
    cost, seconds = sum((row.cost for _, row in timed), Cost(0.0, 0.0)), sum(own for own, _ in timed)
    timed.append((seconds, Total("", "all", sum(row.calls for _, row in timed), cost)))
    lines = ["| kernel | calls | MB | MFLOP | us at the roofline | share |", "|---|---:|---:|---:|---:|---:|"]
    for own, row in timed:
        share = own / seconds if seconds else 0.0
        lines.append(
            f"| {row.library} {row.name} | {row.calls} | {amounts(row.cost)} | {1e6 * own:.1f} | {share:.0%} |"
        )
    lines.append(f"| least by layers | | {amounts(least)} | {1e6 * least.seconds(rates):.1f} | |")
    return "\n".join(lines)


def transposes(calls: Iterable[Call]) -> str:
    """Say what bringing arrays to channels-last and back costs, by kernels of ours and within plans of cuDNN."""
    own = plans = 0.0
    for call in calls:
        if call.library == "xpdl" and call.name == "transpose":
            own += call_cost(call).bytes
        elif call.library == "cudnn" and call.args.transposes:
            # each image is read and written once more
            plans += 2.0 * _ITEMSIZES[call.dtype] * (math.prod(call.args.x) + math.prod(call.args.y))
    return f"Transposes: {own / 1e6:.2f} MB by kernels, {plans / 1e6:.2f} MB of images in plans of cuDNN."


def amounts(cost: Cost) -> str:
    """The cells of megabytes and MFLOP."""
    return f"{cost.bytes / 1e6:.2f} | {cost.flop / 1e6:.2f}"
