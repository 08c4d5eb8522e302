"""Training: the loop, what it records, and what it tells."""

from xpdl.training.history import History
from xpdl.training.smoothing import smooth_curve
from xpdl.training.trainer import Trainer

__all__ = ["History", "Trainer", "smooth_curve"]
