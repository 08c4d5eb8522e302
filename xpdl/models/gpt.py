"""A decoder-only transformer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xpdl.backends.namespaces import Array, is_array, on_its_device
from xpdl.errors import ShapeError
from xpdl.layers.affine import Affine
from xpdl.layers.base import Layer, Shape
from xpdl.layers.chain import Chain
from xpdl.layers.dropout import Dropout
from xpdl.layers.embedding import Embedding
from xpdl.layers.gelu import Gelu
from xpdl.layers.losses import SoftmaxWithLoss
from xpdl.layers.multi_head_attention import MultiHeadAttention
from xpdl.layers.positions import LearnedPositions
from xpdl.layers.residual import Residual
from xpdl.layers.row_normalization import LayerNormalization
from xpdl.layers.tied_embedding import TiedEmbedding, TiedScores
from xpdl.models import generation
from xpdl.models.architecture import register_layer
from xpdl.models.key_value_cache import KeyValueCache
from xpdl.models.sequential import Sequential
from xpdl.ops.checks import flag, number, positive_int

# standard deviation of initial weights, of GPT-2
_STD = 0.02


@register_layer
class GPT(Sequential):
    """A decoder-only transformer: for each token of a text, scores of the one that follows it (GPT-2, Radford et al. 2019).

    Tokens are looked up in a table, their positions added, and blocks of attention and two affine layers follow, each
    normalised before and added to its input::

        x = x + attention(normalization(x))
        x = x + affine(gelu(affine(normalization(x))))

    Parameters
    ----------
    vocab : int
        Number of different tokens K.
    context : int
        The most tokens that it looks at.
    width : int
        Size of the vector of a token.
    heads : int
        Of the attention; divides `width`.
    depth : int
        Number of blocks.
    rotary : bool
        Whether queries and keys are rotated by their positions; otherwise a learned vector is added for each.
    dropout : float
        Probability that a value after the embedding, the attention, or the affine layers is dropped in training.
    tied : bool
        Whether the table of the tokens also makes the scores; otherwise an affine layer without a bias does.
    gelu : {"tanh", "none"}
        The approximation of `Gelu`: "tanh", as GPT-2 has it.
    seed : int, optional
        Of initial weights and dropout masks; by default they follow `xpdl.seed`.

    Attributes
    ----------
    vocabulary : Vocabulary or None
        What the tokens stand for, kept by `save`.

    Raises
    ------
    ShapeError
        If `heads` does not divide `width`, or a text is longer than the context.

    Notes
    -----
    Ids (N, T) of at most `context` tokens give scores (N, T, K); targets are the ids that follow, (N, T). Arrays are made at
    once, on the backend in use. As in GPT-2, weights are drawn from a normal distribution with standard deviation 0.02,
    those of the last layer before a sum with 0.02 / sqrt(2 depth); positions, too, where GPT-2 has 0.01. There is no dropout
    of attention probabilities.

    Examples
    --------
    >>> net = GPT(vocab=5, context=8, width=4, heads=2, depth=1, seed=0)
    >>> net.predict(np.array([[0, 1, 2]])).shape
    (1, 3, 5)
    >>> net.generate(np.array([0, 1]), 3, seed=0).shape
    (5,)
    """

    def __init__(
        self,
        vocab: int,
        context: int,
        width: int,
        heads: int,
        depth: int,
        *,
        rotary: bool = False,
        dropout: float = 0.0,
        tied: bool = True,
        gelu: str = "tanh",
        seed: int | None = None,
    ) -> None:
        owner = type(self).__name__
        given = {"vocab": vocab, "context": context, "width": width, "heads": heads, "depth": depth}
        config: dict[str, Any] = {key: positive_int(value, key, owner) for key, value in given.items()}
        config |= {"rotary": flag(rotary, "rotary", owner), "tied": flag(tied, "tied", owner), "gelu": gelu}
        config |= {"dropout": number(dropout, "dropout", owner, "in [0, 1)"), "seed": seed}
        if gelu not in ("tanh", "none"):
            raise ValueError(f"{owner}: gelu must be 'tanh' or 'none', got {gelu!r}")
        self.context, self.tied = config["context"], tied
        tokens = (TiedEmbedding if tied else Embedding)(vocab, width, init=_STD)
        head = TiedScores(tokens) if isinstance(tokens, TiedEmbedding) else _affine(vocab, use_bias=False)
        layers: list[tuple[str, Layer]] = [("tokens", tokens)]
        layers += [] if rotary else [("positions", LearnedPositions(context, init=_STD))]
        layers += _dropout(dropout)
        layers += [(f"block{k}", _block(width, heads, depth, rotary, dropout, gelu)) for k in range(1, depth + 1)]
        layers += [("norm", LayerNormalization()), ("head", head)]
        super().__init__(*layers, loss=SoftmaxWithLoss, seed=seed)
        self.config = config
        self.build((context,))

    def output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1 or input_shape[0] > self.context:
            raise ShapeError(
                f"{self.name}: expected ids (N, T) of at most {self.context} tokens, the context, got rows of shape "
                f"{tuple(input_shape)}; cut a text into windows by xpdl.data.RandomWindows"
            )
        return super().output_shape(input_shape)

    @on_its_device
    def forward(self, x: Array, train_flg: bool | None = None) -> Array:
        """Scores (N, T, K) for ids `x` (N, T); `train_flg` stands for the mode of all layers when given."""
        if is_array(x):
            self.output_shape(tuple(x.shape[1:]))
        return super().forward(x, train_flg)

    def generate(
        self,
        ids: Any,
        count: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: int | Sequence[int] | None = None,
        lengths: Any = None,
    ) -> Any:
        """Go on with texts, one token after the other, each drawn from the probabilities that the net gives.

        Parameters
        ----------
        ids : array (T,) or (N, T) of integers, list, or list of prompts of different lengths
            The prompt, or prompts, of at least one token.
        count : int
            Number of tokens to add.
        temperature : float
            Divides the scores: below 1 likely tokens become likelier, and with 0 the likeliest is taken.
        top_k : int, optional
            Draw among so many of the likeliest tokens.
        top_p : float, optional
            Draw among the likeliest tokens that together have at least this probability, in (0, 1]; after `top_k`.
        seed : int, optional
            Of the draws, which are made on the host; by default they follow `xpdl.seed`.
        stop : int or sequence of int, optional
            Tokens that end a text.
        lengths : integer array (N,) or list, optional
            The tokens of each row of `ids` (N, T) that are its prompt, such as `xpdl.data.pad_sequences` has padding after.

        Returns
        -------
        array (T + count,) or (N, T + count), or list of arrays
            Prompts and what follows, of the library of `ids`; of NumPy for a list. It is shorter where all texts have ended;
            a text that has ended before others repeats its last token. Of prompts of different lengths, and with `lengths`,
            a list of texts, each of which ends with its stop token.

        Raises
        ------
        ShapeError, LabelError, DTypeError
            If `ids` are no such prompts, or no tokens of the net, or `lengths` do not fit them.
        ValueError
            If an option is out of its bounds, or the highest score is NaN or infinite.

        Notes
        -----
        Keys and values of the tokens so far are kept, so that a token costs one row through the net. A text that has become
        longer than the context is cut: the net sees its last half, ``context // 2`` tokens, computed anew, and from there on
        again up to `context` tokens. A text does not depend on those beside it, but for rounding and for the draws, of which
        each step makes one for every text.
        """
        return generation.generate(self, ids, count, temperature, top_k, top_p, seed, stop, lengths)

    def forward_next(self, ids: Array, cache: KeyValueCache) -> Array:
        """Scores (N, K) of the token after `ids` (N, T), which follow those in `cache` and are added to it."""
        with self._on_its_device():
            x = ids
            for name, layer in self.layers.items():
                if name == "norm":  # what follows is for the last token alone
                    x = x[:, -1:, :]
                x = cache.forward(layer, x)
            cache.length += ids.shape[1]
            return x[:, 0, :]


def _block(width: int, heads: int, depth: int, rotary: bool, dropout: float, gelu: str) -> Layer:
    """Attention and two affine layers, each normalised before and added to its input."""
    std = _STD / math.sqrt(2 * depth)
    attention = MultiHeadAttention(heads, causal=True, rotary=rotary, init=_STD, init_output=std)
    maps = [("expand", _affine(4 * width)), ("gelu", Gelu(gelu)), ("project", _affine(width, init=std))]
    return Chain(
        ("attention", Residual(("norm", LayerNormalization()), ("attention", attention), *_dropout(dropout))),
        ("mlp", Residual(("norm", LayerNormalization()), *maps, *_dropout(dropout))),
    )


def _affine(units: int, init: float = _STD, use_bias: bool = True) -> Affine:
    return Affine(units=units, axis=-1, init=init, use_bias=use_bias)


def _dropout(ratio: float) -> list[tuple[str, Layer]]:
    return [("dropout", Dropout(ratio, inverted=True))] if ratio else []
