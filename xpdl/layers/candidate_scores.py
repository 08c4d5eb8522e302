"""Output vectors of words, and the scores of some of them: the second volume's ``EmbeddingDot``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xpdl.backends import Backend
from xpdl.backends.namespaces import Array, array_namespace
from xpdl.backends.random import Stream
from xpdl.layers.base import Shape
from xpdl.layers.building import stream_for
from xpdl.layers.embedding import Embedding
from xpdl.ops import candidate_scores as ops


class CandidateScores(Embedding):
    """A table of vectors, of which each input is multiplied with some: ``y[n, k] = h[n] @ W[ids[n, k]]``.

    Parameters
    ----------
    count, units : int

    Notes
    -----
    `state` has the stream of the random numbers that candidates are drawn by, and the number of draws, for checkpoints.
    """

    #: names of `state` that no batch changes: several ranks do not average them
    constant_state: ClassVar[tuple[str, ...]] = ("counts",)
    saved_names: ClassVar[tuple[str, ...]] = ("h", "ids")

    def __init__(self, count: int, units: int) -> None:
        super().__init__(count, units)
        self.h: Array | None = None
        self.state["draws"] = 0

    def build(
        self, input_shape: Sequence[int | None], *, stream: Stream | None = None, backend: Backend | None = None
    ) -> Shape:
        """As in `Layer.build`, and a stream for the candidates."""
        if "stream" not in self.state:
            self.state["stream"] = stream_for(self, stream).words("candidates")
        return super().build(input_shape, stream=stream, backend=backend)

    def forward(self, h: Array, ids: Array) -> Array:  # type: ignore[override]
        """Scores (N, ..., K) of vectors `h` (N, units) and the rows `ids` (N, ..., K)."""
        array_namespace(h, ids, self.W, owner=self.name)
        self.h, self.ids = h, ids
        return ops.candidate_scores(h, self.W, ids)

    def backward(self, dout: Array) -> Array:
        """``dh`` for `dout` (N, ..., K); fills ``dW``."""
        ids = self.require_saved(self.ids)
        self.require_dout(dout, tuple(ids.shape), self.h)
        dh, dW = ops.candidate_scores_backward(dout, self.h, self.W, ids, need_dW=self.trainable)
        self.grads = {"W": dW} if self.trainable else {}
        return dh
