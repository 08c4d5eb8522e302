"""How long training steps take: here, on each backend, and in PyTorch beside it."""

from xpdl.bench.measure import Figure, bench
from xpdl.bench.nets import NETS
from xpdl.bench.profile import profile
from xpdl.bench.report import table

__all__ = ["NETS", "Figure", "bench", "profile", "table"]
