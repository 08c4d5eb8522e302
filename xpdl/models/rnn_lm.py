"""A language model of LSTM layers: the second volume's chapter 6."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

from xpdl.backends import asnumpy, get_backend, tables
from xpdl.backends.arrays import NDArray
from xpdl.backends.namespaces import is_array
from xpdl.backends.subclasses import array_cure
from xpdl.data.text.windows import ContiguousWindows
from xpdl.errors import ShapeError
from xpdl.layers.affine import Affine
from xpdl.layers.base import Layer
from xpdl.layers.dropout import Dropout
from xpdl.layers.embedding import Embedding
from xpdl.layers.losses import SoftmaxWithLoss
from xpdl.layers.recurrent import LSTM
from xpdl.layers.recurrent_state import stateful_layers, states_kept, states_of_zeros
from xpdl.layers.tied_embedding import TiedEmbedding, TiedScores
from xpdl.models.architecture import register_layer
from xpdl.models.generation import stop_tokens
from xpdl.models.prompts import prompts_of
from xpdl.models.sampling import Sampler
from xpdl.models.sequential import Sequential
from xpdl.ops.checks import flag, number, positive_int

# the largest number of which Python knows the exponential
_LARGEST = 709.0
# words to draw by default
_COUNT = 100


@register_layer
class RnnLm(Sequential):
    """Language model of LSTM layers: for each word of a text, scores of the one that follows it.

    It is the second volume's ``BetterRnnlm`` (ch. 6.5): an embedding, two LSTM layers with dropout before, between and after
    them, and scores by the table of the embedding (arXiv:1409.2329, arXiv:1608.05859). ``depth=1, dropout_ratio=0,
    tie_weights=False`` is its ``Rnnlm`` of chapter 6.4.

    Parameters
    ----------
    vocab_size : int
        V; ids of words, or characters, go from 0 to ``V - 1``.
    wordvec_size : int
        D, of a word vector.
    hidden_size : int
        H, of the states of the LSTM layers.
    dropout_ratio : float
        Probability that a value before, between or after the LSTM layers is dropped in training.
    depth : int
        Number of LSTM layers.
    tie_weights : bool, optional
        Whether the table of word vectors also makes the scores, which takes D = H; by default it does where D = H.
    stateful : bool
        Whether each batch goes on with the states that the one before ended with; False begins all with zeros.
    seed : int, optional
        Of initial weights and dropout masks; by default they follow `xpdl.seed`.

    Raises
    ------
    ShapeError
        If weights are to be tied and D is not H, or a batch has another number of rows than the states.

    Notes
    -----
    Ids (N, T) give scores (N, T, V); targets are the ids that follow, (N, T). A text is learned by truncated
    backpropagation: it is cut into N rows, which are given T words at a time. Each batch goes on with the states of the one
    before, until `reset_state`, but no gradient flows back into that. A `Trainer` that gets batches in order, such as
    `ContiguousWindows`, goes on with the states within an epoch. What is shuffled or drawn, rows of arrays, `RandomWindows`
    or `PaddedBatches`, begins with zeros, as does all that is measured. Batches of a loader of your own in no order take
    ``stateful=False``.

    Gradients are clipped by the optimizer, as ``SGD(lr=20, clip_norm=0.25)``. Dropout is inverted here, as in the second
    volume.

    Examples
    --------
    >>> net = RnnLm(10, wordvec_size=16, hidden_size=16, dropout_ratio=0.0, seed=0)
    >>> text = np.arange(41) % 10
    >>> optimizer = Adam(lr=0.05, clip_norm=1.0)
    >>> for _ in range(40):
    ...     net.reset_state()
    ...     optimizer.update(net.params, net.gradient(text[None, :-1], text[None, 1:]))
    >>> net.reset_state()
    >>> net.generate([0, 1, 2], 5, temperature=0)
    [0, 1, 2, 3, 4, 5, 6, 7]
    """

    def __init__(
        self,
        vocab_size: int = 10000,
        wordvec_size: int = 650,
        hidden_size: int = 650,
        dropout_ratio: float = 0.5,
        *,
        depth: int = 2,
        tie_weights: bool | None = None,
        stateful: bool = True,
        seed: int | None = None,
    ) -> None:
        owner = type(self).__name__
        given = {"vocab_size": vocab_size, "wordvec_size": wordvec_size, "hidden_size": hidden_size, "depth": depth}
        config: dict[str, Any] = {name: positive_int(value, name, owner) for name, value in given.items()}
        config["dropout_ratio"] = number(dropout_ratio, "dropout_ratio", owner, "in [0, 1)")
        config["stateful"] = flag(stateful, "stateful", owner)
        tied = wordvec_size == hidden_size if tie_weights is None else flag(tie_weights, "tie_weights", owner)
        config["tie_weights"] = tied
        if tied and wordvec_size != hidden_size:
            raise ShapeError(
                f"{owner}: tied weights need word vectors of the size of the states, got wordvec_size={wordvec_size} and "
                f"hidden_size={hidden_size}; make them equal, or pass tie_weights=False"
            )
        words: Embedding = (TiedEmbedding if tied else Embedding)(vocab_size, wordvec_size)
        layers: list[tuple[str, Layer]] = [("Embedding", words), *_dropout(dropout_ratio, 1)]
        for k in range(1, depth + 1):
            layers += [(f"LSTM{k}", LSTM(hidden_size, stateful=stateful)), *_dropout(dropout_ratio, k + 1)]
        if isinstance(words, TiedEmbedding):
            layers.append(("Affine", TiedScores(words, use_bias=True)))
        else:
            layers.append(("Affine", Affine(units=vocab_size, init="xavier", axis=-1)))
        super().__init__(*layers, loss=SoftmaxWithLoss, seed=seed)
        self.embedding, self.config = words, config
        self.build((1,))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}

    def generate(
        self,
        start_id: Any,
        count: Any = None,
        sample_size: int | None = None,
        *,
        skip_ids: Sequence[int] | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: int | Sequence[int] | None = None,
        lengths: Any = None,
    ) -> Any:
        """Write a text, or several, each word drawn from the probabilities that the words before give it.

        Parameters
        ----------
        start_id : int, sequence or array (T,) of int, array (N, T), or list of sequences of different lengths
            The word, or the words, to begin with; of several texts, those of each.
        count : int, optional
            Words to draw, by default 100. A sequence is `skip_ids`, as in the second volume's
            ``generate(start_id, skip_ids, sample_size)``.
        sample_size : int, optional
            Stands for `count` there.
        skip_ids : sequence of int, optional
            Words that are never drawn, such as that for unknown ones.
        temperature : float
            What scores are divided by: below 1 for likelier words, above 1 for a wider choice; 0 takes the likeliest.
        top_k : int, optional
            Draw among so many of the likeliest words.
        top_p : float, optional
            Draw among the likeliest words that together have at least this probability, in (0, 1]; after `top_k`.
        seed : int, optional
            Of the draws; by default they follow `xpdl.seed`.
        stop : int or sequence of int, optional
            Words that end a text, when they are drawn.
        lengths : integer array (N,) or list, optional
            The words of each row of `start_id` (N, T) to begin with; what is behind them is padding.

        Returns
        -------
        list of int, or list of such lists
            The words given, and those drawn; of several texts a list each.

        Notes
        -----
        One text goes on from the states that are kept, if they are of one row, and leaves its own; `reset_state` begins a
        new one. Several begin with states of zeros, and those that are kept stay as they are; they do not depend on each
        other, but for rounding and for the draws, of which each step makes one for every text.
        """
        owner = f"{self.name}.generate"
        count, skip_ids = _count_and_skipped(count, sample_size, skip_ids, owner)
        skipped = [] if skip_ids is None else self._words(skip_ids, f"{owner}: skip_ids")
        draw = Sampler(temperature, seed, owner, skipped, top_k=top_k, top_p=top_p)
        size, ends = positive_int(count, "count", owner), stop_tokens(self, stop, owner)
        if len(set(skipped)) == self.embedding.count:
            raise ShapeError(f"{owner}: expected some words that may be drawn, got none")
        if isinstance(start_id, str) or not (is_array(start_id) or isinstance(start_id, Sequence)):
            start_id = self._words(start_id, f"{owner}: start_id")
        start_id = list(start_id) if isinstance(start_id, tuple) else start_id
        prompts, form = prompts_of(start_id, lengths, self.embedding.check_ids, f"{owner}: start_id")
        if form != "one":
            with states_of_zeros(self):
                return _written(self, prompts, draw, size, ends)
        if {one.h.shape[0] for one in stateful_layers(self) if one.h is not None} - {1}:  # those of other batches
            self.reset_state()
        return _written(self, prompts, draw, size, ends)[0]

    def perplexity(self, ids: Any, batch_size: int = 10, time_size: int = 35) -> float:
        """Perplexity of a text: the exponential of the mean loss of its words, each after those before.

        Parameters
        ----------
        ids : integer array (length,) of any library, or sequence of int
        batch_size, time_size : int
            The text is cut into so many rows, which are read so many words at a time; what fills no row is skipped.

        Returns
        -------
        float
            From 1; that of a guess among all words alike is V, and infinity beyond any float.

        Notes
        -----
        Rows begin with states of zeros, go on with their own, and afterwards the states are what they were.
        """
        owner = f"{self.name}.perplexity"
        rows, step = (
            positive_int(n, name, owner) for n, name in ((batch_size, "batch_size"), (time_size, "time_size"))
        )
        words = self._words(ids, f"{owner}: ids")
        if len(words) <= rows:
            raise ShapeError(f"{owner}: {rows} rows need more than {rows} words, got {len(words)}; lower batch_size")
        backend = self.backend or get_backend()
        total, steps = 0.0, 0
        with states_of_zeros(self), states_kept(self):
            for x, t in ContiguousWindows(backend.asarray(words, "int32"), rows, step, backend=backend):
                total += float(self.loss(x, t)) * x.shape[1]
                steps += x.shape[1]
        mean = total / steps
        return math.inf if mean > _LARGEST else math.exp(mean)

    def _words(self, ids: Any, name: str) -> list[int]:
        """Return one id, or several, as a list."""
        if isinstance(ids, str):
            raise TypeError(f"{name} must be ids, got {ids[:40]!r}; {array_cure(ids)}")
        several = ids if is_array(ids) else list(ids) if isinstance(ids, Sequence) else [ids]
        array = asnumpy(tables.as_numbers(several, name))
        if array.ndim > 1:
            raise ShapeError(f"{name} must be one text (T,), got shape {tuple(array.shape)}; pass its rows one by one")
        array = array.reshape(-1)
        if array.size:
            self.embedding.check_ids(array, name)
        words: list[int] = array.tolist()
        return words


def _count_and_skipped(count: Any, sample_size: Any, skip_ids: Any, owner: str) -> tuple[Any, Any]:
    """Return the number of words and those to skip, of ``(start_id, count)`` or ``(start_id, skip_ids, sample_size)``."""
    if count is not None and not isinstance(count, numbers.Number):
        if skip_ids is not None:
            raise TypeError(
                f"{owner}: got skip_ids twice, {count!r} and {skip_ids!r}; pass the number of words as count"
            )
        count, skip_ids = None, count
    if count is not None and sample_size is not None:
        raise TypeError(f"{owner}: sample_size stands for count, got {count!r} and {sample_size!r}; pass one of them")
    given = (value for value in (count, sample_size) if value is not None)
    return next(given, _COUNT), skip_ids


def _written(net: RnnLm, prompts: list[NDArray], draw: Sampler, count: int, ends: list[int]) -> list[list[int]]:
    """Return prompts with up to `count` more words each; a row is given its next word, of its prompt or drawn."""
    backend, texts = net.backend or get_backend(), [prompt.tolist() for prompt in prompts]
    last = [len(text) + count for text in texts]
    given = min(map(len, texts))
    seen = [text[:given] for text in texts]
    with states_kept(net):
        while any(len(text) < most for text, most in zip(texts, last, strict=True)):
            scores = net.forward(backend.asarray(seen, "int32"), False)
            drawn = draw(asnumpy(scores)[:, -1, :]).tolist()
            for row, (text, word) in enumerate(zip(texts, drawn, strict=True)):
                if given == len(text) < last[row]:
                    text.append(word)
                    last[row] = len(text) if word in ends else last[row]
            seen = [text[given : given + 1] or text[-1:] for text in texts]  # one that is complete is not looked at
            given += 1
    return texts


def _dropout(ratio: float, number: int) -> list[tuple[str, Layer]]:
    """Dropout as the second volume has it, where there is some."""
    return [(f"Dropout{number}", Dropout(ratio, inverted=True))] if ratio else []
