"""Mixed precision: one launch for many arrays, to half precision or back, and one for the scale of the loss."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from xpdl.backends.cupy import capture, cudnn
from xpdl.backends.cupy.launch import (
    BLOCK,
    by_value,
    contiguous,
    cupy,
    dtype_name,
    empty,
    kernel,
    launch,
    same_device,
    supports,
)
from xpdl.backends.cupy.layout import empty_images, is_channels_last, prefers_channels_last
from xpdl.backends.cupy.sources import TYPES
from xpdl.backends.dtypes import dtype_by_name
from xpdl.backends.namespaces import Array
from xpdl.backends.registry import DECLINE

# As in cuda/loss_scaling.cu.
TENSORS, CHUNK = 48, 1024
_TABLE = np.dtype([(name, np.int64, TENSORS) for name in ("from", "to", "size", "blocks", "rows", "columns")])

# Dtypes that kernels compute in, by name.
_COMPUTED = {"float": "float32", "double": "float64"}


@kernel("cast_all")
def cast_all(arrays: list[Array], dtype: str) -> list[Array]:
    """As `xpdl.training.precision.loss_scale.cast_all`; filters come as convolutions in `dtype` take them."""
    if not supports(*arrays) or dtype_name(arrays[0].dtype) != _computed(dtype):
        return DECLINE
    last = prefers_channels_last(dtype) and cudnn.problem() is None
    made = [empty_images(a.shape, dtype_by_name(dtype, cupy()), last and a.ndim == 4) for a in arrays]
    _launch_all("cast_all", dtype, arrays, made)
    return made


@kernel("unscale")
def unscale(grads: list[Array], scale: Array | None, dtype: str) -> list[Array]:
    """As `xpdl.training.precision.loss_scale.unscale`; results lie in the order of their axes."""
    stored = dtype_name(grads[0].dtype)
    if not supports(*grads) or _computed(stored) != dtype or not (scale is None or dtype_name(scale.dtype) == dtype):
        return DECLINE
    made = [empty(g.shape, dtype_by_name(dtype, cupy())) for g in grads]
    _launch_all("unscale", stored, grads, made, 0 if scale is None else scale)
    return made


@kernel("all_finite")
def all_finite(arrays: list[Array]) -> Array:
    """As `xpdl.training.precision.loss_scale.all_finite`."""
    if not supports(*arrays):
        return DECLINE
    finite = cupy().ones((), dtype=bool)
    _launch_all("all_finite", dtype_name(arrays[0].dtype), arrays, None, finite)
    return finite


@kernel("update_loss_scale")
def update_loss_scale(state: Array, finite: Array, growth_interval: int, most: float) -> Array:
    """As `xpdl.training.precision.loss_scale.update_loss_scale`."""
    dtype = dtype_name(state.dtype)
    if not supports(state) or _computed(dtype) != dtype or not same_device(state, finite):
        return DECLINE
    after = empty(state.shape, state.dtype)
    launch(
        "loss_scaling", "update_loss_scale", dtype, (1,), (1,), (state, finite, float(growth_interval), most, after), 1
    )
    return after


@kernel("corrected_rate")
def corrected_rate(skipped_steps: Array, updates: int, *, lr: float, beta1: float, beta2: float) -> Array:
    """As `xpdl.optimizers.adam.corrected_rate`, computed in float64."""
    dtype = dtype_name(skipped_steps.dtype)
    if not supports(skipped_steps) or _computed(dtype) != dtype:
        return DECLINE
    numbers = {"rate": float(lr), "updates": float(updates)}
    given = (*numbers.values(), 0, 0)
    if capture.is_recording():
        given = (0.0, 0.0, *(capture.number(name, value) for name, value in numbers.items()))
    corrected = empty((), skipped_steps.dtype)
    launch("loss_scaling", "corrected_rate", dtype, (1,), (1,), (skipped_steps, *given, beta1, beta2, corrected), 1)
    return corrected


def _computed(dtype: str) -> str:
    """The dtype that kernels for `dtype` compute with; empty where there are none."""
    return _COMPUTED[TYPES[dtype][1]] if dtype in TYPES else ""


def _launch_all(name: str, dtype: str, arrays: list[Array], made: list[Array] | None, *args: Any) -> None:
    """Launch a kernel over all values of `arrays`, each in the order of axes or channels-last, as those `made` may be."""
    arrays = [a if is_channels_last(a) else contiguous(a) for a in arrays]  # held until the launch
    for start in range(0, len(arrays), TENSORS):
        part = arrays[start : start + TENSORS]
        table, count = np.zeros(1, _TABLE), len(part)
        blocks = list(itertools.accumulate(-(-a.size // CHUNK) for a in part))
        table["from"][0, :count] = [a.data.ptr for a in part]
        if made is not None:
            results = made[start : start + TENSORS]
            table["to"][0, :count] = [a.data.ptr for a in results]
            table["rows"][0, :count], table["columns"][0, :count] = zip(
                *map(_transposition, part, results), strict=True
            )
        table["size"][0, :count], table["blocks"][0, :count] = [a.size for a in part], blocks
        launch("loss_scaling", name, dtype, (blocks[-1],), (BLOCK,), (by_value(table), *args), int(table["size"].max()))


def _transposition(a: Array, result: Array) -> tuple[int, int]:
    """The matrices (rows, columns) in memory of `result` that are transposed in `a`; zeros where both lie in one order."""
    last = is_channels_last(result)
    if is_channels_last(a) == last:
        return 0, 0
    _, channels, height, width = a.shape
    return (height * width, channels) if last else (channels, height * width)
