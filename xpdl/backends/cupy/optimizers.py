"""Optimizer steps: one launch for many parameters, with clipping, decay and the limit of values in it."""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from xpdl.backends.cupy import capture
from xpdl.backends.cupy.launch import (
    BLOCK,
    by_value,
    computing_dtype,
    dtype_name,
    kernel,
    launch,
    raw_bytes,
    same_device,
    supports,
)
from xpdl.backends.cupy.layout import in_layout
from xpdl.backends.namespaces import Array
from xpdl.backends.registry import DECLINE

#: rule -> its scalars in the order in which its kernel takes them, and its number of slot variables
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
# p, g, first, second, size, blocks
_TABLE_ROWS = 6
_SHARED = struct.Struct("qqddd")  # scale, apply_if, l1, l2, limit
_NUMBER = struct.Struct("dq")  # value, at
# scalars that may lie in device memory
_DEVICE_NUMBERS = ("lr", "keep")


@kernel("fused_update")
def fused_update(
    params: list[Array],
    grads: list[Array],
    state: list[tuple[Array, ...]],
    step: Callable[..., tuple[Array, ...]],
    spec: Any,
) -> Iterable[tuple[Array, ...]]:
    """As `xpdl.optimizers.fused_update.fused_update`; results are written into `params` and `state`."""
    scalars = _scalars(spec) if _served(params, grads, state, spec) else None
    if scalars is None:
        return DECLINE
    dtype, computed = params[0].dtype, computing_dtype(params[0].dtype)
    # held until the launch, as are the arrays of `scalars`
    grads = [in_layout(g if g.dtype == dtype else g.astype(dtype), False) for g in grads]
    scale = None if isinstance(spec.scale, (int, float)) else spec.scale
    if scale is not None and dtype_name(scale.dtype) != computed:
        scale = scale.astype(computed)
    shared = _packed(_SHARED, _address(scale), _address(spec.apply_if), spec.l1, spec.l2, spec.max_norm or 0.0)
    values = tuple(_passed(name, value) for name, value in scalars.items())
    for start in range(0, len(params), TENSORS):
        part = slice(start, start + TENSORS)
        table, blocks, largest = _table(params[part], grads[part], state[part])
        launch("optimizers", spec.name, dtype_name(dtype), (blocks,), (BLOCK,), (table, shared, *values), largest)
    return [(p, *kept) for p, kept in zip(params, state, strict=True)]


def _served(params: list[Array], grads: list[Array], state: list[tuple[Array, ...]], spec: Any) -> bool:
    """Return whether there is a kernel for the rule, and all arrays are as it takes them."""
    if spec.name not in RULES or any(len(kept) != RULES[spec.name][1] for kept in state):
        return False
    all_kept = list(itertools.chain.from_iterable(state))
    if not supports(*params) or not same_device(params[0], *all_kept):
        return False
    dtype, computed = params[0].dtype, computing_dtype(params[0].dtype)
    for a in all_kept:
        if dtype_name(a.dtype) != computed or not a.flags.c_contiguous:
            return False
    for p in params:
        if not p.flags.c_contiguous:
            return False
    # of half precision a wider gradient would lose what the rule computes with
    return dtype_name(dtype) == computed or all(g.dtype == dtype for g in grads)


def _scalars(spec: Any) -> dict[str, Any] | None:
    """The scalars of the rule in the order of its kernel, some as arrays (1,) in device memory; None for other ones."""
    order, _ = RULES[spec.name]
    if len(order) != len(spec.scalars) or not all(name in spec.scalars for name in order):
        return None
    scalars = {}
    for name in order:
        value = spec.scalars[name]
        if name in _DEVICE_NUMBERS:
            value = capture.number(name, value)
        elif not isinstance(value, (int, float)):
            return None
        scalars[name] = value if isinstance(value, (int, float)) else value.astype("float64", copy=False)
    return scalars


def _passed(name: str, value: Any) -> Any:
    if name not in _DEVICE_NUMBERS:
        return float(value)
    return _packed(_NUMBER, *((value, 0) if isinstance(value, (int, float)) else (0.0, _address(value))))


def _packed(form: struct.Struct, *values: Any) -> Any:
    """A structure, to pass by value."""
    return np.frombuffer(form.pack(*values), raw_bytes(form.size))


def _address(a: Array | None) -> int:
    return 0 if a is None else int(a.data.ptr)


def _table(params: list[Array], grads: list[Array], state: list[tuple[Array, ...]]) -> tuple[Any, int, int]:
    """Addresses and sizes, by value for the kernel, the number of blocks, and the largest size."""
    sizes = tuple([p.size for p in params])
    empty_table, blocks = _empty_table(sizes)
    table, count = empty_table.copy(), len(params)
    rows = [[a.data.ptr for a in arrays] for arrays in (params, grads, *zip(*state, strict=True))]
    table[: len(rows), :count] = rows  # slot variables that the rule lacks stay null pointers
    return by_value(table.reshape(-1)), blocks, max(sizes)


@functools.lru_cache(maxsize=256)
def _empty_table(sizes: tuple[int, ...]) -> tuple[np.ndarray[Any, Any], int]:
    """A table without addresses, and the number of blocks."""
    table = np.zeros((_TABLE_ROWS, TENSORS), np.int64)
    blocks = list(itertools.accumulate([-(-size // CHUNK) for size in sizes]))
    table[-2:, : len(sizes)] = sizes, blocks
    return table, blocks[-1]


@kernel("flush_denormals")
def flush_denormals(x: Array) -> Array:
    """As `xpdl.optimizers.fused_update.flush_denormals`: `x` itself.

    CuPy compiles with ``-ftz=true``, which reads and writes float32 subnormals as 0; GPUs compute with those of float64 at
    full speed.
    """
    return x
