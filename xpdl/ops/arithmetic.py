"""Sums of arrays as they meet in a net."""

from __future__ import annotations

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array
from xpdl.ops.epilogues import activated


@op
def add(x: Array, y: Array, *, activation: str | None = None) -> Array:
    """Compute ``x + y``, or relu of it, for arrays of one shape.

    Parameters
    ----------
    x, y : array (...)
    activation : "relu", optional
        Applied to the sum, in the same pass over memory where a kernel does that.

    Returns
    -------
    array (...)
    """
    return activated(x + y, activation)
