"""Word vectors by negative sampling: CBOW and skip-gram, the second volume's chapters 3 and 4."""

from __future__ import annotations

from typing import Any

from xpdl.backends import Backend, asnumpy
from xpdl.backends.namespaces import Array, array_namespace, device, is_host, on_its_device, rounded_to, widened
from xpdl.backends.random import Stream
from xpdl.data.text.unigram_sampler import draw, ends_of, probabilities, word_counts
from xpdl.models.architecture import register_layer
from xpdl.models.base import Model
from xpdl.models.word_tables import WordLoss, WordTables, require_words
from xpdl.ops.checks import number, positive_int, require_range


class WordVectors(Model, WordTables):  # type: ignore[misc]
    """Base of `CBOW` and `SkipGram`: two tables of word vectors, of which the second one scores candidates."""

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        window_size: int,
        corpus: Array | None,
        sample_size: int,
        power: float,
        seed: int | None,
    ) -> None:
        owner = type(self).__name__
        sizes = {"vocab_size": vocab_size, "hidden_size": hidden_size, "window_size": window_size}
        config = {name: positive_int(value, name, owner) for name, value in sizes.items()}
        config["sample_size"] = positive_int(sample_size, "sample_size", owner)
        self.power = number(power, "power", owner, "at least 0")
        self.context = 2 * config["window_size"]
        shape = self.shape_of_targets(self.context)
        super().__init__(
            *(vocab_size, hidden_size, shape, sample_size), loss=WordLoss(config["vocab_size"], shape), seed=seed
        )
        self.config = {**config, "power": self.power}
        self.build((1,))
        # as an array of the model, it is in the model's files
        counts = [1.0] * vocab_size if corpus is None else word_counts(corpus, owner, vocab_size).tolist()
        self.scores.state["counts"] = Backend.of(self.embedding.W).asarray(counts, "float32")
        self._probabilities: tuple[Any, Any] = (None, None)
        self._ends: tuple[Any, Any] = (None, None)
        self._word_p()  # refuses a text without words to draw

    @staticmethod
    def shape_of_targets(context: int) -> tuple[int, ...]:
        """Return the shape of the words that a row is to tell."""
        raise NotImplementedError

    @property
    def word_vecs(self) -> Array:
        """The vectors of all words (vocab_size, hidden_size): the table of the inputs."""
        return self.embedding.W

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}

    def loss(self, x: Array, t: Array, train_flg: bool = False, sample_weight: Array | None = None) -> Array:
        """The mean loss of telling the words `t` from others, which are drawn; an array ()."""
        require_words(t, self.target_shape, f"{self.name}: t")
        candidates = self.candidates(t, train_flg)
        xp = array_namespace(candidates)
        first = xp.zeros_like(candidates[..., 0])  # the right one
        return super().loss((x, candidates), first, train_flg, sample_weight)

    @on_its_device
    def candidates(self, t: Array, train_flg: bool) -> Array:
        """Return words `t` (...), and behind each those that it is told from, (..., 1 + sample_size).

        In training other ones are drawn each time, in evaluation the same for rows of the same number.
        """
        state = self.scores.state
        draws, state["draws"] = (state["draws"], state["draws"] + 1) if train_flg else ("evaluation", state["draws"])
        rng = Stream(0, f"{','.join(map(str, state['stream']))}.{draws}").generator("words")
        start = 0 if self.share is None else self.share.start
        # a rank draws what it would draw for its rows of the whole batch
        uniform = rng.random((start + t.shape[0], *t.shape[1:], self.sample_size))[start:]
        xp = array_namespace(t)
        dtype = xp.arange(1, device=device(t)).dtype  # which has all words, other than that of small ids
        # a GPU is not waited for; without float64, the host draws the same words
        words = t if _has_float64(t) else asnumpy(t)
        if is_host(words):
            require_range(words, self.embedding.count, f"{self.name}: t")
        there = Backend.of(words)
        drawn = draw(self._ends_on(there), words, there.asarray(uniform, "float64"))
        others = xp.astype(drawn, dtype) if words is t else xp.asarray(drawn, dtype=dtype, device=device(t))
        return xp.concat([xp.expand_dims(xp.astype(t, dtype), axis=-1), others], axis=-1)

    def _word_p(self) -> Any:
        """Return the probabilities of the words, which are computed again where the counts are another array."""
        counts = self.scores.state["counts"]
        if self._probabilities[0] is not counts:
            self._probabilities = counts, probabilities(asnumpy(counts), self.power, self.name)
        return self._probabilities[1]

    def _ends_on(self, backend: Backend) -> Array:
        """Return the sums of the probabilities in float64 on a backend."""
        word_p = self._word_p()
        of, ends = self._ends
        if of is not word_p or array_namespace(ends) is not backend.xp or device(ends) != backend.device:
            ends = backend.asarray(ends_of(word_p), "float64")
            self._ends = word_p, ends
        return ends


