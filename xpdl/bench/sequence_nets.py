"""The nets of sequences that are timed, each with the length and the vocabulary of its ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from xpdl.backends import get_backend
from xpdl.backends.random import Stream
from xpdl.layers import LSTM, Affine, Embedding, SoftmaxWithLoss
from xpdl.models import GPT, AttentionSeq2seq, Sequential


class SequenceNet(NamedTuple):
    """A net for sequences of ids.

    Attributes
    ----------
    build : callable
    length, vocabulary : int
        Of random ids (N, length).
    answer : int or None
        Ids of a target that has a length of its own, the first of which starts it; otherwise targets are as long as inputs.
    """

    build: Callable[[], Sequential | AttentionSeq2seq]
    length: int
    vocabulary: int
    answer: int | None = None


def _language_model(units: int) -> Sequential:
    """The second volume's ``Rnnlm``: embedding, LSTM and affine map, with 10,000 words."""
    layers = Embedding(10_000, units), LSTM(units), Affine(units=10_000, axis=-1, init="xavier")
    return Sequential(*layers, loss=SoftmaxWithLoss, seed=0)


SEQUENCE_NETS = {
    "LSTMLanguageModel100": SequenceNet(lambda: _language_model(100), 35, 10_000),
    "LSTMLanguageModel650": SequenceNet(lambda: _language_model(650), 35, 10_000),
    "GPT": SequenceNet(lambda: GPT(80, context=128, width=128, heads=4, depth=4, tied=False, seed=0), 128, 80),
    "AttentionSeq2seq": SequenceNet(lambda: AttentionSeq2seq(59, 16, 256, seed=0), 29, 59, answer=11),
}


def prepared_sequences(net: str, batch_size: int) -> tuple[Any, Any, Any]:
    """A net of `SEQUENCE_NETS` on the backend in use, and a random batch with targets for it."""
    build, length, vocabulary, answer = SEQUENCE_NETS[net]
    generator, backend = Stream(0, "bench").generator("ids"), get_backend()
    x, t = (backend.asarray(generator.integers(0, vocabulary, (batch_size, n))) for n in (length, answer or length))
    network = build()
    network.build((length,))
    return network, x, t


def pair_of(net: str, x: Any, t: Any) -> tuple[Any, Any]:
    """Inputs and targets of one pass: of answers, the ids before and the ids that follow."""
    if net in SEQUENCE_NETS and SEQUENCE_NETS[net].answer is not None:
        return (x, t[:, :-1]), t[:, 1:]
    return x, t
