"""Training: the loop, what it records, and what it tells."""

from xpdl.deprecation import moved
from xpdl.training.callbacks import (
    EMA,
    Callback,
    CosineLR,
    CSVLogger,
    Diagnostics,
    EarlyStopping,
    ExponentialLR,
    JSONLogger,
    LearningRateSchedule,
    ModelCheckpoint,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
    TensorBoard,
    WarmupLR,
)
from xpdl.training.history import History
from xpdl.training.precision.mixed import MixedPrecision
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
    "StepLR",
    "TensorBoard",
    "Trainer",
    "WarmupLR",
    "smooth_curve",
]

__getattr__ = moved(
    __name__,
    {
        name: f"xpdl.search.{name}"
        for name in (
            *("SearchResult", "Trial", "choice", "log_uniform", "optuna_objective"),
            *("random_search", "successive_halving", "uniform"),
        )
    },
)
