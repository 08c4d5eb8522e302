"""Arrays of one library in another, in the same memory, by DLPack."""

from __future__ import annotations

from typing import Any

from xpdl.backends.graphs import detached
from xpdl.backends.namespaces import (
    Array,
    Namespace,
    array_namespace,
    device,
    dtype_name,
    is_array,
    is_floating,
    library_name,
)


def shared(a: Any, xp: Namespace, place: Any, dtype: str | None, default: str) -> Array:
    """Return `a`, anything with ``__dlpack__``, as an array of `xp` in the same memory.

    Parameters
    ----------
    a : array
    xp : namespace
    place : device
        Of `xp`, on which `a` must lie.
    dtype : str or None
        The name of the dtype that it must have; where None, `default` is that of floating values, and others keep theirs.
    default : str

    Raises
    ------
    ValueError
        If that needs a copy; says why.
    """
    made = a if is_array(a) and array_namespace(a) is xp else _taken(a, xp)
    if device(made) != place:
        raise _needs_copy(f"it lies on {device(made)}, and new arrays on {place}")
    has = dtype_name(made.dtype)
    wanted = dtype or (default if is_floating(made) else has)
    if has != wanted:
        raise _needs_copy(f"its dtype is {has}, and that of the result {wanted}")
    return made


def carried(y: Array, backend: Any) -> Array:
    """Return a result in the library, device and dtype of `backend`: in the same memory where that can be, or else a copy.

    NumPy gets a copy in any case: it could not write to the memory of some libraries.
    """
    if backend.name == "numpy":
        return backend.asarray(y)
    try:
        return shared(detached(y), backend.xp, backend.device, backend.dtype, backend.dtype)
    except ValueError:  # says why that needs a copy
        return backend.asarray(y)


def _taken(a: Any, xp: Namespace) -> Array:
    library = library_name(xp)
    if not hasattr(a, "__dlpack__"):
        raise _needs_copy(f"{type(a).__name__} has no __dlpack__")
    # PyTorch would write to it all the same
    if library != "jax" and not getattr(getattr(a, "flags", None), "writeable", True):
        raise _needs_copy("it is read-only")
    try:
        # unless it is told not to, JAX copies what is not aligned
        return xp.from_dlpack(a, **({"copy": False} if library == "jax" else {}))
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise _needs_copy(f"{library} cannot take this {type(a).__name__}: {error}") from error


def _needs_copy(reason: str) -> ValueError:
    return ValueError(f"asarray: copy=False, and {reason}; without copy=False it is copied")
