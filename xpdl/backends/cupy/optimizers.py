"""Optimizer steps: one launch for many parameters, with clipping, decay and the limit of values in it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from xpdl.backends.cupy import capture
from xpdl.backends.cupy.launch import BLOCK, beside, by_value, computing_dtype, kernel, launch, named, ready, served
from xpdl.backends.dispatch import DECLINE
from xpdl.backends.namespaces import Array

#: rule -> its numbers in the order in which its kernel takes them, and how many arrays it remembers
RULES = {
    "sgd_step": (("lr",), 0),
    "momentum_step": (("lr", "momentum"), 1),
    "nesterov_step": (("lr", "momentum"), 1),
    "ada_grad_step": (("lr", "eps"), 1),
    "rmsprop_step": (("lr", "decay_rate", "eps"), 1),
    "ada_delta_step": (("lr", "rho", "eps"), 2),
    "adam_step": (("lr", "beta1", "beta2", "eps"), 2),
    "adam_w_step": (("keep", "lr", "beta1", "beta2", "eps"), 2),
}

# As in cuda/optimizers.cu; the table has to fit the 4 KB that a launch may bring with it.
TENSORS, CHUNK = 80, 1024
_POINTERS = ("p", "g", "first", "second")
_TABLE = np.dtype([(name, np.int64, TENSORS) for name in (*_POINTERS, "size", "blocks")])
_SHARED = np.dtype(
    [("scale", np.int64), ("only_if", np.int64), ("l1", np.float64), ("l2", np.float64), ("limit", np.float64)]
)
_NUMBER = np.dtype([("value", np.float64), ("at", np.int64)])
# numbers that may lie in device memory
_DEVICE_NUMBERS = ("lr", "keep")


@kernel("step_together")
def step_together(
    params: list[Array],
    grads: list[Array],
    memory: list[tuple[Array, ...]],
    step: Callable[..., tuple[Array, ...]],
    rule: Any,
) -> Iterable[tuple[Array, ...]]:
    """As `xpdl.optimizers.together.step_together`; results are written into `params` and `memory`."""
    dtype, kept = params[0].dtype, list(itertools.chain.from_iterable(memory))
    if (
        rule.name not in RULES
        or not served(*params)
        or not beside(params[0], *kept)
        or any(named(a.dtype) != computing_dtype(dtype) for a in kept)
        or not all(a.flags.c_contiguous for a in (*params, *kept))
        # of half precision a wider gradient would lose what the rule computes with
        or (dtype != computing_dtype(dtype) and any(g.dtype != dtype for g in grads))
    ):
        return DECLINE  # type: ignore[no-any-return]
    order, remembered = RULES[rule.name]
    numbers = {name: capture.number(name, v) if name in _DEVICE_NUMBERS else v for name, v in rule.numbers.items()}
    elsewhere = {name: value for name, value in numbers.items() if not isinstance(value, (int, float))}
    if (
        set(order) != set(numbers)
        or set(elsewhere) - set(_DEVICE_NUMBERS)
        or any(len(kept) != remembered for kept in memory)
    ):
        return DECLINE  # type: ignore[no-any-return]
    grads = [ready(g if g.dtype == dtype else g.astype(dtype)) for g in grads]
    scale = None if isinstance(rule.scale, (int, float)) else rule.scale
    if scale is not None and scale.dtype != computing_dtype(dtype):
        scale = scale.astype(computing_dtype(dtype))
    shared = np.zeros(1, _SHARED)
    shared["scale"] = 0 if scale is None else scale.data.ptr
    shared["l1"], shared["l2"], shared["limit"] = rule.l1, rule.l2, rule.max_norm or 0.0
    shared["only_if"] = 0 if rule.only_if is None else rule.only_if.data.ptr
    # held until the launch
    elsewhere = {name: value.astype("float64", copy=False) for name, value in elsewhere.items()}
    values = tuple(_number(name, numbers[name], elsewhere.get(name)) for name in order)
    for start in range(0, len(params), TENSORS):
        part = slice(start, start + TENSORS)
        table, blocks = _table(params[part], grads[part], memory[part])
        largest = int(table["size"].max())
        args = by_value(table), by_value(shared), *values
        launch("optimizers", rule.name, named(dtype), (blocks,), (BLOCK,), args, largest)
    return [(p, *kept) for p, kept in zip(params, memory, strict=True)]


@kernel("flush_denormals")
def flush_denormals(x: Array) -> Array:
    """As `xpdl.optimizers.together.flush_denormals`: `x` itself.

    CuPy compiles with ``-ftz=true``, which reads and writes float32 subnormals as 0; GPUs compute with those of float64 at
    full speed.
    """
    return x


def _number(name: str, value: Any, at: Array | None) -> Any:
    if name not in _DEVICE_NUMBERS:
        return float(value)
    number = np.zeros(1, _NUMBER)
    number["value"], number["at"] = (value, 0) if at is None else (0.0, at.data.ptr)
    return by_value(number)


def _table(params: list[Array], grads: list[Array], memory: list[tuple[Array, ...]]) -> tuple[Any, int]:
    """Addresses and sizes, by value for the kernel, and the number of blocks."""
    table = np.zeros(1, _TABLE)
    sizes = [p.size for p in params]
    blocks = list(itertools.accumulate(-(-size // CHUNK) for size in sizes))
    count = len(params)
    # what is not remembered stays a null pointer
    for name, arrays in zip(_POINTERS, (params, grads, *zip(*memory, strict=True)), strict=False):
        table[name][0, :count] = [a.data.ptr for a in arrays]
    table["size"][0, :count], table["blocks"][0, :count] = sizes, blocks
    return table, blocks[-1]
