"""Clipping gradients by their common norm."""

from __future__ import annotations

import functools
import math

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, widened


@op
def global_norm_scale(grads: list[Array], limit: float) -> Array | float:
    """Compute the factor of all `grads` that brings their global L2 norm down to at most `limit`.

    An array () on their device, at most 1; 1 for gradients that are all zero. It is float32 for gradients in half precision.
    """
    norm = global_norm(grads)
    # no division by a norm of zero
    return 1.0 if norm is None else limit / array_namespace(*grads).maximum(norm, limit)


def global_norm(grads: list[Array]) -> Array | None:
    """Compute the L2 norm of all `grads` together, an array () on their device; None where they have no values."""
    grads = [widened(g) for g in grads if math.prod(g.shape)]
    if not grads:
        return None
    xp = array_namespace(*grads)
    # squares of values divided by the largest cannot overflow, as those of exploding gradients otherwise do
    peak = functools.reduce(xp.maximum, [xp.max(xp.abs(g)) for g in grads])
    peak = xp.where(peak > 0, peak, 1.0)
    return peak * xp.sqrt(functools.reduce(xp.add, [xp.sum((g / peak) ** 2) for g in grads]))
