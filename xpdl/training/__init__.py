"""Training: the loop, what it records, and what it tells."""

from xpdl.training.callbacks import Callback
from xpdl.training.diagnostics import Diagnostics
from xpdl.training.early_stopping import EarlyStopping, ModelCheckpoint
from xpdl.training.ema import EMA
from xpdl.training.history import History
from xpdl.training.loggers import CSVLogger, JSONLogger, TensorBoard
from xpdl.training.mixed_precision import MixedPrecision
from xpdl.training.schedules import (
    CosineLR,
    ExponentialLR,
    LearningRateSchedule,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
    WarmupLR,
)
from xpdl.training.search import random_search, successive_halving
from xpdl.training.search_optuna import optuna_objective
from xpdl.training.search_result import SearchResult, Trial
from xpdl.training.search_space import choice, log_uniform, uniform
from xpdl.training.smoothing import smooth_curve
from xpdl.training.trainer import Trainer

__all__ = [
    "EMA",
    "CSVLogger",
    "Callback",
    "CosineLR",
    "Diagnostics",
    "EarlyStopping",
    "ExponentialLR",
    "History",
    "JSONLogger",
    "LearningRateSchedule",
    "MixedPrecision",
    "ModelCheckpoint",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "SearchResult",
    "StepLR",
    "TensorBoard",
    "Trainer",
    "Trial",
    "WarmupLR",
    "choice",
    "log_uniform",
    "optuna_objective",
    "random_search",
    "smooth_curve",
    "successive_halving",
    "uniform",
]
