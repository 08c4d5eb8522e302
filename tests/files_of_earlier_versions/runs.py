"""Runs, models and optimizers of which every version has written files: the arguments, and nothing of their results.

It takes only what version 0.1.0 had, as `write.py` runs it with the versions themselves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import xpdl

_rng = np.random.default_rng(3)
IMAGES = _rng.standard_normal((23, 1, 6, 6)).astype(np.float32)
LABELS = np.arange(23) % 3
ROWS = _rng.standard_normal((23, 4)).astype(np.float32)
VALUES = _rng.standard_normal((23, 2)).astype(np.float32)
#: initial parameters of each optimizer, and the gradients of its steps
START = {name: _rng.standard_normal(shape).astype(np.float32) for name, shape in (("W1", (2, 3)), ("b1", (3,)))}
GRADIENTS = [{name: _rng.standard_normal(p.shape).astype(np.float32) for name, p in START.items()} for _ in range(5)]
#: steps before the state is written
WRITTEN_AFTER = 3


class Interrupt(xpdl.Callback):
    """Break a run off before a step; None lets it end."""

    def __init__(self, step: int | None) -> None:
        self.step = step

    def on_batch_begin(self, trainer: Any, step: int) -> None:
        if step == self.step:
            raise KeyboardInterrupt


def conv_net() -> xpdl.Sequential:
    conv = [xpdl.Convolution(filters=2, size=3), xpdl.BatchNormalization(), xpdl.Relu(), xpdl.Pooling(2, 2)]
    return xpdl.Sequential(*conv, xpdl.Dropout(0.3), xpdl.Affine(units=3), loss=xpdl.SoftmaxWithLoss, seed=1)


def dense_net() -> xpdl.Sequential:
    layers = [xpdl.Affine(units=5), xpdl.Tanh(), xpdl.Affine(units=2)]
    return xpdl.Sequential(*layers, loss=xpdl.IdentityWithLoss, seed=2)


def _schedules(folder: Path, step: int | None) -> xpdl.Trainer:
    """Schedules, averages, early stopping, logs and rows for validation; interrupted in the third epoch."""
    logs = [xpdl.CSVLogger(folder / "log.csv"), xpdl.JSONLogger(folder / "log.jsonl")]
    rates = [xpdl.WarmupLR(1), xpdl.CosineLR()]
    watching = [xpdl.EMA(0.9), xpdl.EarlyStopping("val_acc", patience=4)]
    return xpdl.Trainer(
        conv_net(),
        *(IMAGES, LABELS, IMAGES[:7], LABELS[:7]),
        epochs=4,
        mini_batch_size=5,
        optimizer=xpdl.Adam(lr=0.01),
        verbose=False,
        callbacks=[*rates, *watching, *logs, Interrupt(step)],
        seed=3,
        validation_split=0.2,
        checkpoint=folder / "schedules.checkpoint",
    )


def _mid_epoch(folder: Path, step: int | None) -> xpdl.Trainer:
    """Changed images, gradients of two batches an update, a rate that waits for a plateau; interrupted in an epoch."""
    return xpdl.Trainer(
        conv_net(),
        *(IMAGES, LABELS, IMAGES[:7], LABELS[:7]),
        epochs=3,
        mini_batch_size=5,
        optimizer=xpdl.Momentum(lr=0.05, weight_decay={"l2": 1e-3}, clip_norm=1.0),
        verbose=False,
        callbacks=[xpdl.ReduceLROnPlateau("test_acc", patience=1), Interrupt(step)],
        seed=3,
        augment=[xpdl.augment.Shift(1)],
        accumulate_grad_batches=2,
        checkpoint=folder / "mid_epoch.checkpoint",
        checkpoint_every=2,
    )


def _float16(folder: Path, step: int | None) -> xpdl.Trainer:
    """Mixed precision, with its loss scale, in a regression."""
    return xpdl.Trainer(
        dense_net(),
        *(ROWS, VALUES, ROWS[:7], VALUES[:7]),
        epochs=3,
        mini_batch_size=6,
        optimizer="rmsprop",
        optimizer_param={"lr": 0.01},
        verbose=False,
        callbacks=[Interrupt(step)],
        seed=3,
        precision="float16",
        checkpoint=folder / "float16.checkpoint",
    )


def _defaults(folder: Path, step: int | None) -> xpdl.Trainer:
    """A net of the book with the arguments that a trainer has by itself."""
    options = {"use_dropout": True, "dropout_ration": 0.2, "use_batchnorm": True, "weight_decay_lambda": 0.01}
    return xpdl.Trainer(
        xpdl.MultiLayerNetExtend(4, [5], 3, **options, seed=4),
        *(ROWS, LABELS, ROWS, LABELS),
        epochs=3,
        mini_batch_size=6,
        verbose=False,
        callbacks=[Interrupt(step)],
        seed=3,
        checkpoint=folder / "defaults.checkpoint",
    )


def _many_arguments(folder: Path, step: int | None) -> xpdl.Trainer:
    """Layers, a loss, a schedule and transforms with arguments, of which a checkpoint keeps the representation."""
    images = [
        xpdl.Convolution(filters=2, size=3, pad=1, init="he"),
        xpdl.Residual(
            xpdl.Convolution(filters=2, size=3, pad=1, use_bias=False), xpdl.BatchNormalization(momentum=0.8)
        ),
        xpdl.AveragePooling(2, 2, stride=2),
        xpdl.Sigmoid(),
        xpdl.Convolution(filters=4, size=2, groups=2),
        xpdl.Pooling(2, 2, stride=1),
        xpdl.Flatten(),
    ]
    rows = [xpdl.Affine(units=4, init=0.5), xpdl.Tanh(), xpdl.Dropout(0.1, inverted=True), xpdl.Affine(units=3)]
    loss = xpdl.SoftmaxWithLoss(label_smoothing=0.1, class_weights=[1, 2, 3.5])
    augment = xpdl.augment
    moves = [augment.Shift(1), augment.Rotate(20), augment.Scale(0.8, 1.2), augment.Elastic(), augment.Flip(0.5)]
    return xpdl.Trainer(
        xpdl.Sequential(*images, *rows, loss=loss, seed=6),
        *(IMAGES, LABELS, IMAGES[:7], LABELS[:7]),
        epochs=2,
        mini_batch_size=6,
        optimizer=xpdl.AdamW(lr=0.01, weight_decay=0.02, clip_norm=1.0),
        verbose=False,
        callbacks=[xpdl.OneCycleLR(rise=0.4), Interrupt(step)],
        seed=3,
        augment=[*moves, augment.Brightness(), augment.Noise(), augment.Cutout(2)],
        checkpoint=folder / "many_arguments.checkpoint",
    )


#: checkpoint -> (how its trainer is made, the step before which it was interrupted)
RUNS = {
    "schedules": (_schedules, 11),
    "mid_epoch": (_mid_epoch, 8),
    "float16": (_float16, 10),
    "defaults": (_defaults, 10),
    "many_arguments": (_many_arguments, 6),
}


def small_conv_net() -> xpdl.SimpleConvNet:
    convolution = {"filter_num": 2, "filter_size": 3, "pad": 0, "stride": 1}
    return xpdl.SimpleConvNet((1, 6, 6), convolution, hidden_size=4, output_size=3, seed=5)


#: model file -> (how the model is made, rows for it)
MODELS = {"Sequential": (conv_net, IMAGES), "SimpleConvNet": (small_conv_net, IMAGES)}

OPTIMIZERS = {
    "SGD": xpdl.SGD(lr=0.1, max_norm=2.0),
    "Momentum": xpdl.Momentum(lr=0.1, momentum=0.8),
    "Nesterov": xpdl.Nesterov(lr=0.1),
    "AdaGrad": xpdl.AdaGrad(lr=0.1),
    "RMSprop": xpdl.RMSprop(lr=0.1),
    "AdaDelta": xpdl.AdaDelta(lr=1.0),
    "Adam": xpdl.Adam(lr=0.1, beta2=0.99, weight_decay={"l1": 1e-3}),
    "AdamW": xpdl.AdamW(lr=0.1, weight_decay=0.02),
}


def searched(learning_rate: float, units: int, kind: str, epochs: int = 1) -> xpdl.Trainer:
    """A trial of a search."""
    net = xpdl.Sequential(xpdl.Affine(units=units), xpdl.Relu(), xpdl.Affine(units=3), loss=xpdl.SoftmaxWithLoss)
    optimizer = xpdl.optimizers.get(kind, lr=learning_rate)
    return xpdl.Trainer(net, ROWS, LABELS, ROWS, LABELS, epochs, 6, optimizer, verbose=False)


SPACE = {
    "learning_rate": xpdl.log_uniform(1e-3, 1.0),
    "units": xpdl.choice([2, 3, 4]),
    "kind": xpdl.choice(["sgd", "adam"]),
}
