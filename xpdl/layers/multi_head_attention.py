"""The attention layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from xpdl import initializers
from xpdl.backends.namespaces import Array, array_namespace, dtype_name
from xpdl.errors import DTypeError, ShapeError
from xpdl.layers.base import Layer, Make, Shape, first_shape, gradient, parameter
from xpdl.layers.layouts import sequence_cure
from xpdl.ops import attention as ops
from xpdl.ops.affine import affine, affine_backward, affine_backward_input
from xpdl.ops.arithmetic import add
from xpdl.ops.checks import flag, positive_int, require_floating, require_shape
from xpdl.ops.positions import finite_or, without_masked

_MAPS = ("q", "k", "v", "o")

# of keys and values of the next positions -> those of all so far, and a mask (N, S) or None
Extended = Callable[[Array, Array], tuple[Array, Array, Array | None]]


class MultiHeadAttention(Layer):
    """Attention of several heads (arXiv:1706.03762, sec. 3.2): each position gathers values of all others that fit.

    ``q, k, v = x Wq + bq, c Wk + bk, c Wv + bv`` are cut into heads of D = E / heads values; each computes
    ``softmax(q k^T / sqrt(D)) v``, and the heads, side by side again, are multiplied by ``Wo``. Without a context, c is x.

    Parameters
    ----------
    heads : int
        Divides E, the size of a position.
    causal : bool
        Whether a position sees only itself and those before it, as in a language model.
    rotary : bool
        Whether queries and keys are rotated by their positions (arXiv:2104.09864), so that scores depend on distances. D
        must be even; pairs are made of both halves of a head, as in LLaMA, where the paper has neighbours.
    use_bias : bool
        Whether there are ``bq bk bv bo``.
    init : str, float or callable
        How the four weights are drawn, see `xpdl.initializers`.
    init_output : str, float or callable, optional
        How ``Wo`` is drawn, where that differs.

    Raises
    ------
    ShapeError
        If E is not divided by `heads`, or sizes of inputs, context, mask or `dout` do not fit.
    DTypeError
        If inputs are not floating, or a mask not boolean.

    Notes
    -----
    ``forward(x)`` maps sequences (N, T, E) to such. ``forward(x, context)`` is cross attention: queries of `x` gather from
    `context` (N, S, E), and `backward` returns ``(dx, dcontext)``. A `mask` (N, S) of booleans is False for keys that nobody
    is to see, such as padding, whatever they hold. Where `x` looks at itself, they are queries all the same, with 0 for what
    is NaN or infinite there. Parameters are ``Wq Wk Wv Wo`` (E, E) and ``bq bk bv bo`` (E,).

    In a `Graph`, nodes are put in as ``layer(x, context)`` or ``layer(x, x, mask)``, where the mask is an `Input` that gets
    booleans.

    Scores are computed in blocks, forward and again backward, so that the memory taken is linear in the length. Saved are
    the input, queries, keys, values and the result, each (N, T, E), and one number for each query and head. There is no
    dropout of probabilities, which are never there at once.

    Examples
    --------
    >>> layer = MultiHeadAttention(2, causal=True)
    >>> layer.build((5, 4)), layer.Wq.shape, layer.bo.shape
    ((5, 4), (4, 4), (4,))
    """

    Wq, Wk, Wv, Wo = (parameter(f"W{one}") for one in _MAPS)
    bq, bk, bv, bo = (parameter(f"b{one}") for one in _MAPS)
    dWq, dWk, dWv, dWo = (gradient(f"W{one}") for one in _MAPS)
    dbq, dbk, dbv, dbo = (gradient(f"b{one}") for one in _MAPS)
    saved_names: ClassVar[tuple[str, ...]] = ("saved",)

    def __init__(
        self,
        heads: int,
        causal: bool = False,
        *,
        rotary: bool = False,
        use_bias: bool = True,
        init: Any = "xavier",
        init_output: Any = None,
    ) -> None:
        super().__init__()
        self.heads = positive_int(heads, "heads", self.name)
        self.causal = flag(causal, "causal", self.name)
        self.rotary = flag(rotary, "rotary", self.name)
        self.use_bias = flag(use_bias, "use_bias", self.name)
        initializers.resolve(init, f"{self.name}: init")
        if init_output is not None:
            initializers.resolve(init_output, f"{self.name}: init_output")
        self.init, self.init_output = init, init_output
        self.saved: Any = None

    def output_shape(self, input_shape: Shape, context_shape: Shape | None = None, mask_shape: Any = None) -> Shape:
        size = None if self.Wq is None else self.Wq.shape[0]
        if len(input_shape) != 2 or (size is not None and input_shape[1] != size):
            want = "E" if size is None else size
            raise ShapeError(
                f"{self.name}: expected sequences (N, T, {want}), got rows of shape {input_shape}"
                f"{sequence_cure(input_shape)}"
            )
        if input_shape[1] % self.heads or (self.rotary and input_shape[1] // self.heads % 2):
            parts = f"{self.heads} heads{' of an even size, which rotary=True needs' if self.rotary else ''}"
            raise ShapeError(f"{self.name}: {input_shape[1]} values cannot be cut into {parts}; choose other heads")
        if context_shape is not None and (len(context_shape) != 2 or context_shape[1] != input_shape[1]):
            want = f"(N, S, {input_shape[1]})"
            raise ShapeError(f"{self.name}: context must be sequences {want}, got rows of shape {context_shape}")
        return input_shape

    def create_parameters(self, input_shape: Any, make: Make) -> None:
        size = first_shape(input_shape)[1]
        for one in _MAPS:
            init = self.init if one != "o" or self.init_output is None else self.init_output
            self.params[f"W{one}"] = make(f"W{one}", (size, size), init)
            if self.use_bias:
                self.params[f"b{one}"] = make(f"b{one}", (size,), "zeros")

    def forward(self, x: Array, context: Array | None = None, mask: Array | None = None) -> Array:
        """(N, T, E) for sequences `x` (N, T, E), which look at themselves or at `context` (N, S, E)."""
        self.prepare(x)
        self.output_shape(tuple(x.shape[1:]))
        source = x if context is None else _checked(x, context, self.name)
        _check_mask(source, mask, self.name)
        if mask is not None:
            source = without_masked(source, mask)
            if context is None or context is x:
                x = finite_or(x, source)  # masked positions are queries still
        q = self._heads(self._mapped("q", x))
        k, v = (self._heads(self._mapped(one, source)) for one in ("k", "v"))
        if self.rotary:
            q, k = ops.rotary(q), ops.rotary(k)
        y, log_sum = ops.attention(q, k, v, mask, causal=self.causal)
        joined = _joined(y)
        self.saved = (x, source, context is not None, mask, q, k, v, y, log_sum, joined)
        return self._mapped("o", joined)

    def forward_next(self, x: Array, first: int, extended: Extended) -> Array:
        """`forward` without context for positions `x` (N, T, E) that follow `first` others; saves nothing for backward.

        ``extended(k, v)`` is given their keys and values (N, heads, T, D), and returns those of all positions, and a mask.
        """
        q, k, v = (self._heads(self._mapped(one, x)) for one in ("q", "k", "v"))
        if self.rotary:
            q, k = ops.rotary(q, first=first), ops.rotary(k, first=first)
        k, v, mask = extended(k, v)
        # one query, which sees all before it, may have room for more keys behind it
        y, _ = ops.attention(q, k, v, mask, causal=mask is None or x.shape[1] > 1)
        return self._mapped("o", _joined(y))

    def backward(self, dout: Array) -> Any:
        """``dx`` for `dout` (N, T, E), or ``(dx, dcontext)``; fills the gradients."""
        x, source, crosses, mask, q, k, v, y, log_sum, joined = self.require_saved(self.saved)
        self.require_dout(dout, x.shape, x)
        self.grads = dict.fromkeys(self.params) if self.trainable else {}
        dy = self._heads(self._through("o", dout, joined))
        dq, dk, dv = ops.attention_backward(dy, q, k, v, y, log_sum, mask, causal=self.causal)
        if self.rotary:
            dq, dk = ops.rotary(dq, inverse=True), ops.rotary(dk, inverse=True)
        dx = self._through("q", _joined(dq), x)
        dsource = add(self._through("k", _joined(dk), source), self._through("v", _joined(dv), source))
        return (dx, dsource) if crosses else add(dx, dsource)

    def _mapped(self, one: str, x: Array) -> Array:
        """``x W + b`` of each position, for one of the four maps."""
        xp = array_namespace(x)
        y = affine(_rows(x), self.params[f"W{one}"], self.params.get(f"b{one}"))
        return xp.reshape(y, (*x.shape[:2], y.shape[1]))

    def _through(self, one: str, dy: Array, x: Array) -> Array:
        """``dx`` of `_mapped`; fills the gradients of that map."""
        W = self.params[f"W{one}"]
        if not self.trainable:
            return array_namespace(x).reshape(affine_backward_input(_rows(dy), W), x.shape)
        dx, self.grads[f"W{one}"], db = affine_backward(_rows(dy), _rows(x), W, need_db=self.use_bias)
        if self.use_bias:
            self.grads[f"b{one}"] = db
        return array_namespace(x).reshape(dx, x.shape)

    def _heads(self, a: Array) -> Array:
        """(N, T, E) as (N, heads, T, D)."""
        xp, (n, t, size) = array_namespace(a), a.shape
        return xp.permute_dims(xp.reshape(a, (n, t, self.heads, size // self.heads)), (0, 2, 1, 3))


def _joined(a: Array) -> Array:
    """(N, heads, T, D) as (N, T, E)."""
    xp, (n, heads, t, size) = array_namespace(a), a.shape
    return xp.reshape(xp.permute_dims(a, (0, 2, 1, 3)), (n, t, heads * size))


def _checked(x: Array, context: Array, name: str) -> Array:
    owner = f"{name}: context"
    require_floating(context, owner)
    array_namespace(x, context, owner=owner)
    if context.ndim != 3 or context.shape[0] != x.shape[0] or context.shape[2] != x.shape[2]:
        want = f"({x.shape[0]}, S, {x.shape[2]})"
        raise ShapeError(f"{owner} must have shape {want} beside x {tuple(x.shape)}, got {tuple(context.shape)}")
    return context


def _check_mask(source: Array, mask: Array | None, name: str) -> None:
    if source.shape[1] == 0:
        raise ShapeError(f"{name}: expected at least one position, got shape {tuple(source.shape)}")
    if mask is None:
        return
    xp = array_namespace(source, mask, owner=f"{name}: mask")
    require_shape(mask, source.shape[:2], name, "mask, one for each key,")
    if not xp.isdtype(mask.dtype, "bool"):
        raise DTypeError(f"{name}: mask must be booleans, got {dtype_name(mask.dtype)}; pass mask != 0")


def _rows(a: Array) -> Array:
    """(N, T, E) as (N T, E)."""
    return array_namespace(a).reshape(a, (a.shape[0] * a.shape[1], a.shape[2]))
