"""The number of launches of a training step of nets of sequences on the real CuPy, as in `test_launch_counts`."""

import pytest

from tests.backends.cupy.test_launch_counts import pytestmark
from xpdl import LSTM, Affine, Embedding, Sequential, SoftmaxWithLoss
from xpdl.bench import sequence_nets
from xpdl.bench.sequence_nets import SequenceNet, pair_of, prepared_sequences
from xpdl.optimizers import Adam

__all__ = ["pytestmark"]

# Net -> launches at most. An LSTM has two for each step, forward and backward; a block of the GPT has 11 copies, to and from
# the order of heads.
STEPS = {"LSTMLanguageModel100": 82, "GPT": 178, "AttentionSeq2seq": 109}


def language_model():
    """The one that is timed, with a vocabulary that is quick to emulate."""
    return Sequential(Embedding(50, 100), LSTM(100), Affine(units=50, axis=-1), loss=SoftmaxWithLoss, seed=0)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_has_no_more_launches(backend, name, monkeypatch):
    from hostcuda import core

    monkeypatch.setitem(sequence_nets.SEQUENCE_NETS, "LSTMLanguageModel100", SequenceNet(language_model, 35, 50))
    with backend.use("float32"):
        net, x, t = prepared_sequences(name, 2)
    pair = (x, t) if name == "AttentionSeq2seq" else pair_of(name, x, t)
    optimizer, counts = Adam(), []
    for _ in range(2):
        before = core.counted()["launches"]
        with backend.rules():
            optimizer.update(net.params, net.gradient(*pair))
        counts.append(core.counted()["launches"] - before)
    assert counts[-1] <= STEPS[name]
