"""Data sets, and rows in batches."""

from xpdl.data import augment
from xpdl.data.batches import Batches, is_mapped, shuffle_dataset
from xpdl.data.chunks import ChunkedBatches
from xpdl.data.cifar10 import CIFAR10_CLASSES, load_cifar10
from xpdl.data.fashion_mnist import FASHION_MNIST_CLASSES, load_fashion_mnist
from xpdl.data.mnist import load_mini_mnist, load_mnist
from xpdl.data.prefetch import Prefetch
from xpdl.data.toy import moons, spiral, xor_points
from xpdl.ops.targets import check_labels

__all__ = [
    "CIFAR10_CLASSES",
    "FASHION_MNIST_CLASSES",
    "Batches",
    "ChunkedBatches",
    "Prefetch",
    "augment",
    "check_labels",
    "is_mapped",
    "load_cifar10",
    "load_fashion_mnist",
    "load_mini_mnist",
    "load_mnist",
    "moons",
    "shuffle_dataset",
    "spiral",
    "xor_points",
]
