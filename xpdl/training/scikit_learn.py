"""Deprecated name of `xpdl.integrations.scikit_learn`, until the next minor release."""

from xpdl.deprecation import moved

__getattr__ = moved(__name__, {"XpdlClassifier": "xpdl.integrations.scikit_learn.XpdlClassifier"})
