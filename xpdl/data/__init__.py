"""Data sets, and rows in batches."""

from typing import TYPE_CHECKING

from xpdl.data import augment
from xpdl.data.batches import Batches, is_mapped, shuffle_dataset
from xpdl.data.chunks import ChunkedBatches
from xpdl.data.prefetch import Prefetch
from xpdl.data.toy import moons, spiral, xor_points
from xpdl.lazy import lazy
from xpdl.ops.targets import check_labels

if TYPE_CHECKING:
    from xpdl.data.cifar10 import CIFAR10_CLASSES, load_cifar10
    from xpdl.data.fashion_mnist import FASHION_MNIST_CLASSES, load_fashion_mnist
    from xpdl.data.folder import load_folder
    from xpdl.data.mnist import load_mini_mnist, load_mnist
    from xpdl.data.text.alice import load_alice
    from xpdl.data.text.dates import dates
    from xpdl.data.text.padding import PaddedBatches, pad_sequences
    from xpdl.data.text.tasks import additions, brackets, copies
    from xpdl.data.text.unigram_sampler import UnigramSampler
    from xpdl.data.text.vocabulary import Vocabulary
    from xpdl.data.text.windows import ContiguousWindows, RandomWindows
    from xpdl.data.text.word_pairs import analogy, create_contexts_target, most_similar
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            **dict.fromkeys(("CIFAR10_CLASSES", "load_cifar10"), "xpdl.data.cifar10"),
            **dict.fromkeys(("FASHION_MNIST_CLASSES", "load_fashion_mnist"), "xpdl.data.fashion_mnist"),
            "load_folder": "xpdl.data.folder",
            **dict.fromkeys(("load_mini_mnist", "load_mnist"), "xpdl.data.mnist"),
            "load_alice": "xpdl.data.text.alice",
            "dates": "xpdl.data.text.dates",
            **dict.fromkeys(("additions", "brackets", "copies"), "xpdl.data.text.tasks"),
            **dict.fromkeys(("PaddedBatches", "pad_sequences"), "xpdl.data.text.padding"),
            **dict.fromkeys(("ContiguousWindows", "RandomWindows"), "xpdl.data.text.windows"),
            "UnigramSampler": "xpdl.data.text.unigram_sampler",
            **dict.fromkeys(("analogy", "create_contexts_target", "most_similar"), "xpdl.data.text.word_pairs"),
            "Vocabulary": "xpdl.data.text.vocabulary",
        },
    )

__all__ = [
    "CIFAR10_CLASSES",
    "FASHION_MNIST_CLASSES",
    "Batches",
    "ChunkedBatches",
    "ContiguousWindows",
    "PaddedBatches",
    "Prefetch",
    "RandomWindows",
    "UnigramSampler",
    "Vocabulary",
    "additions",
    "analogy",
    "augment",
    "brackets",
    "check_labels",
    "copies",
    "create_contexts_target",
    "dates",
    "is_mapped",
    "load_alice",
    "load_cifar10",
    "load_fashion_mnist",
    "load_folder",
    "load_mini_mnist",
    "load_mnist",
    "moons",
    "most_similar",
    "pad_sequences",
    "shuffle_dataset",
    "spiral",
    "xor_points",
]
