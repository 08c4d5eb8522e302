"""Old names and import paths, which work for one minor release with a warning."""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def moved(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` (PEP 562) of a module whose `names` moved: old name -> full new name."""

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is deprecated; use {names[name]}", DeprecationWarning, stacklevel=2)
        home, _, new = names[name].rpartition(".")
        return getattr(importlib.import_module(home), new)

    return __getattr__


def warn_renamed(old: str, new: str, stacklevel: int = 2) -> None:
    """Warn that `old` is a deprecated spelling of `new`; `stacklevel` as for ``warnings.warn`` in the caller."""
    warnings.warn(f"{old} is deprecated; use {new}", DeprecationWarning, stacklevel=stacklevel + 1)


def renamed_options(owner: str, **names: str) -> Callable[[Function], Function]:
    """Let a function take keyword options under their old names, for one release.

    Parameters
    ----------
    owner : str
        Named in warnings and errors.
    **names : str
        Old name -> new name.

    Raises
    ------
    TypeError
        When the function is called with both names of an option.
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            for old in [name for name in options if name in names]:
                new = names[old]
                if new in options:
                    raise TypeError(f"{owner}: {old} is the deprecated name of {new}, got both; pass {new} alone")
                warn_renamed(f"{owner}: {old}", new)
                options[new] = options.pop(old)
            return function(*args, **options)

        wrapper.renamed = names  # type: ignore[attr-defined]
        return wrapper  # type: ignore[return-value]

    return decorate
