"""Searches of hyper-parameters: random, successive halving, and by Optuna."""

from xpdl.search.optuna import optuna_objective
from xpdl.search.result import SearchResult, Trial
from xpdl.search.space import choice, log_uniform, uniform
from xpdl.search.strategies import random_search, successive_halving

__all__ = [
    "SearchResult",
    "Trial",
    "choice",
    "log_uniform",
    "optuna_objective",
    "random_search",
    "successive_halving",
    "uniform",
]
