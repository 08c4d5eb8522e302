"""The two tables of word vectors, and their loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from xpdl.backends import Backend, asnumpy
from xpdl.backends.namespaces import Array, array_namespace, dtype_name, on_its_device
from xpdl.backends.random import Stream
from xpdl.backends.subclasses import ids_cure
from xpdl.errors import DTypeError, ShapeError
from xpdl.layers.base import Layer, Shape
from xpdl.layers.building import stream_for
from xpdl.layers.candidate_scores import CandidateScores
from xpdl.layers.composite import Composite
from xpdl.layers.embedding import Embedding
from xpdl.layers.negative_sampling import NegativeSampling
from xpdl.layers.nodes import in_order
from xpdl.ops.checks import require_range

_INPUTS = ("words", "candidates")


class WordLoss(NegativeSampling):
    """Negative sampling whose targets are words, to which the model draws others."""

    classifies = False

    def __init__(self, count: int, context: tuple[int, ...]) -> None:
        super().__init__()
        self.count, self.context = count, context

    def check_targets(self, t: Array, output_shape: tuple[int, ...], owner: str) -> None:
        require_words(t, self.context, owner)
        require_range(asnumpy(t), self.count, owner)

    def correct(self, x: Array, t: Array) -> Array:
        raise TypeError(
            f"{self.name}: words have no accuracy, as those that they are told from are drawn; use the loss"
        )


class WordTables(Composite):
    """Two tables of word vectors: of the words that are given, and of those that are to be told from others.

    Parameters
    ----------
    vocab_size, hidden_size : int
    target_shape : tuple of int
        Of the words that a row is to tell.
    sample_size : int
        Wrong words for each right one.
    """

    takes_tuple: ClassVar[bool] = True
    aliases: Mapping[str, str] = {"Embedding.W": "W_in", "Scores.W": "W_out"}

    def __init__(self, vocab_size: int, hidden_size: int, target_shape: tuple[int, ...], sample_size: int) -> None:
        super().__init__()
        self.embedding = Embedding(vocab_size, hidden_size)
        self.scores = CandidateScores(vocab_size, hidden_size)
        self.target_shape, self.sample_size = target_shape, sample_size
        for name, layer in self.children():
            layer.set_name(name)

    def children(self) -> Iterator[tuple[str, Layer]]:
        yield from (("Embedding", self.embedding), ("Scores", self.scores))

    def takers_of_ids(self, key: Any) -> list[Any]:
        places = {"Embedding": (None, 0, _INPUTS[0]), "Scores": (1, _INPUTS[1])}
        return [layer for name, layer in self.children() if key in places[name]]

    def build(self, input_shape: Any = None, *, stream: Stream | None = None, backend: Backend | None = None) -> Shape:
        """As in `Layer.build`; all sizes are known."""
        stream = stream_for(self, stream)
        for name, layer in self.children():
            layer.build((1,), stream=stream.child(name), backend=backend)
        return self.output_shape()

    def output_shape(self, input_shape: Any = None) -> Shape:
        return (*self.target_shape, 1 + self.sample_size)

    @on_its_device
    def forward(self, x: Any, train_flg: bool | None = None) -> Array:
        """Scores (N, ..., K) for a pair: words, and candidates (N, ..., K)."""
        words, candidates = in_order(x, _INPUTS, self.name, "inputs")
        return self.scores.forward(self.hidden(words), candidates)

    @on_its_device
    def backward(self, dout: Array) -> tuple[None, None]:
        """Fill the gradients of both tables for `dout` of the shape of the scores."""
        self.hidden_backward(self.scores.backward(dout))
        return None, None

    def hidden(self, words: Array) -> Array:
        """Return a vector for each row of words."""
        raise NotImplementedError

    def hidden_backward(self, dh: Array) -> None:
        """Fill the gradient of the table of the inputs."""
        raise NotImplementedError


def require_words(ids: Any, shape: tuple[int, ...], owner: str) -> None:
    """Require integers (N, ...) with rows of a shape."""
    xp = array_namespace(ids, owner=owner)
    if tuple(ids.shape[1:]) != shape or ids.ndim == 0:
        raise ShapeError(
            f"{owner}: expected ids of words (N{''.join(f', {size}' for size in shape)}), got shape {tuple(ids.shape)}; "
            "CBOW takes contexts, then the word to tell, SkipGram the word, then its contexts"
        )
    if not xp.isdtype(ids.dtype, "integral"):
        raise DTypeError(f"{owner}: expected ids of words, got {dtype_name(ids.dtype)}; {ids_cure(ids)}")
