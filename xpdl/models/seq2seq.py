"""Sequences to sequences: the models of the second volume's chapter 7."""

from __future__ import annotations

from typing import Any, ClassVar

from xpdl.backends.namespaces import Array, array_namespace, device, is_array
from xpdl.errors import ShapeError
from xpdl.layers.losses import SoftmaxWithLoss
from xpdl.models import placement
from xpdl.models.architecture import register_layer
from xpdl.models.base import Model
from xpdl.models.batched import batched, share_correct
from xpdl.models.encoder_decoder import Decoder, EncoderDecoder, encoder
from xpdl.ops.checks import integer, positive_int
from xpdl.ops.targets import check_positions

_GENERATED_ROWS = 1000


@register_layer
class AnswerLoss(SoftmaxWithLoss):
    """Softmax and cross entropy of answers, whose first id is where they start and is no target."""

    def check_targets(self, t: Array, output_shape: tuple[int, ...], owner: str) -> None:
        require_answers(t, owner)
        check_positions(t, (t.shape[1], output_shape[-1]), owner, self.ignore_label)


@register_layer
class Seq2seq(Model, EncoderDecoder):  # type: ignore[misc]
    """Encoder and decoder, each an embedding and an LSTM, for answers to questions (the second volume's ch. 7).

    The encoder reads a question, and the decoder begins with its last state, and writes the answer, one id after the other.

    Parameters
    ----------
    vocab_size : int
        V; ids of questions and answers go from 0 to ``V - 1``.
    wordvec_size : int
        D, of a word vector.
    hidden_size : int
        H, of the states of both LSTM.
    seed : int, optional
        Of initial weights; by default they follow `xpdl.seed`.

    Attributes
    ----------
    params : mapping
        ``"Encoder.Embedding.W"``, ``"Encoder.LSTM.Wx"``, ..., ``"Decoder.Affine.W"``.
    encoder, decoder
    last_layer : LossLayer
    last_loss : array () or None
        The loss that the last `gradient` computed on its way, on the device.

    Notes
    -----
    Questions are ids (N, T), answers (N, S), which begin with the id that starts every answer, such as ``_``. In
    `loss` and `gradient` the decoder gets ``t[:, :-1]``, and ``t[:, 1:]`` are the targets; in `generate` it gets the id that
    it has given before. The accuracy is the share of answers that are right in all ids.

    Reversed questions, ``x[:, ::-1]``, are learned better: their beginning is then nearer to that of the answer.

    Examples
    --------
    >>> net = Seq2seq(vocab_size=13, wordvec_size=16, hidden_size=32, seed=0)
    >>> x, t = np.array([[1, 10, 2], [4, 10, 5]]), np.array([[12, 3], [12, 9]])
    >>> net.predict((x, t[:, :-1])).shape
    (2, 1, 13)
    >>> optimizer = Adam(lr=0.05)
    >>> for _ in range(20):
    ...     optimizer.update(net.params, net.gradient(x, t))
    >>> net.generate(x, start_id=12, sample_size=1)
    array([[3],
           [9]])
    """

    def __init__(self, vocab_size: int, wordvec_size: int, hidden_size: int, *, seed: int | None = None) -> None:
        given = {"vocab_size": vocab_size, "wordvec_size": wordvec_size, "hidden_size": hidden_size}
        sizes = {name: positive_int(value, name, type(self).__name__) for name, value in given.items()}
        super().__init__(*self.parts(**sizes), loss=AnswerLoss, seed=seed)
        self.config = sizes
        self.build((1,))

    @staticmethod
    def parts(vocab_size: int, wordvec_size: int, hidden_size: int) -> tuple[Any, Any]:
        """Return the encoder and the decoder."""
        sizes = (vocab_size, wordvec_size, hidden_size)
        return encoder(*sizes, return_sequences=False), Decoder(*sizes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}

    def loss(self, x: Array, t: Array, train_flg: bool = False, sample_weight: Array | None = None) -> Array:
        """The mean loss of all ids after the first of answers `t` (N, S) to `x` (N, T), an array ().

        `sample_weight` is of the rows (N,), or of the ids after the first (N, S - 1), such as 0 for padding.
        """
        require_answers(t, f"{self.name}: t")
        return super().loss((x, t[:, :-1]), t[:, 1:], train_flg, sample_weight)

    def accuracy(self, x: Array, t: Array, batch_size: int = 100) -> float:
        """Share of the answers to `x` (N, T) that are `t` (N, S) in all ids after the first."""
        owner = f"{self.name}.accuracy"
        x, t = placement.rows(self, x, owner), placement.rows(self, t, f"{owner}: t")
        require_answers(t, f"{owner}: t")

        def correct(x: Array, t: Array) -> tuple[Array, None]:
            t = self._moved(t)
            answers = self.generate(self._moved(x), t[:, 0], t.shape[1] - 1)
            xp = array_namespace(answers)
            return xp.all(answers == t[:, 1:], axis=1), None

        with self._on_its_device():
            return share_correct(correct, x, t, batch_size, owner)

    def generate(self, x: Array, start_id: int | Array, sample_size: int) -> Array:
        """Answer questions, each id being the one of the highest score.

        Parameters
        ----------
        x : integer array (N, T) of any library, or list
            Questions.
        start_id : int, or integer array (N,)
            The first input of the decoder, which is not part of what is returned.
        sample_size : int
            Ids of an answer.

        Returns
        -------
        integer array (N, sample_size)
            Of the library of `x`.
        """
        owner = f"{self.name}.generate"
        x = placement.rows(self, x, owner)
        size = positive_int(sample_size, "sample_size", owner)
        if is_array(x) and x.ndim != 2:
            raise ShapeError(
                f"{owner}: x must be questions (N, T), got shape {tuple(x.shape)}; x[None] makes a batch of one"
            )
        if not is_array(start_id):
            xp, start = array_namespace(x), integer(start_id, "start_id", owner)
            start_id = xp.full((x.shape[0],), start, device=device(x))

        def answered(rows: tuple[Array, Array]) -> Array:
            questions, starts = self._moved(rows)
            answers = self.decoder.generate(self.encoder.forward(questions, False), starts, size)
            return placement.answered(answers, rows[0], self._first_parameter())

        with self._on_its_device():
            return batched(answered, (x, start_id), _GENERATED_ROWS)


