"""Callbacks: objects that a `xpdl.training.Trainer` calls at set moments."""

from xpdl.training.callbacks.base import Callback
from xpdl.training.callbacks.diagnostics import Diagnostics
from xpdl.training.callbacks.early_stopping import EarlyStopping, ModelCheckpoint
from xpdl.training.callbacks.ema import EMA
from xpdl.training.callbacks.loggers import CSVLogger, JSONLogger, TensorBoard
from xpdl.training.callbacks.schedules import (
    CosineLR,
    ExponentialLR,
    LearningRateSchedule,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
    WarmupLR,
)

__all__ = [
    "EMA",
    "CSVLogger",
    "Callback",
    "CosineLR",
    "Diagnostics",
    "EarlyStopping",
    "ExponentialLR",
    "JSONLogger",
    "LearningRateSchedule",
    "ModelCheckpoint",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "StepLR",
    "TensorBoard",
    "WarmupLR",
]
