"""Time and memory of training steps, on each backend and in PyTorch beside it."""

import warnings
from typing import Any

from xpdl.bench.epoch import epoch
from xpdl.bench.memory import MemoryFigure, memory
from xpdl.bench.nets import NETS
from xpdl.bench.profile import profile
from xpdl.bench.scaling import ScalingCurve, scaling
from xpdl.bench.tables import environment, memory_table, scaling_table, table
from xpdl.bench.timing import Figure, bench

__all__ = [
    "NETS",
    "Figure",
    "MemoryFigure",
    "ScalingCurve",
    "bench",
    "environment",
    "epoch",
    "memory",
    "memory_table",
    "profile",
    "scaling",
    "scaling_table",
    "table",
]

_FORMER = {"Growth": "ScalingCurve", "growth_table": "scaling_table"}


def __getattr__(name: str) -> Any:
    """Former names, until the next minor release."""
    if name not in _FORMER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"xpdl.bench.{name} is deprecated; use {_FORMER[name]}", DeprecationWarning, stacklevel=2)
    return globals()[_FORMER[name]]
