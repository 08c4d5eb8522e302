"""Nets of sequences, graphs and losses on device 1 while device 0 is the current one: as on device 0."""

import copy

import numpy as np
import pytest

import xpdl
from tests.backends.cupy import test_two_devices
from tests.harness import nonempty
from xpdl import (
    CBOW,
    GPT,
    GRU,
    LSTM,
    RNN,
    Adam,
    Add,
    Affine,
    AttentionSeq2seq,
    Bidirectional,
    Concatenate,
    Elu,
    Embedding,
    GaussianKL,
    Gelu,
    GlobalMaxPooling,
    Graph,
    GroupNormalization,
    Hinge,
    Huber,
    Input,
    LayerNormalization,
    LeakyRelu,
    LearnedPositions,
    LogSoftmax,
    MeanAbsoluteError,
    MeanSquaredError,
    MixedPrecision,
    MultiHeadAttention,
    Multiply,
    NegativeSampling,
    PeekySeq2seq,
    Permute,
    Reshape,
    RMSNormalization,
    RnnLm,
    Seq2seq,
    Sequential,
    SigmoidWithLoss,
    Silu,
    SinusoidalPositions,
    SkipGram,
    Slice,
    Softmax,
    SoftmaxWithLoss,
    Softplus,
    Trainer,
)

current = test_two_devices.current
pytestmark = [pytest.mark.gpu, pytest.mark.exhaustive, pytest.mark.parametrize("current", [0], indirect=True)]
RNG, V, ROWS, STEPS = np.random.default_rng(0), 7, 6, 5
WORDS, NEXT, ANSWERS = (RNG.integers(0, V, (ROWS, steps)) for steps in (STEPS, STEPS, 4))
CENTRES, CONTEXTS = RNG.integers(0, V, ROWS), RNG.integers(0, V, (ROWS, 2))
CORPUS = RNG.integers(0, V, 40)
SEQUENCES, NUMBERS = RNG.normal(size=(ROWS, STEPS, 4)).astype("float32"), RNG.normal(size=(ROWS, 3)).astype("float32")
IMAGES, LABELS = RNG.normal(size=(ROWS, 4, 6, 6)).astype("float32"), RNG.integers(0, 3, ROWS)


def of_words(*layers):
    return lambda: Sequential(
        Embedding(V, 4), *copy.deepcopy(layers), Affine(units=V, axis=-1), loss=SoftmaxWithLoss, seed=0
    )


def of_rows(*layers, loss=SoftmaxWithLoss):
    return lambda: Sequential(*copy.deepcopy(layers), loss=loss, seed=0)


def branches():
    x, words = Input((4, 6, 6)), Input((STEPS,))
    a = GlobalMaxPooling()(Softplus()(x))
    h = LSTM(4, return_sequences=False)(MultiHeadAttention(2)(Embedding(V, 4)(words)))
    b = Slice(0, 3)(Reshape((4,))(h))
    joined = Concatenate()(a, Multiply()(h, a), Add()(h, a), b, *(Gelu()(a) for _ in range(9)))
    return Graph([x, words], Affine(units=3)(joined), loss=SoftmaxWithLoss(), seed=0)


#: how it is made, inputs, targets
NETS = {
    "RNN": (of_words(RNN(3), LayerNormalization()), WORDS, NEXT),
    "LSTM, stateful": (of_words(LSTM(3, stateful=True)), WORDS, NEXT),
    "GRU": (of_words(GRU(3), RMSNormalization()), WORDS, NEXT),
    "both directions": (of_words(Bidirectional(GRU(3))), WORDS, NEXT),
    "positions": (of_words(SinusoidalPositions(), LearnedPositions(STEPS), MultiHeadAttention(2, True)), WORDS, NEXT),
    "RnnLm": (lambda: RnnLm(V, 4, 4, 0.2, seed=0), WORDS, NEXT),
    "Seq2seq": (lambda: Seq2seq(V, 3, 4, seed=0), WORDS, ANSWERS),
    "PeekySeq2seq": (lambda: PeekySeq2seq(V, 3, 4, seed=0), WORDS, ANSWERS),
    "AttentionSeq2seq": (lambda: AttentionSeq2seq(V, 3, 4, seed=0), WORDS, ANSWERS),
    "GPT": (lambda: GPT(V, STEPS, 4, 2, 1, dropout=0.1, seed=0), WORDS, NEXT),
    "GPT, rotary": (lambda: GPT(V, STEPS, 4, 2, 1, rotary=True, tied=False, seed=0), WORDS, NEXT),
    "CBOW": (lambda: CBOW(V, 4, 1, CORPUS, seed=0), CONTEXTS, CENTRES),
    "SkipGram": (lambda: SkipGram(V, 4, 1, CORPUS, seed=0), CENTRES, CONTEXTS),
    "branches": (branches, (IMAGES, WORDS), LABELS),
    "activations": (
        of_rows(
            Affine(units=6), LeakyRelu(), Elu(), Silu(), Gelu(), Softplus(), Softmax(), LogSoftmax(), Affine(units=3)
        ),
        NUMBERS,
        LABELS,
    ),
    "images": (
        of_rows(GroupNormalization(2), Permute((2, 3, 1)), Affine(units=4, axis=-1), Affine(units=3)),
        IMAGES,
        LABELS,
    ),
    "ignored labels": (
        lambda: Sequential(GRU(3), Affine(units=V, axis=-1), loss=SoftmaxWithLoss(ignore_label=-1), seed=0),
        SEQUENCES,
        np.where(NEXT == 2, -1, NEXT),
    ),
    "mean squared": (of_rows(Affine(units=3), loss=MeanSquaredError), SEQUENCES, NUMBERS),
    "mean absolute": (of_rows(Affine(units=3), loss=MeanAbsoluteError), SEQUENCES, NUMBERS),
    "Huber": (of_rows(Affine(units=3), loss=Huber), SEQUENCES, NUMBERS),
    "hinge": (of_rows(Affine(units=3), loss=Hinge), SEQUENCES, LABELS),
    "sigmoid": (of_rows(Affine(units=3), loss=SigmoidWithLoss), SEQUENCES, (NUMBERS > 0).astype("float32")),
    "negative sampling": (of_rows(Affine(units=3), loss=NegativeSampling), SEQUENCES, LABELS),
    "divergence": (of_rows(Affine(units=6), loss=GaussianKL), SEQUENCES, None),
}


