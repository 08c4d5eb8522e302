"""Deprecated name of `xpdl.testing`, until the next minor release."""

from xpdl.deprecation import moved

__getattr__ = moved(__name__, {name: f"xpdl.testing.{name}" for name in ("GradientReport", "check_gradients")})
