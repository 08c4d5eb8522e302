"""Updates of all parameters as one op, which a kernel overrides by one fused launch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from xpdl.backends.dispatch import op
from xpdl.backends.namespaces import Array, array_namespace, rounded_to, widened


@op
def flush_denormals(x: Array) -> Array:
    """Set to 0 what is hardly above the smallest normal number of the dtype of `x`.

    The state of a weight whose gradient has become zero for good decays to subnormal numbers (denormals) and stays there,
    and CPUs compute with those many times more slowly. `x` is given up to a kernel, which may write into it, or leave it
    alone where the device flushes them itself.
    """
    xp = array_namespace(x)
    info = xp.finfo(x.dtype)
    limit = float(info.smallest_normal) / float(info.eps)
    # float16 has no room for this
    return x if limit > 1e-30 else xp.where(xp.abs(x) < limit, 0.0, x)


class UpdateSpec(NamedTuple):
    """The update of one group of parameters, for kernels that make it on all of them at once.

    Attributes
    ----------
    name : str
        Of the op; empty where the step is no op's.
    scalars : mapping
        What the op takes besides arrays; some may be arrays () on the device.
    scale : array () or float, optional
        By which all gradients are multiplied first.
    l1, l2, max_norm, elementwise
        As in `Optimizer`.
    apply_if : boolean array (), optional
        Where it is False, everything stays as it is.
    """

    name: str
    scalars: Mapping[str, float | Array]
    scale: Array | float | None
    l1: float
    l2: float
    max_norm: float | None
    elementwise: bool
    apply_if: Array | None = None


@op
def fused_update(
    params: list[Array],
    grads: list[Array],
    state: list[tuple[Array, ...]],
    step: Callable[..., tuple[Array, ...]],
    spec: UpdateSpec,
) -> Iterable[tuple[Array, ...]]:
    """``step(p, g, *state)`` for each parameter, one after the other; a kernel may do what `spec` says on all at once.

    `params` and `state` are given up to it: a kernel may write the results into them and return them. The slot variables of
    a parameter in half precision are in float32.
    """
    return (step(p, g, *kept) for p, g, kept in zip(params, grads, state, strict=True))


def regularized_step(
    step: Callable[..., tuple[Array, ...]], spec: UpdateSpec, p: Array, g: Array, *state: Array
) -> tuple[Array, ...]:
    """`step` with the gradient clipped and the decay added before it, the constraint and the condition after it.

    A parameter in half precision is computed with in float32, as are its slot variables, and rounded once at the end.
    """
    xp = array_namespace(p)
    stored, p = p.dtype, widened(p)
    g = g if spec.scale is None else widened(g) * spec.scale
    g = g if g.dtype == p.dtype else xp.astype(g, p.dtype)
    if spec.l1:
        g = g + spec.l1 * xp.sign(p)
    if spec.l2:
        g = g + spec.l2 * p
    new, *slots = step(p, g, *state)
    stepped: tuple[Array, ...] = (
        new if spec.max_norm is None else xp.clip(new, -spec.max_norm, spec.max_norm),
        *slots,
    )
    if spec.apply_if is not None:
        stepped = tuple(
            xp.where(spec.apply_if, after, before) for after, before in zip(stepped, (p, *state), strict=True)
        )
    return rounded_to(stored, stepped[0]), *stepped[1:]
