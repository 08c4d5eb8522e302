"""Checks for layers and models of one's own: of their gradients, and of a step on several backends."""

from xpdl.testing.backend_comparison import LayerDifference, compare_backends
from xpdl.testing.gradient_check import GradientReport, check_gradients

__all__ = ["GradientReport", "LayerDifference", "check_gradients", "compare_backends"]
