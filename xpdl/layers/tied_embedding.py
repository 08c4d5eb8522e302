"""An embedding whose table also scores its rows, at the end of a language model."""

from __future__ import annotations

from typing import ClassVar

from xpdl.backends.namespaces import Array, array_namespace
from xpdl.errors import ShapeError
from xpdl.layers.base import Layer, Make, Shape, gradient, parameter
from xpdl.layers.embedding import Embedding
from xpdl.ops.affine import affine, affine_backward
from xpdl.ops.arithmetic import add
from xpdl.ops.checks import flag, require_floating
from xpdl.ops.positions import rows_of
from xpdl.ops.precision import summed


class TiedEmbedding(Embedding):
    """`Embedding` that shares its table with `TiedScores` (arXiv:1608.05859); ``dW`` is the sum of both gradients.

    The scores come after the embedding, so that they go back before it.
    """

    saved_names: ClassVar[tuple[str, ...]] = ("ids", "dW_of_scores")
    dW_of_scores: Array | None = None

    def backward(self, dout: Array) -> None:
        """Fill ``dW`` for `dout` (N, ..., units) and the scores, and return None."""
        super().backward(dout)
        if self.trainable:
            self.grads["W"] = add(self.grads["W"], self.require_saved(self.dW_of_scores))
        self.dW_of_scores = None


class TiedScores(Layer):
    """Scores of the rows of an embedding: ``y = x W^T``, or ``x W^T + b``, with its table W (count, units).

    Parameters
    ----------
    embedding : TiedEmbedding
        It stands earlier in the same model.
    use_bias : bool
        Whether there is a `b` (count,), the only parameter of its own.

    Raises
    ------
    TypeError
        If `embedding` is no `TiedEmbedding`.

    Notes
    -----
    An input (N, ..., units) gives (N, ..., count).
    """

    b, db = parameter("b"), gradient("b")

    def __init__(self, embedding: TiedEmbedding, *, use_bias: bool = False) -> None:
        super().__init__()
        if not isinstance(embedding, TiedEmbedding):
            raise TypeError(f"{self.name}: embedding must be a TiedEmbedding, got {type(embedding).__name__}")
        self.embedding = embedding
        self.use_bias = flag(use_bias, "use_bias", self.name)
        self.x: Array | None = None

    @property
    def built(self) -> bool:
        return not self.use_bias or "b" in self.params

    @property
    def trains(self) -> bool:
        return self.embedding.trains or super().trains

    def output_shape(self, input_shape: Shape) -> Shape:
        if not input_shape or input_shape[-1] != self.embedding.units:
            units = self.embedding.units
            raise ShapeError(f"{self.name}: expected vectors (N, ..., {units}), got rows of shape {input_shape}")
        return (*input_shape[:-1], self.embedding.count)

    def create_parameters(self, input_shape: Shape, make: Make) -> None:
        if self.use_bias:
            self.params["b"] = make("b", (self.embedding.count,), "zeros")

    def forward(self, x: Array) -> Array:
        """(N, ..., count) for `x` (N, ..., units)."""
        require_floating(x, self.name)
        shape = self.output_shape(tuple(x.shape[1:]))
        xp = array_namespace(x, self.embedding.W, owner=self.name)
        self.x = x
        y = affine(rows_of(x), xp.matrix_transpose(self.embedding.W), self.b)
        return xp.reshape(y, (x.shape[0], *shape))

    def backward(self, dout: Array) -> Array:
        """``dx`` for `dout` (N, ..., count); the embedding adds the gradient of the table to its own."""
        x = self.require_saved(self.x)
        self.require_dout(dout, (*x.shape[:-1], self.embedding.count), x)
        xp, W, need_db = array_namespace(x), self.embedding.W, self.use_bias and self.trainable
        if self.embedding.trainable:
            dx, dW, db = affine_backward(rows_of(dout), rows_of(x), xp.matrix_transpose(W), need_db=need_db)
            self.embedding.dW_of_scores = xp.matrix_transpose(dW)
        else:
            dx, db = affine(rows_of(dout), W), summed(xp, rows_of(dout), 0) if need_db else None
        self.grads = {"b": db} if need_db else {}
        return xp.reshape(dx, x.shape)
