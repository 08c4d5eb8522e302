"""Training in half precision."""

from xpdl.training.precision.mixed import MixedPrecision

__all__ = ["MixedPrecision"]
