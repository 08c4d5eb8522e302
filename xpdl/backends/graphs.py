"""Arrays that their own library differentiates or traces: xpdl has backward passes of its own, and keeps values alone.

PyTorch notes what is computed from a tensor with ``requires_grad`` in a graph, which keeps all of it in memory; JAX gives
traced functions stand-ins for arrays, which are of no use once the function has returned.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

_NOTHING: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()


def no_graph(x: Any) -> contextlib.AbstractContextManager[Any]:
    """A context in which PyTorch notes no graph and leaves may be written to, where `x` is a tensor of it."""
    torch = sys.modules.get("torch")
    if torch is None or type(x) is np.ndarray or not isinstance(x, torch.Tensor):
        return _NOTHING
    return torch.no_grad()


def detached(x: Any) -> Any:
    """`x` itself, or where its library would differentiate it, the same memory without the graph."""
    if type(x) is np.ndarray:  # at a quarter of the cost
        return x
    return x.detach() if getattr(x, "requires_grad", False) else x


def leaf(x: Any) -> Any:
    """`x` itself, or where it hangs on the graph of what it was computed from, the same memory without that."""
    return x.detach() if getattr(x, "grad_fn", None) is not None else x


def is_frozen(x: Any) -> bool:
    """Return whether PyTorch refuses to write into a tensor: made in inference mode, or expanded."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(x, torch.Tensor):
        return False
    if x.is_inference() and not torch.is_inference_mode_enabled():
        return True
    # PyTorch gives empty tensors strides of 0, too
    return x.numel() > 0 and any(stride == 0 and size > 1 for size, stride in zip(x.shape, x.stride(), strict=True))


def on_values(method: Callable[P, R]) -> Callable[P, R]:
    """Decorator for a pass of a layer: it computes with the values of its arguments, and no graph grows from them.

    Parameters of the layer may require gradients themselves, and stay the objects that they are.
    """

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        first = args[1] if len(args) > 1 else None  # after the layer
        torch = None if type(first) is np.ndarray else sys.modules.get("torch")
        if torch is None:
            return method(*args, **kwargs)
        given = [*args[1:], *kwargs.values()]
        if not any([isinstance(value, torch.Tensor) for value in given]):
            return method(*args, **kwargs)
        values: Any = method
        if any([getattr(value, "requires_grad", False) for value in given]):
            values = functools.partial(method, *map(detached, args), **{n: detached(v) for n, v in kwargs.items()})
            args, kwargs = (), {}  # type: ignore[assignment]
        if not torch.is_grad_enabled():
            return values(*args, **kwargs)
        with torch.no_grad():
            return values(*args, **kwargs)

    return call


def is_traced(x: Any) -> bool:
    """Return whether `x` stands for an array in a function that JAX is tracing."""
    jax = sys.modules.get("jax")
    return jax is not None and type(x) is not np.ndarray and isinstance(x, jax.core.Tracer)


def is_of_jax(x: Any) -> bool:
    """Return whether `x` is an array of JAX, or stands for one."""
    jax = sys.modules.get("jax")
    return jax is not None and type(x) is not np.ndarray and isinstance(x, jax.Array)


def has_compiled_ops(x: Any) -> bool:
    """Return whether ops of `x` are compiled, and see no values: those of JAX."""
    return is_of_jax(x)


def is_tracing() -> bool:
    """Return whether this is called by a function that JAX is tracing to compile it."""
    jax = sys.modules.get("jax")
    return jax is not None and hasattr(jax, "numpy") and is_traced(jax.numpy.zeros(()))


def require_no_leak(old: Any, new: Any, owner: str, what: str) -> None:
    """Raise `TypeError` for a traced value that would replace an array that outlives the traced function."""
    if is_traced(new) and not is_traced(old):
        raise TypeError(
            f"{owner}: {what} would be replaced by values that JAX traces, which are lost when the traced function returns; "
            "call this outside of jax.jit and jax.grad, or make the object inside of the traced function, from its arguments"
        )


def require_one_trace(
    params: Mapping[str, Any],
    grads: Mapping[str, Any],
    memory: Mapping[str, Mapping[str, Any]],
    owner: str,
    inside: bool,
) -> None:
    """`TypeError` when an update would mix traced values with arrays that outlive the traced function.

    `inside` says whether the optimizer was made in the traced function, and ends with it.
    """
    if not is_of_jax(next(iter(params.values()), None)):
        return
    for name, p in params.items():
        require_no_leak(p, grads[name], owner, f"parameter {name!r}")
        for kept in memory.values():
            if is_traced(kept.get(name)) and not is_traced(p):
                raise TypeError(
                    f"{owner}: the state of parameter {name!r} was computed in a function that JAX traced, and is "
                    "lost; make a new optimizer, outside of that function or inside of it"
                )
            if not inside:
                require_no_leak(kept.get(name), p, owner, f"the state of parameter {name!r}")
