"""Deprecated name of `xpdl.models.flops`, until the next minor release."""

import warnings
from typing import Any

from xpdl.models import flops


def __getattr__(name: str) -> Any:
    if name != "flop":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        "xpdl.models.flop is deprecated; import flop from xpdl.models.flops", DeprecationWarning, stacklevel=2
    )
    return flops.flop
