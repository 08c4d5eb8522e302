"""A small task, and trainers on it."""

import numpy as np

from xpdl.data import moons
from xpdl.layers import Affine, BatchNormalization, Dropout, Relu, SoftmaxWithLoss
from xpdl.models import Sequential
from xpdl.training import Trainer

X, T = moons(90, noise=0.1, seed=0)


def net(seed=0):
    layers = [Affine(units=12), BatchNormalization(), Relu(), Dropout(0.2), Affine(units=2)]
    return Sequential(*layers, loss=SoftmaxWithLoss, seed=seed)


def trainer(network=None, **options):
    options = {"epochs": 3, "mini_batch_size": 20, "optimizer": "adam", "verbose": False, "seed": 0, **options}
    return Trainer(network or net(), X[:60], T[:60], X[60:], T[60:], **options)


def weights(network):
    return {name: np.array(value) for name, value in {**network.params, **network.buffers}.items()}