def _has_float64(a: Array) -> bool:
    return "float64" in array_namespace(a).__array_namespace_info__().dtypes(device=device(a))


@register_layer
class CBOW(WordVectors):
    """Continuous bag of words: tell a word by the mean vector of those around it (arXiv:1301.3781).

    Parameters
    ----------
    vocab_size : int
        V; ids of words go from 0 to ``V - 1``.
    hidden_size : int
        H, of a word vector.
    window_size : int
        Words on each side.
    corpus : integer array (N,) of any library, optional
        Ids of the words of the text, whose frequencies say how often a word is drawn as a wrong one; by default all alike.
    sample_size : int
        Wrong words that are drawn for each right one.
    power : float
        What frequencies are raised to, see `UnigramSampler <xpdl.data.UnigramSampler>`.
    seed : int, optional
        Of initial vectors and drawn words; by default they follow `xpdl.seed`.

    Attributes
    ----------
    params : mapping
        ``W_in`` and ``W_out``, both (V, H).
    word_vecs : array (V, H)
        ``W_in``.

    Raises
    ------
    ShapeError
        If a size is not a positive int, or contexts are of another width.
    ValueError
        If `corpus` has fewer than two different words.
    LabelError
        If an id is none of the V. Targets are looked at in arrays of NumPy alone, and elsewhere the loss is NaN.

    Notes
    -----
    `loss` and `gradient` take contexts (N, 2 window_size) and targets (N,), see
    `create_contexts_target <xpdl.data.create_contexts_target>`. The loss is `NegativeSampling
    <xpdl.layers.NegativeSampling>`, the mean over the rows. Other words are drawn in each step of a training, so that it is
    not compiled as a whole.

    Examples
    --------
    >>> corpus = np.array([0, 1, 2, 3, 4, 1, 5, 6])
    >>> from xpdl.data import create_contexts_target
    >>> contexts, target = create_contexts_target(corpus)
    >>> net = CBOW(7, hidden_size=5, window_size=1, corpus=corpus, seed=0)
    >>> sorted(net.gradient(contexts, target)), net.word_vecs.shape
    (['W_in', 'W_out'], (7, 5))
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        window_size: int = 1,
        corpus: Array | None = None,
        *,
        sample_size: int = 5,
        power: float = 0.75,
        seed: int | None = None,
    ) -> None:
        super().__init__(vocab_size, hidden_size, window_size, corpus, sample_size, power, seed)

    @staticmethod
    def shape_of_targets(context: int) -> tuple[int, ...]:
        return ()

    def hidden(self, words: Array) -> Array:
        require_words(words, (self.context,), f"{self.name}: contexts")
        vectors = self.embedding.forward(words)
        return rounded_to(vectors.dtype, array_namespace(vectors).mean(widened(vectors), axis=1))

    def hidden_backward(self, dh: Array) -> None:
        xp = array_namespace(dh)
        each = xp.expand_dims(dh / self.context, axis=1)
        self.embedding.backward(xp.broadcast_to(each, (dh.shape[0], self.context, dh.shape[1])))


@register_layer
class SkipGram(WordVectors):
    """Skip-gram: tell the words around a word by its vector (arXiv:1301.3781).

    Parameters
    ----------
    vocab_size, hidden_size, window_size, corpus, sample_size, power, seed
        As of `CBOW`.

    Attributes
    ----------
    params : mapping
        ``W_in`` and ``W_out``, both (V, H).
    word_vecs : array (V, H)
        ``W_in``.

    Raises
    ------
    ShapeError
        If a size is not a positive int, or contexts are of another width.
    ValueError
        If `corpus` has fewer than two different words.
    LabelError
        If an id is none of the V. Targets are looked at in arrays of NumPy alone, and elsewhere the loss is NaN.

    Notes
    -----
    `loss` and `gradient` take words (N,) and the contexts (N, 2 window_size) around them, in this order: a model is trained
    with what it gets and what it is to tell. The second volume passes the contexts first, and adds up the losses of a
    word's contexts; here the loss is the mean over all of them.

    Examples
    --------
    >>> corpus = np.array([0, 1, 2, 3, 4, 1, 5, 6])
    >>> from xpdl.data import create_contexts_target
    >>> contexts, target = create_contexts_target(corpus)
    >>> net = SkipGram(7, hidden_size=5, window_size=1, corpus=corpus, seed=0)
    >>> sorted(net.gradient(target, contexts))
    ['W_in', 'W_out']
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        window_size: int = 1,
        corpus: Array | None = None,
        *,
        sample_size: int = 5,
        power: float = 0.75,
        seed: int | None = None,
    ) -> None:
        super().__init__(vocab_size, hidden_size, window_size, corpus, sample_size, power, seed)

    @staticmethod
    def shape_of_targets(context: int) -> tuple[int, ...]:
        return (context,)

    def hidden(self, words: Array) -> Array:
        require_words(words, (), f"{self.name}: words")
        return self.embedding.forward(words)

    def hidden_backward(self, dh: Array) -> None:
        self.embedding.backward(dh)
