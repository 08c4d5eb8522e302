"""Deep learning on plain arrays: the same readable layers on NumPy, CuPy and any Array-API library."""

from xpdl.models import Sequential
