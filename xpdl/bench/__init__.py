"""How long training steps take and how much they hold: here, on each backend, and in PyTorch beside it."""

from xpdl.bench.epoch import epoch
from xpdl.bench.measure import Figure, bench
from xpdl.bench.memory import MemoryFigure, memory
from xpdl.bench.nets import NETS
from xpdl.bench.profile import profile
from xpdl.bench.report import environment, growth_table, memory_table, table
from xpdl.bench.scaling import Growth, scaling

__all__ = [
    "NETS",
    "Figure",
    "Growth",
    "MemoryFigure",
    "bench",
    "environment",
    "epoch",
    "growth_table",
    "memory",
    "memory_table",
    "profile",
    "scaling",
    "table",
]
