"""Checks for layers and models of one's own: of their gradients, and of a step on several backends."""

from xpdl.testing.check_gradients import GradientReport, check_gradients
from xpdl.testing.compare_backends import LayerDifference, compare_backends

__all__ = ["GradientReport", "LayerDifference", "check_gradients", "compare_backends"]
