"""Time and memory of training steps, on each backend and in PyTorch beside it."""

from xpdl.bench.epoch import epoch
from xpdl.bench.memory import MemoryFigure, memory
from xpdl.bench.nets import NETS
from xpdl.bench.profile import profile
from xpdl.bench.scaling import ScalingCurve, scaling
from xpdl.bench.tables import environment, memory_table, scaling_table, table
from xpdl.bench.timing import Figure, bench
from xpdl.deprecation import moved

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

__getattr__ = moved(__name__, {"Growth": "xpdl.bench.ScalingCurve", "growth_table": "xpdl.bench.scaling_table"})
