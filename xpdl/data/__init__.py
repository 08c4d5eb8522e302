"""Data sets, and rows in batches."""

from xpdl.data import augment
from xpdl.data.batches import Batches, is_mapped, shuffle_dataset
from xpdl.data.chunks import ChunkedBatches
from xpdl.data.generated import moons, spiral, xor_points
from xpdl.data.labels import check_labels
from xpdl.data.mnist import load_mini_mnist, load_mnist
from xpdl.data.prefetch import Prefetch

__all__ = [
    "Batches",
    "ChunkedBatches",
    "Prefetch",
    "augment",
    "check_labels",
    "is_mapped",
    "load_mini_mnist",
    "load_mnist",
    "moons",
    "shuffle_dataset",
    "spiral",
    "xor_points",
]
