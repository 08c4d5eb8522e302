"""Names that a package imports when they are first used, so that `import xpdl` takes little longer than NumPy."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy(
    package: str,
    names: Mapping[str, str],
    optional: Mapping[str, str] | None = None,
    elsewhere: Mapping[str, str] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and ``__dir__`` (PEP 562) of a package.

    Parameters
    ----------
    package : str
    names : mapping
        Name -> the module that has it.
    optional : mapping, optional
        Of these names -> the library that the module needs. Where that is not installed, ``dir`` does not list the name:
        `help` asks for all that it lists.
    elsewhere : mapping, optional
        Name that others have -> what stands for it, for the message.
    """
    needs = optional or {}

    def __getattr__(name: str) -> Any:
        if name not in names:
            cure = f"; {elsewhere[name]} stands for it" if elsewhere and name in elsewhere else ""
            raise AttributeError(f"module {package!r} has no attribute {name!r}{cure}")
        module = importlib.import_module(names[name])
        value = module if module.__name__ == f"{package}.{name}" else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        missing = {name for name, library in needs.items() if importlib.util.find_spec(library) is None}
        return sorted({*vars(sys.modules[package]), *names} - missing)

    return __getattr__, __dir__
