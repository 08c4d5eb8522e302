"""Replace C functions of CuPy's Cython modules.

Cython modules find each other's C functions in a dict, ``__pyx_capi__``: name to capsule, whose name is the C signature.
Functions of the same signature are put there before the modules that use them are imported.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SIGNATURES = Path(__file__).parent / "signatures.txt"
_CURE = "install the version of CuPy that its README names"
_C_TYPES = {
    "PyObject *": ctypes.py_object,
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "intptr_t": ctypes.c_ssize_t,
    "size_t": ctypes.c_size_t,
    "uintmax_t": ctypes.c_size_t,
    "float": ctypes.c_float,
}

_names: list[bytes] = []  # capsules keep only the address of theirs


def _capsule(pointer: int, name: bytes) -> Any:
    _names.append(name)
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(pointer, name, None)


def _signature(capsule: Any) -> bytes:
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    return name(capsule)


def _for_python(pointer: int, signature: str) -> Callable[..., Any] | None:
    """The Python function of a C function, whose trailing parameters are Cython's; None for types unknown here."""
    match = re.fullmatch(r"(.*?)\s*\((.*)\)", signature)
    assert match, signature
    result, params = match[1], [] if match[2] == "void" else [p.strip() for p in match[2].split(",")]
    cython = [p for p in params if "__pyx" in p and "__pyx_obj" not in p]
    public = params[: len(params) - len(cython)]
    if (result not in _C_TYPES and "PointerAttributes" not in result) or any(p not in _C_TYPES for p in public):
        return None
    types = [_C_TYPES[p] for p in public] + [ctypes.c_int if "skip" in p else ctypes.c_void_p for p in cython]
    function = ctypes.PYFUNCTYPE(_C_TYPES.get(result, ctypes.py_object), *types)(pointer)
    tail, count = (0,) * len(cython), len(public)

    def call(*args: Any, **named: Any) -> Any:
        # optional arguments of CuPy's functions are ignored: the defaults are all there is
        args = (*args, *named.values())
        return function(*args[:count], *tail)

    return call


def replace(module: Any, prefix: str, library: ctypes.PyDLL) -> None:
    """Replace each function of `module` for which `library` has one of the same name after `prefix`.

    Raises ImportError where a signature differs from signatures.txt, that is, for another CuPy.
    """
    pinned = dict(line.split(": ", 1) for line in _SIGNATURES.read_text().splitlines())
    if missing := {name for name in pinned if name.startswith(prefix)} - {
        prefix + name for name in module.__pyx_capi__
    }:
        raise ImportError(f"hostcuda: {module.__name__} of this CuPy lacks {sorted(missing)}; {_CURE}")
    for name, capsule in list(module.__pyx_capi__.items()):
        signature = _signature(capsule).decode()
        symbol = getattr(library, prefix + name, None) if "(" in signature else None
        if symbol is None:
            continue
        if signature != pinned[prefix + name]:
            raise ImportError(
                f"hostcuda: {module.__name__}.{name} of this CuPy is {signature}, "
                f"hostcuda has {pinned[prefix + name]}; {_CURE}"
            )
        pointer = ctypes.cast(symbol, ctypes.c_void_p).value
        assert pointer
        module.__pyx_capi__[name] = _capsule(pointer, signature.encode())
        if hasattr(module, name) and (function := _for_python(pointer, signature)):
            function.__name__ = name
            setattr(module, name, function)
