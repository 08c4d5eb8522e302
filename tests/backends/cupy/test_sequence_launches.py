"""The number of launches of a training step of nets of sequences on the real CuPy, as in `test_launch_counts`."""

import numpy as np
import pytest

from tests.backends.cupy.test_launch_counts import pytestmark
from xpdl import (
    GRU,
    LSTM,
    RNN,
    Add,
    Affine,
    BatchNormalization,
    Bidirectional,
    Concatenate,
    Convolution,
    Embedding,
    Gelu,
    GlobalAveragePooling,
    Graph,
    Input,
    LayerNormalization,
    Relu,
    Sequential,
    Silu,
    SoftmaxWithLoss,
)
from xpdl.models import CBOW, GPT, AttentionSeq2seq, PeekySeq2seq, RnnLm, Seq2seq, SkipGram
from xpdl.optimizers import Adam

__all__ = ["pytestmark"]
WORDS, RNG = 50, np.random.default_rng(0)


def ids(steps):
    return RNG.integers(0, WORDS, (2, steps))


def of_words(layer, units=16):
    return Sequential(Embedding(WORDS, units), layer, Affine(units=WORDS, axis=-1), loss=SoftmaxWithLoss, seed=0)


def gpt(**options):
    return GPT(WORDS, context=128, width=128, heads=4, depth=4, seed=0, **options)


def branches():
    x, y = Input((1, 12, 12)), Input((6,))
    a = Relu()(BatchNormalization()(Convolution(filters=4, size=3, pad=1)(x)))
    b = Gelu()(Convolution(filters=4, size=1)(x))
    images = GlobalAveragePooling()(Concatenate()(a, b, Add()(a, b), a))
    joined = LayerNormalization()(Concatenate()(images, Silu()(Affine(units=16)(y))))
    return Graph([x, y], Affine(units=10)(joined), loss=SoftmaxWithLoss(), seed=0)


# Net -> how it is made, inputs, targets, launches at most, and of them CuPy's copies.
# A recurrent layer has two launches for each step, forward and backward. A block of the GPT moves heads four times.
NETS = {
    "LSTM language model": (lambda: of_words(LSTM(100), 100), ids(35), ids(35), 82, 2),
    "GRU": (lambda: of_words(GRU(16)), ids(10), ids(10), 34, 2),
    "RNN": (lambda: of_words(RNN(16)), ids(10), ids(10), 32, 2),
    "both directions": (lambda: of_words(Bidirectional(LSTM(16))), ids(10), ids(10), 62, 10),
    "RnnLm": (lambda: RnnLm(WORDS, 16, 16, seed=0), ids(10), ids(10), 72, 11),
    "GPT": (lambda: gpt(tied=False), ids(128), ids(128), 149, 0),
    "GPT, tied": (gpt, ids(128), ids(128), 151, 1),
    "GPT, rotary": (lambda: gpt(rotary=True), ids(128), ids(128), 165, 1),
    "Seq2seq": (lambda: Seq2seq(WORDS, 16, 256, seed=0), ids(29), ids(11), 102, 10),
    "PeekySeq2seq": (lambda: PeekySeq2seq(WORDS, 16, 32, seed=0), ids(29), ids(11), 111, 16),
    "AttentionSeq2seq": (lambda: AttentionSeq2seq(WORDS, 16, 256, seed=0), ids(29), ids(11), 108, 10),
    "CBOW": (lambda: CBOW(WORDS, 16, 2, seed=0), RNG.integers(0, WORDS, (8, 4)), RNG.integers(0, WORDS, 8), 64, 6),
    "SkipGram": (
        lambda: SkipGram(WORDS, 16, 2, seed=0),
        RNG.integers(0, WORDS, 8),
        RNG.integers(0, WORDS, (8, 4)),
        61,
        5,
    ),
    "branches": (branches, (RNG.random((4, 1, 12, 12)), RNG.random((4, 6))), RNG.integers(0, 10, 4), 45, 6),
}


@pytest.mark.parametrize("name", NETS)
def test_a_step_has_no_more_launches_and_copies_nothing_from_or_to_the_host(backend, name):
    from hostcuda import core

    make, inputs, targets, most, copies = NETS[name]
    with backend.use("float32"):
        net, optimizer = make(), Adam()
    x = tuple(map(backend.asarray, inputs)) if isinstance(inputs, tuple) else backend.asarray(inputs)
    t, counts, kernels = backend.asarray(targets), [], []
    for _ in range(2):
        counts.append(core.counted())
        kernels.append(core.launches())
        with backend.rules():
            optimizer.update(net.params, net.gradient(x, t))
    after = core.counted()
    assert after["launches"] - counts[-1]["launches"] <= most
    assert [after[kind] - counts[-1][kind] for kind in ("reads", "waits")] == [0, 0]
    copied = [n - kernels[-1].get(kernel, 0) for kernel, n in core.launches().items() if "cupy_copy" in kernel]
    assert sum(copied) <= copies
