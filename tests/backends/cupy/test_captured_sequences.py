"""Nets of sequences in captured steps: bitwise identical to uncaptured ones, and without a read by the host."""

import numpy as np
import pytest

from tests.backends.cupy.test_captured_steps import BATCH, ROWS, both, graphs
from xpdl import GRU, LSTM, RNN, Affine, Embedding, LayerNormalization, Sequential, SoftmaxWithLoss
from xpdl.backends.cupy import capture as captures
from xpdl.models import GPT, AttentionSeq2seq, Seq2seq

__all__ = ["graphs"]
pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]
LENGTH, VOCABULARY = 5, 7


def of_words(layer):
    layers = Embedding(VOCABULARY, 4), layer(3), LayerNormalization(), Affine(units=VOCABULARY, axis=-1)
    return Sequential(*layers, loss=SoftmaxWithLoss, seed=0)


NETS = {
    "RNN": lambda: of_words(RNN),
    "LSTM": lambda: of_words(LSTM),
    "GRU": lambda: of_words(GRU),
    "GPT": lambda: GPT(VOCABULARY, context=LENGTH, width=8, heads=2, depth=2, seed=0),
    "Seq2seq": lambda: Seq2seq(VOCABULARY, 4, 3, seed=0),
    "AttentionSeq2seq": lambda: AttentionSeq2seq(VOCABULARY, 4, 3, seed=0),
}


@pytest.mark.parametrize("name", NETS)
def test_a_net_of_sequences_is_captured(backend, graphs, name):
    rng = np.random.default_rng(3)
    x, t = rng.integers(0, VOCABULARY, (2, ROWS, LENGTH))
    ours = both(backend, NETS[name], x, t)
    assert ours.step.problem is None
    assert graphs == [2 * (ROWS // BATCH) - captures.Recorder.warm_up]
