"""Measures of how good predictions are, by scikit-learn's definitions, over a whole data set at once.

Pure functions ``measure(y, t)`` of predictions `y` and targets `t`, arrays of any library, that return a Python float. The
arrays are read to the host once and computed with in float64. ``Trainer(metrics=["f1", "roc_auc"])`` takes these names.

The kind of a prediction is decided by its rank and dtype, as that of targets is in the losses:

===================  ===========================  =====================================================
prediction `y`       targets `t`                  meaning
===================  ===========================  =====================================================
floats (N, K)        labels (N,), one-hot (N, K)  scores or probabilities of K classes; the largest one
floats (N,), (N, 1)  labels 0 and 1               probabilities of class 1; above one half it is taken
integers (N,)        labels (N,)                  labels
booleans (N,)        labels 0 and 1               labels
integers, booleans   the same (N, K)              K labels that a row has or has not ("multilabel")
(N, K)
===================  ===========================  =====================================================
"""

from __future__ import annotations

from xpdl.metrics.classification import accuracy, f1, precision, recall
from xpdl.metrics.likelihood import perplexity
from xpdl.metrics.ranking import roc_auc, top_k_accuracy
from xpdl.metrics.regression import mae, mse, r2

__all__ = ["accuracy", "f1", "mae", "mse", "perplexity", "precision", "r2", "recall", "roc_auc", "top_k_accuracy"]
