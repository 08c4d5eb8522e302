"""Nets as estimators of scikit-learn, for its pipelines and searches (``pip install "xpdl[scikit-learn]"``).

`XpdlClassifier` and `XpdlRegressor` are also names of `xpdl`, which loads scikit-learn when one is first used.
"""

from importlib.util import find_spec

if find_spec("sklearn") is None:
    raise ImportError('XpdlClassifier and XpdlRegressor need scikit-learn: pip install "xpdl[scikit-learn]"')

from xpdl.integrations.scikit_learn.classifier import XpdlClassifier
from xpdl.integrations.scikit_learn.regressor import XpdlRegressor

__all__ = ["XpdlClassifier", "XpdlRegressor"]