def on(backend, value):
    if isinstance(value, tuple):
        return tuple(map(backend.asarray, value))
    return None if value is None else backend.asarray(value)


def stepped(name, device, mixed):
    """The loss and the parameters after two steps, and the scores; with loss scaling where `mixed`."""
    make, x, t = NETS[name]
    with xpdl.use("cupy", device=device) as backend:
        net, optimizer = make(), Adam(0.01)
        x, t = on(backend, x), on(backend, t)
        if not net.built:
            net.build_for(x)
    precision = MixedPrecision("float16", scale=8.0) if mixed else None
    losses = []
    for _ in range(2):
        if precision is None:
            optimizer.update(net.params, net.gradient(x, t))
        else:
            precision.update(optimizer, net.params, precision.gradient(net, x, t))
        losses.append(net.last_loss)
    return [*losses, *net.state_dict().values()]


IN_HALF = ("both directions", "GPT, rotary", "AttentionSeq2seq", "SkipGram", "branches", "ignored labels")


@pytest.mark.parametrize(("name", "mixed"), [*((name, False) for name in NETS), *((name, True) for name in IN_HALF)])
def test_steps_are_those_on_another_device(current, name, mixed):
    ours, theirs = (stepped(name, device, mixed) for device in (1, 0))
    for one, other in zip(nonempty(ours), theirs, strict=True):
        assert isinstance(one, type(other))
        if hasattr(one, "get"):
            assert int(one.device.id) == 1
            np.testing.assert_array_equal(one.get(), other.get())


GENERATED = {
    "GPT": lambda net, ids: net.generate(ids, 6, seed=0),
    "GPT, rotary": lambda net, ids: net.generate(ids, 6, temperature=0.8, top_k=4, top_p=0.9, stop=6, seed=0),
    "RnnLm": lambda net, ids: net.generate(ids, 6, seed=0),
    "Seq2seq": lambda net, ids: net.generate(ids, 0, 4),
    "PeekySeq2seq": lambda net, ids: net.generate(ids, 0, 4),
    "AttentionSeq2seq": lambda net, ids: net.generate(ids, 0, 4),
}


@pytest.mark.parametrize("name", GENERATED)
def test_texts_are_those_on_another_device(current, name):
    texts = []
    for device in (1, 0):
        with xpdl.use("cupy", device=device) as backend:
            net = NETS[name][0]()
        text = GENERATED[name](net, backend.asarray(WORDS[:2]))
        if name != "RnnLm":  # which gives a list
            assert int(text.device.id) == device
        texts.append(xpdl.asnumpy(text) if name != "RnnLm" else text)
    np.testing.assert_array_equal(*texts)


@pytest.mark.parametrize("name", ["GPT", "LSTM, stateful", "AttentionSeq2seq", "branches", "SkipGram"])
def test_a_training_is_that_on_another_device(current, name):
    make, x, t = NETS[name]
    histories = []
    for device in (1, 0):
        with xpdl.use("cupy", device=device):
            trainer = Trainer(make(), x, t, x, t, 2, 3, "adam", {}, verbose=False, seed=0)
        trainer.train()
        histories.append((trainer.history.train_loss_list, trainer.history.test_acc_list))
        assert test_two_devices.numbers(a for a in trainer.network.state_dict().values() if hasattr(a, "device")) == {
            device
        }
    assert histories[0] == histories[1]
