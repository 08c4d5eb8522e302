"""The mean of numbers that do not all count alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpdl.backends import asnumpy
from xpdl.backends.namespaces import array_namespace, is_array


class WeightedMean:
    """The mean of means over the rows behind them, such as the loss of an epoch from those of its steps.

    Parameters
    ----------
    total, weight : float
        To go on from: the values so far, times their weights, and these weights, added up.

    Attributes
    ----------
    value : float
        0 where nothing has a weight.
    """

    def __init__(self, total: float = 0.0, weight: float = 0.0) -> None:
        self.total, self.weight = total, weight

    def add(self, values: Sequence[float], weights: Sequence[Any]) -> None:
        """Count `values`, each as often as its weight says: a number, or an array () of any library."""
        if weights and is_array(weights[0]):  # read together
            weights = asnumpy(array_namespace(weights[0]).stack(list(weights))).tolist()
        for value, weight in zip(values, weights, strict=True):
            self.total += value * weight
            self.weight += weight

    @property
    def value(self) -> float:
        return self.total / self.weight if self.weight else 0.0
