"""Deprecated name of `xpdl.models.flops`, until the next minor release."""

from xpdl.deprecation import moved

__getattr__ = moved(__name__, {"flop": "xpdl.models.flops.flop"})
