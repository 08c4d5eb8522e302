"""Processor time of each algorithm of convolutions beside the one that would run without it: ``measure_algorithms.py``.

``XPDL_COMPILED=0`` measures NumPy's functions. The ratios are medians of alternating rounds on one thread, forward and
backward apart, and below 1 where the algorithm pays.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from xpdl import SGD, AdaDelta, AdaGrad, Adam, AdamW, Momentum, Nesterov, RMSprop
from xpdl.backends import dispatch, registry, use
from xpdl.backends.cpu.tuning import tuned
from xpdl.ops import convolution as ops

NEVER = 1 << 40

#: algorithm -> the thresholds by which it never runs, and images, channels, filters, side, (FH, FW) of some layers
COMPILED = {
    "im2col, image by image": (
        {"small_batch_compiled_images": 0},
        [(1, 16, 16, 28, (3, 3)), (1, 64, 64, 7, (3, 3)), (4, 16, 16, 28, (3, 3)), (7, 32, 32, 14, (3, 3))],
    ),
    "Winograd F(2x2, 3x3)": (
        {"winograd_2d_channels": NEVER, "winograd_1d_channels": NEVER},
        [(100, 16, 16, 28, (3, 3)), (100, 32, 32, 14, (3, 3)), (100, 64, 64, 7, (3, 3)), (8, 32, 32, 14, (3, 3))],
    ),
    "Winograd F(2, 3) along W": (
        {"winograd_1d_channels": NEVER},
        [(100, 32, 32, 16, (1, 3)), (100, 32, 32, 16, (2, 3)), (100, 32, 32, 16, (5, 3))],
    ),
    "im2col, row by row": (
        {"compiled_rows_fewest_images": NEVER},
        [(100, 1, 30, 28, (5, 5)), (100, 16, 32, 28, (5, 5)), (100, 32, 64, 16, (1, 1)), (8, 16, 32, 28, (5, 5))],
    ),
}
PURE = {
    "im2col, image by image": (
        {"small_batch_images": 0},
        [(1, 16, 16, 28, (3, 3)), (1, 64, 64, 7, (3, 3)), (3, 32, 32, 14, (3, 3))],
    ),
    "Winograd F(2, 3) along W": (
        {"winograd_1d_channels": NEVER},
        [
            (100, 16, 32, 14, (3, 3)),
            (100, 32, 32, 14, (3, 3)),
            (100, 64, 64, 7, (3, 3)),
            (100, 128, 128, 14, (3, 3)),
            (100, 32, 32, 16, (1, 3)),
            (100, 32, 32, 16, (2, 3)),
            (100, 32, 32, 16, (5, 3)),
        ],
    ),
}


def images(rng: np.random.Generator, n: int, c: int, h: int, w: int) -> Any:
    """Random images, innermost in memory from so many on as convolutions leave them that way."""
    x = rng.normal(size=(n, c, h, w)).astype(np.float32)
    return x if n < 4 else np.ascontiguousarray(x.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2)


def ratio(call: Callable[[], Any], without: Callable[[], AbstractContextManager[Any]], rounds: int) -> float:
    """Median of the processor time of `call` over that inside `without`."""
    with without():
        call()
    call()
    start = time.process_time()
    call()
    repeats = max(1, int(0.02 / max(time.process_time() - start, 1e-5)))

    def seconds() -> float:
        start = time.process_time()
        for _ in range(repeats):
            call()
        return time.process_time() - start

    ratios = []
    for _ in range(rounds):
        with without():
            slower = seconds()
        ratios.append(seconds() / slower)
    return statistics.median(ratios)


@contextlib.contextmanager
def generic_rules() -> Iterator[None]:
    """Inside, no kernel updates parameters."""
    (kernel,) = dispatch.kernels_for(np)["fused_update"]
    registry.withdraw("numpy", "fused_update")
    try:
        yield
    finally:
        registry.kernel("numpy", "fused_update")(kernel)


def rules(rounds: int) -> None:
    """Print the ratios of all optimizers for some numbers of parameters."""
    dispatch.kernels_for(np)  # registers them
    for rule in (SGD, Momentum, Nesterov, AdaGrad, RMSprop, AdaDelta, Adam, AdamW):
        for size in (1_000, 50_000, 500_000, 2_000_000):
            params, grads = {"W": np.ones(size, np.float32)}, {"W": np.full(size, 1e-3, np.float32)}
            optimizer: Any = rule()
            with registry.without("numba"):
                found = ratio(lambda o=optimizer, p=params, g=grads: o.update(p, g), generic_rules, rounds)
            print(f"{rule.__name__}, {size:,} parameters: {found:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rules", action="store_true", help="the rules of optimizers in place beside the generic ones")
    args = parser.parse_args()
    rounds = args.rounds
    if args.rules:
        rules(rounds)
        return
    rng = np.random.default_rng(0)
    for name, (never, layers) in (PURE if os.environ.get("XPDL_COMPILED") == "0" else COMPILED).items():
        print(name)
        without = functools.partial(tuned, **never)
        for n, c, f, side, size in layers:
            x, W = images(rng, n, c, side, side), rng.normal(size=(f, c, *size)).astype(np.float32)
            options = {"pad": (size[0] // 2, size[1] // 2)}
            y = ops.convolution(x, W, **options)
            dy = images(rng, *y.shape)
            forward = ratio(lambda x=x, W=W, o=options: ops.convolution(x, W, **o), without, rounds)
            backward = ratio(
                lambda dy=dy, x=x, W=W, o=options: ops.convolution_backward(dy, x, W, **o), without, rounds
            )
            print(
                f"  {n} x {c} x {side} x {side}, {f} filters {size[0]}x{size[1]}: {forward:.2f}, backward {backward:.2f}"
            )


if __name__ == "__main__":
    with use("numpy", threads=1):
        main()