class PeekyDecoder(Decoder):
    """A decoder that sees the encoder's last state at every step (the second volume's ch. 7.4.2).

    Its LSTM gets ``(h, word vector)``, its affine map ``(h, state)``.
    """

    saved_names: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(self, vocab_size: int, wordvec_size: int, hidden_size: int) -> None:
        inputs = {"lstm_inputs": hidden_size + wordvec_size, "affine_inputs": 2 * hidden_size}
        super().__init__(vocab_size, wordvec_size, hidden_size, **inputs)
        self.h: Array | None = None

    def begin(self, hs: Array) -> None:
        super().begin(hs)
        self.h = hs

    def scores(self, ids: Array) -> Array:
        y = self.lstm.forward(self._beside(self.embedding.forward(ids)))
        return self.affine.forward(self._beside(y))

    def backward(self, dout: Array) -> Array:
        size, xp = self.lstm.units, array_namespace(dout)
        dout = self.affine.backward(dout)
        dh_of_affine, dout = dout[..., :size], dout[..., size:]
        dout = self.lstm.backward(dout)
        dh_of_lstm, dout = dout[..., :size], dout[..., size:]
        self.embedding.backward(dout)
        # h was an input of every step, besides the state that the LSTM began with
        return self.lstm.dh + xp.sum(dh_of_affine + dh_of_lstm, axis=1)

    def _beside(self, a: Array) -> Array:
        """``(h, a)`` at each step of `a` (N, S, F)."""
        xp = array_namespace(a)
        h = xp.expand_dims(self.h, axis=1)
        return xp.concat([xp.broadcast_to(h, (*a.shape[:2], h.shape[-1])), a], axis=-1)


@register_layer
class PeekySeq2seq(Seq2seq):
    """`Seq2seq` whose decoder sees the encoder's last state at every step, in its LSTM and its affine map.

    Parameters and methods are those of `Seq2seq` (the second volume's ch. 7.4.2; arXiv:1406.1078).

    Examples
    --------
    >>> net = PeekySeq2seq(vocab_size=13, wordvec_size=16, hidden_size=32, seed=0)
    >>> net.params["Decoder.LSTM.Wx"].shape, net.params["Decoder.Affine.W"].shape
    ((48, 128), (64, 13))
    """

    @staticmethod
    def parts(vocab_size: int, wordvec_size: int, hidden_size: int) -> tuple[Any, Any]:
        sizes = (vocab_size, wordvec_size, hidden_size)
        return encoder(*sizes, return_sequences=False), PeekyDecoder(*sizes)


def require_answers(t: Any, owner: str) -> None:
    """Refuse what are no sequences of a start id and at least one more."""
    if not is_array(t):
        raise TypeError(f"{owner}: expected an array of ids (N, S), got {type(t).__name__}")
    if t.ndim != 2 or t.shape[1] < 2:
        raise ShapeError(
            f"{owner}: expected answers (N, S), a start id and the ids after it, got shape {tuple(t.shape)}"
        )
