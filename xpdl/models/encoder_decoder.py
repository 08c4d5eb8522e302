"""Encoder and decoder, of which the models of sequences to sequences are made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array, array_namespace, is_array, on_its_device
from xpdl.backends.random import Stream
from xpdl.errors import ShapeError
from xpdl.layers.affine import Affine
from xpdl.layers.base import Layer, Shape
from xpdl.layers.building import stream_for
from xpdl.layers.chain import Chain
from xpdl.layers.composite import Composite
from xpdl.layers.embedding import Embedding
from xpdl.layers.nodes import in_order
from xpdl.layers.recurrent import LSTM

#: names of the inputs
_INPUTS = ("x", "t")


class Decoder(Composite):
    """Embedding, LSTM and affine map: scores of the next id at each place of an answer (the second volume's ch. 7.3).

    The LSTM begins with the last state of the encoder, which is all that the decoder knows of the question.

    Parameters
    ----------
    vocab_size, wordvec_size, hidden_size : int
    lstm_inputs, affine_inputs : int, optional
        Sizes of what the two layers get, where that is more than a word vector and a state.
    """

    saved_names: ClassVar[tuple[str, ...]] = ("_length",)

    def __init__(
        self,
        vocab_size: int,
        wordvec_size: int,
        hidden_size: int,
        *,
        lstm_inputs: int | None = None,
        affine_inputs: int | None = None,
    ) -> None:
        super().__init__()
        self.embedding = Embedding(vocab_size, wordvec_size)
        self.lstm = LSTM(hidden_size)
        self.affine = Affine(units=vocab_size, init="xavier", axis=-1)
        self._sizes = lstm_inputs or wordvec_size, affine_inputs or hidden_size

    def children(self) -> Iterator[tuple[str, Layer]]:
        yield from (("Embedding", self.embedding), ("LSTM", self.lstm), ("Affine", self.affine))

    def build(self, input_shape: Any = None, *, stream: Stream | None = None, backend: Backend | None = None) -> Shape:
        """As in `Layer.build`; sizes are known, and `input_shape` tells nothing."""
        stream = stream_for(self, stream)
        shapes = {"Embedding": (1,), "LSTM": (1, self._sizes[0]), "Affine": (1, self._sizes[1])}
        for name, layer in self.children():
            layer.build(shapes.get(name, ()), stream=stream.child(name), backend=backend)
        return self.output_shape()

    def output_shape(self, input_shape: Any = None) -> Shape:
        """The scores of one id."""
        return (self.embedding.count,)

    def forward(  # type: ignore[override]
        self, ids: Array, hs: Array, train_flg: bool | None = None
    ) -> Array:
        """Scores (N, S, V) of what follows each of `ids` (N, S), after a question that the encoder made `hs` of."""
        self.begin(hs)
        scores = self.scores(ids)
        self.lstm.reset_state()
        return scores

    def backward(self, dout: Array) -> Array:
        """The gradient of `hs` for `dout` (N, S, V)."""
        dout = self.lstm.backward(self.affine.backward(dout))
        self.embedding.backward(dout)
        return self.lstm.dh

    def generate(self, hs: Array, ids: Array, size: int) -> Array:
        """Ids (N, size) of the highest scores, one after the other, each of which is the input of the next step."""
        xp, answer = array_namespace(hs), []
        self.lstm.stateful = True
        self.begin(hs)
        try:
            for _ in range(size):
                scores = self.scores(xp.expand_dims(ids, axis=1))
                ids = xp.argmax(scores[:, 0, :], axis=-1)
                answer.append(ids)
        finally:
            self.lstm.stateful = False
            self.lstm.reset_state()
        return xp.stack(answer, axis=1)

    def begin(self, hs: Array) -> None:
        """Begin an answer with what the encoder gave: its last state (N, H)."""
        self.lstm.h, self.lstm.c = hs, None

    def scores(self, ids: Array) -> Array:
        """Go on with an answer by `ids` (N, S)."""
        return self.affine.forward(self.lstm.forward(self.embedding.forward(ids)))


class EncoderDecoder(Composite):
    """An encoder and a decoder: one reads questions, the other writes answers.

    Parameters
    ----------
    encoder : Chain
    decoder : Decoder
    """

    takes_tuple: ClassVar[bool] = True
    inputs = _INPUTS

    def __init__(self, encoder: Chain, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        for name, layer in self.children():
            layer.set_name(name)

    def children(self) -> Iterator[tuple[str, Layer]]:
        yield from (("Encoder", self.encoder), ("Decoder", self.decoder))

    def takers_of_ids(self, key: Any) -> list[Any]:
        ends = {"Encoder": (None, 0, _INPUTS[0]), "Decoder": (None, 1, _INPUTS[1])}
        return [taker for name, end in self.children() if key in ends[name] for taker in end.takers_of_ids(None)]

    def build(self, input_shape: Any = None, *, stream: Stream | None = None, backend: Backend | None = None) -> Shape:
        """As in `Layer.build`; sizes are known, and sequences may be of any length."""
        stream = stream_for(self, stream)
        for name, layer in self.children():
            layer.build((1,), stream=stream.child(name), backend=backend)
        return self.output_shape()

    def output_shape(self, input_shape: Any = None) -> Shape:
        """The scores of one id; sequences of ids are as long as what the decoder gets."""
        return self.decoder.output_shape()

    @on_its_device
    def forward(self, x: Any, train_flg: bool | None = None) -> Array:
        """Scores (N, S, V) for a pair: questions (N, T), and the answers (N, S) so far, from the start id on."""
        if not isinstance(x, (tuple, list, dict)):
            raise TypeError(
                f"{self.name}: expected a pair, questions and answers so far, got {type(x).__name__}; "
                "generate(x, start_id, sample_size) answers questions"
            )
        questions, answers = in_order(x, _INPUTS, self.name, "inputs")
        self._check_rows(questions, answers)
        return self.decoder.forward(answers, self.encoder.forward(questions, train_flg), train_flg)

    def _check_rows(self, questions: Any, answers: Any) -> None:
        """Refuse what are no ids (N, T) and (N, S) of as many rows; what is no array, an embedding refuses."""
        if is_array(questions) and is_array(answers):
            shapes = tuple(questions.shape), tuple(answers.shape)
            if len(shapes[0]) != 2 or len(shapes[1]) != 2 or shapes[0][0] != shapes[1][0]:
                raise ShapeError(
                    f"{self.name}: expected questions (N, T) and answers (N, S), got shapes {shapes[0]} and {shapes[1]}; "
                    "x[None] makes a batch of one row"
                )

    @on_its_device
    def backward(self, dout: Array) -> tuple[None, None]:
        """Fill all gradients for `dout` (N, S, V); ids have none."""
        self.encoder.backward(self.decoder.backward(dout))
        return None, None


def encoder(vocab_size: int, wordvec_size: int, hidden_size: int, *, return_sequences: bool) -> Chain:
    """Embedding and LSTM, which give the last state (N, H), or all of them (N, T, H)."""
    lstm = LSTM(hidden_size, return_sequences=return_sequences)
    return Chain(("Embedding", Embedding(vocab_size, wordvec_size)), ("LSTM", lstm))
