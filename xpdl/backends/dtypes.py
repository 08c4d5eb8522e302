"""Floating dtypes of a library: by their name, and the one that it gives to integers."""

from __future__ import annotations

from xpdl.backends.namespaces import Array, DType, Namespace, conformant, device, library_name
from xpdl.errors import DTypeError


def dtype_by_name(name: str, xp: Namespace) -> DType:
    """The floating dtype of that name in a library; `DTypeError` where it has none."""
    found = getattr(conformant(xp), name, None)
    if found is None and name == "bfloat16" and library_name(xp) == "cupy":
        raise DTypeError(f"cupy has {name} from a package that is not installed: pip install ml_dtypes")
    if found is None:
        raise DTypeError(f"{library_name(xp)} has no dtype {name}; choose another, or with xpdl.use another library")
    return found


def default_float(xp: Namespace, like: Array) -> DType:
    """The floating dtype a library gives to integers where it must: float64 in NumPy, float32 in PyTorch."""
    info = xp.__array_namespace_info__()
    return info.default_dtypes(device=device(like))["real floating"]
