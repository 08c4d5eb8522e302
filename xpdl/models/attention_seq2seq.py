"""Sequences to sequences with attention: the model of the second volume's chapter 8."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from xpdl.backends.namespaces import Array, array_namespace
from xpdl.layers.base import Layer
from xpdl.models.architecture import register_layer
from xpdl.models.encoder_decoder import Decoder, encoder
from xpdl.models.seq2seq import Seq2seq
from xpdl.ops.activations import softmax, softmax_backward


class Attention(Layer):
    """Mean of states, weighted by how well each fits a query (the second volume's ch. 8.1; arXiv:1508.04025, "dot").

    ``weights = softmax(q hs^T)`` and ``y = weights hs``, for queries q (N, S, H) and states hs (N, T, H).
    """

    saved_names: ClassVar[tuple[str, ...]] = ("saved",)

    def __init__(self) -> None:
        super().__init__()
        self.saved: Any = None

    def forward(self, q: Array, hs: Array) -> Array:  # type: ignore[override]
        """(N, S, H); `weights` (N, S, T) are kept."""
        xp = array_namespace(q, hs)
        weights = softmax(xp.matmul(q, xp.matrix_transpose(hs)))
        self.saved = (q, hs, weights)
        return xp.matmul(weights, hs)

    def backward(self, dout: Array) -> tuple[Array, Array]:
        """``(dq, dhs)`` for `dout` (N, S, H)."""
        q, hs, weights = self.require_saved(self.saved)
        xp = array_namespace(dout, q)
        dscores = softmax_backward(xp.matmul(dout, xp.matrix_transpose(hs)), weights)
        dq = xp.matmul(dscores, hs)
        # states are the keys of the scores, and the values of the mean
        dhs = xp.matmul(xp.matrix_transpose(dscores), q) + xp.matmul(xp.matrix_transpose(weights), dout)
        return dq, dhs


class AttentionDecoder(Decoder):
    """A decoder that looks, at each step, at the states of the encoder that fit its own (the second volume's ch. 8.2)."""

    saved_names: ClassVar[tuple[str, ...]] = ("hs", "looked_at")

    def __init__(self, vocab_size: int, wordvec_size: int, hidden_size: int) -> None:
        super().__init__(vocab_size, wordvec_size, hidden_size, affine_inputs=2 * hidden_size)
        self.attention = Attention()
        self.hs: Array | None = None
        self.looked_at: Any = None

    def children(self) -> Iterator[tuple[str, Layer]]:
        yield from (("Embedding", self.embedding), ("LSTM", self.lstm), ("Attention", self.attention))
        yield "Affine", self.affine

    def begin(self, hs: Array) -> None:
        """Begin an answer with the states (N, T, H) of the encoder; the last is that of the LSTM."""
        super().begin(hs[:, -1, :])
        self.hs, self.looked_at = hs, []

    def scores(self, ids: Array) -> Array:
        y = self.lstm.forward(self.embedding.forward(ids))
        context = self.attention.forward(y, self.hs)
        self.looked_at.append(self.attention.saved[-1])
        return self.affine.forward(array_namespace(y).concat([context, y], axis=-1))

    def backward(self, dout: Array) -> Array:
        size, xp = self.lstm.units, array_namespace(dout)
        dout = self.affine.backward(dout)
        dcontext, dy = dout[..., :size], dout[..., size:]
        dq, dhs = self.attention.backward(dcontext)
        self.embedding.backward(self.lstm.backward(dy + dq))
        # the last state was also where the LSTM began
        last = dhs[:, -1:, :] + xp.expand_dims(self.lstm.dh, axis=1)
        return xp.concat([dhs[:, :-1, :], last], axis=1)


@register_layer
class AttentionSeq2seq(Seq2seq):
    """`Seq2seq` whose decoder looks at all states of the encoder by attention (the second volume's ch. 8; arXiv:1409.0473).

    At each step the decoder's state is compared with all states of the encoder, by dot products, and the affine map gets the
    mean of these states, weighted by the softmax of the products, beside its own. Parameters and methods are those of
    `Seq2seq`.

    Attributes
    ----------
    attention_weights : array (N, S, T) or None
        For each id of the answers of the last pass, in `predict`, `loss` or `generate`, the weights of the states of the
        question, which add up to 1. Of `generate` with many rows, those of the last 1,000 at most.

    Examples
    --------
    >>> net = AttentionSeq2seq(vocab_size=13, wordvec_size=16, hidden_size=32, seed=0)
    >>> net.generate(np.array([[1, 10, 2]]), start_id=12, sample_size=4).shape
    (1, 4)
    >>> net.attention_weights.shape
    (1, 4, 3)
    """

    @staticmethod
    def parts(vocab_size: int, wordvec_size: int, hidden_size: int) -> tuple[Any, Any]:
        sizes = (vocab_size, wordvec_size, hidden_size)
        return encoder(*sizes, return_sequences=True), AttentionDecoder(*sizes)

    decoder: AttentionDecoder

    @property
    def attention_weights(self) -> Array | None:
        steps = self.decoder.looked_at
        return None if not steps else array_namespace(*steps).concat(steps, axis=1)
