"""The parameters that an optimizer's state belongs to."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping
from typing import Any

from xpdl.backends.namespaces import Array


class Reference:
    """A weak reference to an array; a copy of it, beside a copy of the parameters, refers to nothing."""

    def __init__(self, array: Any = None) -> None:
        self._reference: weakref.ref[Any] | None = None
        with contextlib.suppress(TypeError):  # there are none to None, nor to the arrays of some libraries
            self._reference = weakref.ref(array)

    def __call__(self) -> Any:
        return None if self._reference is None else self._reference()

    def __reduce__(self) -> tuple[type[Reference], tuple[()]]:
        return Reference, ()


def reference(params: Mapping[str, Array], arrays: Mapping[str, Array]) -> Reference | None:
    """To the first of the arrays of an update, if it was written in place: others do not outlive the update."""
    name, first = next(iter(arrays.items()), (None, None))
    return None if name is None or params[name] is not first else Reference(first)
