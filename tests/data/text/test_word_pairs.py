"""Contexts and targets, words that are alike, and draws of other words."""

from __future__ import annotations

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl.data import UnigramSampler, analogy, create_contexts_target, most_similar
from xpdl.data.text.unigram_sampler import draw, ends_of, probabilities

RNG = np.random.default_rng(0)
CORPUS = RNG.integers(0, 7, 40)
VOCABULARY = xpdl.Vocabulary([*"abcdef"])
VECTORS = RNG.standard_normal((6, 4))


class TestContexts:
    @pytest.mark.parametrize("size", [1, 2, 5])
    def test_are_the_words_around_each(self, size):
        contexts, target = create_contexts_target(CORPUS, size)
        expected = [[*CORPUS[i - size : i], *CORPUS[i + 1 : i + size + 1]] for i in range(size, 40 - size)]
        np.testing.assert_array_equal(contexts, expected)
        np.testing.assert_array_equal(target, CORPUS[size : 40 - size])

    @pytest.mark.backends("values")
    @pytest.mark.skip_backend("jit", reason="nothing to trace")
    def test_are_of_the_library_of_the_corpus(self, backend):
        pairs = zip(create_contexts_target(backend.asarray(CORPUS)), create_contexts_target(CORPUS), strict=True)
        for one, other in nonempty(pairs):
            backend.check(one, other)

    def test_short_text_is_an_error(self):
        with pytest.raises(xpdl.ShapeError, match=r"4 words have none with 2 on each side, window_size=2"):
            create_contexts_target(CORPUS[:4], 2)


class TestSimilar:
    @pytest.mark.parametrize("scale", [1.0, 1e-3])
    def test_most_similar_by_cosine(self, scale):
        vectors = VECTORS * scale * np.arange(1, 7)[:, None]  # lengths do not count
        found = most_similar("c", VOCABULARY, vectors, top=5)
        cosines = {
            word: VECTORS[2] @ row / np.linalg.norm(VECTORS[2]) / np.linalg.norm(row)
            for word, row in zip("abdef", np.delete(VECTORS, 2, axis=0), strict=True)
        }
        assert [word for word, _ in found] == sorted(cosines, key=cosines.get, reverse=True)
        np.testing.assert_allclose([value for _, value in found], sorted(cosines.values(), reverse=True))

    def test_analogy(self):
        vectors = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0, 0, 0], [-1, 0, 0]])
        found = analogy("a", "b", "c", VOCABULARY, vectors, top=2)  # b - a + c
        assert found[0][0] == "d" and len(found) == 2 and not {"a", "b", "c"} & {word for word, _ in found}
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        wanted = unit[1] - unit[0] + unit[2]
        assert found[0][1] == pytest.approx(wanted @ unit[3] / np.linalg.norm(wanted))

    def test_unknown_word_is_an_error(self):
        with pytest.raises(xpdl.LabelError, match="most_similar: 'z' is none of the 6 words"):
            most_similar("z", VOCABULARY, VECTORS)


class TestSampler:
    def test_probabilities_are_frequencies_to_the_power(self):
        sampler = UnigramSampler(np.array([0, 1, 1, 1, 3]), power=0.75)
        weights = np.array([1.0, 3**0.75, 0.0, 1.0])
        np.testing.assert_allclose(sampler.word_p, weights / weights.sum(), rtol=1e-15)
        np.testing.assert_allclose(probabilities(np.array([4, 0, 1]), 0.0, ""), [0.5, 0.0, 0.5])

    @pytest.mark.parametrize("right", range(5))
    def test_draws_follow_the_probabilities_of_the_others(self, right):
        word_p = np.array([0.1, 0.4, 0.0, 0.3, 0.2])
        words = draw(ends_of(word_p), np.full(2, right), RNG.random((2, 100_000)))
        others = np.where(np.arange(5) == right, 0.0, word_p)
        shares = np.bincount(words.ravel(), minlength=5) / words.size
        np.testing.assert_allclose(shares, others / others.sum(), atol=0.006)
        assert shares[right] == 0 and shares[2] == 0

    @pytest.mark.parametrize("uniform", [0.0, 0.25, 0.5, np.nextafter(1.0, 0.0)])
    @pytest.mark.parametrize(
        ("word_p", "right"),
        [([0.25, 0.75], 0), ([0.25, 0.75], 1), ([0.5, 0.0, 0.5], 0), ([0.5, 0.0, 0.5], 2), ([0.1, 0.2, 0.7], 1)],
    )
    def test_ends_of_the_interval(self, word_p, right, uniform):
        found = draw(ends_of(np.array(word_p)), np.array([right]), np.array([[uniform]]))[0, 0]
        assert found != right and word_p[found] > 0

    @pytest.mark.backends("values")
    @pytest.mark.skip_backend("jit", reason="nothing to trace")
    def test_is_of_the_backend_in_use(self, backend):
        target = np.array([[0, 1], [2, 3]])
        with backend.use():
            found = UnigramSampler(CORPUS, sample_size=3, seed=0).get_negative_sample(backend.asarray(target))
        expected = UnigramSampler(CORPUS, sample_size=3, seed=0).get_negative_sample(target)
        backend.check(found, expected)
        assert expected.shape == (2, 2, 3) and (expected != target[..., None]).all()

    def test_text_of_one_word_is_an_error(self):
        with pytest.raises(ValueError, match="a text of fewer than two different words leaves none to draw"):
            UnigramSampler(np.array([3, 3, 3]))

    def test_id_without_a_probability_is_an_error(self):
        with pytest.raises(xpdl.LabelError, match="7"):
            UnigramSampler(CORPUS).get_negative_sample(np.array([7]))
