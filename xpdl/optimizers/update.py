"""Update all parameters of an optimizer: compute every group's step, then write."""

from __future__ import annotations

import functools
from collections.abc import MutableMapping
from typing import Any

from xpdl.backends.namespaces import Array, array_namespace, device, wide_dtype, widened, write
from xpdl.optimizers.clipping import global_norm_scale
from xpdl.optimizers.fused_update import UpdateSpec, flush_denormals, fused_update, regularized_step
from xpdl.optimizers.groups import groups_of

# Updates from one flush of denormals to the next: Adam's mean of gradients loses a factor of 800 meanwhile.
UPDATES_BETWEEN_FLUSHES = 64


def update_arrays(
    optimizer: Any,
    params: MutableMapping[str, Array],
    arrays: dict[str, Array],
    grads: dict[str, Array],
    state: dict[str, dict[str, Array]],
    apply_if: Array | None,
) -> None:
    """Change all parameters after the checks: compute first, then write."""
    if not arrays:
        return
    scale = None if optimizer.clip_norm is None else global_norm_scale(list(grads.values()), optimizer.clip_norm)
    kinds = list(state.values())
    owned = {name: tuple([_slot_variable(kept, name, p) for kept in kinds]) for name, p in arrays.items()}
    stepped = _stepped(optimizer, arrays, grads, owned, scale, apply_if)
    for name, new in stepped.items():
        if len(new) != 1 + len(state):
            raise ValueError(
                f"{type(optimizer).__name__}.step: must return the parameter and one array for each of state_names = "
                f"{optimizer.state_names}, got {len(new)} in all for parameter {name!r}"
            )
    for name, (new, *slots) in stepped.items():
        p = arrays[name]
        # a kernel has written into `p` itself
        written = p if new is p else write(p, new)
        # asarray, as NumPy computes scalars from arrays of no axes
        if written is not p:
            params[name] = array_namespace(p).asarray(written)
        for kept, array in zip(kinds, slots, strict=True):
            if array is not kept.get(name):
                kept[name] = array_namespace(p).asarray(array)
    if optimizer.iter % UPDATES_BETWEEN_FLUSHES == 0:
        for kept in state.values():
            for name in arrays:
                kept[name] = flush_denormals(kept[name])


def _stepped(
    optimizer: Any,
    arrays: dict[str, Array],
    grads: dict[str, Array],
    owned: dict[str, tuple[Array, ...]],
    scale: Array | None,
    apply_if: Array | None,
) -> dict[str, tuple[Array, ...]]:
    """New values by name, all of them before the first is written: a step that fails leaves nothing half done."""
    stepped: dict[str, tuple[Array, ...]] = {}
    for group in groups_of(arrays, optimizer.decay, optimizer.lr_groups, type(optimizer).__name__):
        with group.applied(optimizer):
            spec = UpdateSpec(
                optimizer.rule_name(),
                optimizer.scalars(),
                scale,
                optimizer.l1,
                optimizer.l2,
                optimizer.max_norm,
                optimizer.elementwise,
                apply_if,
            )
            step = functools.partial(regularized_step, optimizer.step, spec)
            params, gradients, state = ([of[name] for name in group.names] for of in (arrays, grads, owned))
            stepped.update(zip(group.names, fused_update(params, gradients, state, step, spec), strict=True))
    return stepped


def make_slot_variables(optimizer: Any, params: dict[str, Array]) -> None:
    """Make the state of parameters that were never updated, as their first update would."""
    for kind in optimizer.state_names:
        kept = getattr(optimizer, kind)
        kept.update({name: _slot_variable(kept, name, p) for name, p in params.items() if name not in kept})


def _slot_variable(kept: dict[str, Array], name: str, p: Array) -> Array:
    """Return a slot variable of a parameter, in float32 where that is in half precision; zeros at first."""
    array = kept.get(name)
    if array is not None:
        return widened(array)
    return array_namespace(p).zeros(p.shape, dtype=wide_dtype(p), device=device(p))
