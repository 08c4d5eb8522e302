"""Data sets, and rows in batches."""

from xpdl.data import augment
from xpdl.data.batches import Batches, shuffle_dataset
from xpdl.data.generated import moons, spiral, xor_points
from xpdl.data.labels import check_labels
from xpdl.data.mnist import load_mini_mnist, load_mnist

__all__ = [
    "Batches",
    "augment",
    "check_labels",
    "load_mini_mnist",
    "load_mnist",
    "moons",
    "shuffle_dataset",
    "spiral",
    "xor_points",
]
