"""Random streams: named, repeatable, bitwise identical on every library, independent, and of no global state."""

from __future__ import annotations

import hashlib
import math
import random as python_random
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests import oracles
from tests.harness import Backend
from xpdl.backends.random import Stream, keep_mask, next_stream, random_bits, seed

WORDS = (0x01234567, 0x89ABCDEF, 3, 2**32 - 1)
# JAX compiles anew for each shape: it runs once, below
quick = pytest.mark.backends("precompiled")


class TestStream:
    def test_words_are_these_for_ever(self) -> None:
        """Changing them would change every seeded run ever made."""
        assert Stream(0).words("W1") == (552371869, 2282795688, 1322719710, 1494358005)
        assert Stream(7, "Affine1").words("W") == (2073782839, 236728051, 3824450667, 371753010)

    def test_draws_are_these_for_ever(self) -> None:
        got = Stream(0).generator("W1").standard_normal(3)
        np.testing.assert_allclose(got, [0.630830432563116, 1.2353075267327727, -0.5610372759289343], rtol=1e-15)

    def test_words_are_four_of_32_bits(self) -> None:
        words = Stream(5).words("x")
        assert len(words) == 4
        assert all(0 <= word < 2**32 for word in words)

    def test_a_path_is_its_parts(self) -> None:
        assert Stream(1).child("block").child("Affine1").words("W") == Stream(1, "block.Affine1").words("W")
        assert Stream(1).child("a") == Stream(1, "a")

    def test_seed_path_and_name_all_matter(self) -> None:
        streams = [Stream(s, path).words(name) for s in (0, 1, -1) for path in ("", "a", "a.b") for name in ("W", "b")]
        assert len(set(streams)) == len(streams)

    def test_generators_start_anew(self) -> None:
        stream = Stream(3, "x")
        np.testing.assert_array_equal(stream.generator("W").random(4), stream.generator("W").random(4))

    def test_streams_of_different_names_are_not_correlated(self) -> None:
        draws = np.stack([Stream(0).generator(f"W{i}").standard_normal(4000) for i in range(8)])
        off_diagonal = np.corrcoef(draws) - np.eye(8)
        assert np.abs(off_diagonal).max() < 4.5 / math.sqrt(4000)


class TestSeed:
    def test_repeats_what_follows(self) -> None:
        def run() -> list[Any]:
            return [next_stream("Dropout").words("mask"), next_stream("Affine").generator("W").random(3).tolist()]

        seed(1)
        first = run()
        seed(1)
        again = run()
        seed(2)
        other = run()
        assert first == again
        assert first[0] != other[0]
        assert first[1] != other[1]

    def test_two_streams_of_one_name_differ(self) -> None:
        assert next_stream("Dropout") != next_stream("Dropout")

    def test_a_seed_of_its_own_depends_on_nothing_else(self) -> None:
        seed(1)
        first = next_stream("Affine", seed=5)
        seed(2)
        next_stream("other")
        assert next_stream("Affine", seed=5) == first == Stream(5, "Affine")

    def test_a_stream_with_its_own_seed_takes_no_turn(self) -> None:
        seed(1)
        expected = [next_stream("a"), next_stream("a")]
        seed(1)
        got = [next_stream("a")]
        next_stream("b", seed=3)
        got.append(next_stream("a"))
        assert got == expected

    @pytest.mark.parametrize("n", [0, -5, 2**80, np.int64(3), np.uint8(3)])
    def test_any_int(self, n: Any) -> None:
        seed(n)
        assert next_stream("a").seed == int(n)
        assert type(next_stream("a").seed) is int

    @pytest.mark.parametrize("n", [1.0, "1", None, True, np.float64(1), [1]])
    def test_anything_else_is_an_error(self, n: Any) -> None:
        with pytest.raises(TypeError, match="seed: seed must be an int, got"):
            seed(n)

    @pytest.mark.exhaustive
    def test_without_a_seed_processes_differ(self) -> None:
        code = "from xpdl.backends.random import next_stream; print(next_stream('a').seed)"
        runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in "ab"]
        assert runs[0].stdout != runs[1].stdout

    def test_no_global_state_is_touched(self) -> None:
        np.random.seed(0)
        python_random.seed(0)
        before = np.random.get_state()[1].copy(), python_random.getstate()
        seed(3)
        next_stream("a").generator("W").standard_normal(10)
        random_bits(np.zeros(5), WORDS, 0)
        np.testing.assert_array_equal(np.random.get_state()[1], before[0])
        assert python_random.getstate() == before[1]

    @pytest.mark.needs("torch")
    def test_torch_s_state_is_not_touched(self) -> None:
        import torch

        before = torch.get_rng_state()
        seed(3)
        random_bits(torch.zeros(5), WORDS, 0)
        assert torch.equal(torch.get_rng_state(), before)


def bits_by_hand(count: int, words: Any, counter: int) -> list[int]:
    """Wellons' lowbias32, twice, in Python's integers, which never wrap by themselves."""

    def hashed(h: int) -> int:
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            h = (h ^ (h >> shift)) * factor % 2**32
        return h ^ (h >> 16)

    name = f"{counter}/{','.join(str(word) for word in words)}.step"
    first, second, *_ = struct.unpack("<4I", hashlib.sha256(name.encode()).digest()[:16])
    return [hashed(hashed(index ^ first) ^ second) >> 8 for index in range(count)]


class TestBits:
    @quick
    @pytest.mark.parametrize("shape", [(), (7,), (2, 3), (0, 2)], ids=str)
    def test_are_the_same_everywhere(self, backend: Backend, shape: tuple[int, ...]) -> None:
        self.check(backend, shape)

    @pytest.mark.backends("jax")
    def test_are_the_same_on_jax(self, backend: Backend) -> None:
        self.check(backend, (2, 3))

    def check(self, backend: Backend, shape: tuple[int, ...]) -> None:
        like = backend.asarray(np.zeros(shape), "float32")
        got = backend.call(random_bits, like, words=WORDS, counter=5)
        assert tuple(got.shape) == shape
        assert backend.xp.isdtype(got.dtype, "integral")
        if backend.spec.values:
            want = np.reshape(bits_by_hand(math.prod(shape), WORDS, 5), shape)
            np.testing.assert_array_equal(backend.to_numpy(got), want)

    @quick
    @pytest.mark.backends("values")
    def test_a_hundred_thousand_are_those_of_numpy(self, backend: Backend) -> None:
        shape = (100, 1000)
        got = backend.call(random_bits, backend.asarray(np.zeros(shape), "float32"), words=WORDS, counter=2**40)
        np.testing.assert_array_equal(backend.to_numpy(got), random_bits(np.zeros(shape), WORDS, 2**40))

    def test_are_these_for_ever(self) -> None:
        assert random_bits(np.zeros(3), (1, 2, 3, 4), 0).tolist() == [16044534, 6874585, 529035]

    def test_do_not_depend_on_the_shape_but_on_the_place(self) -> None:
        flat = random_bits(np.zeros(12), WORDS, 1)
        np.testing.assert_array_equal(random_bits(np.zeros((3, 4)), WORDS, 1).ravel(), flat)
        np.testing.assert_array_equal(random_bits(np.zeros(5), WORDS, 1), flat[:5])

    def test_lie_on_the_device_of_their_model(self) -> None:
        import array_api_strict as strict

        like = strict.zeros(3, device=strict.Device("device2"))
        assert random_bits(like, WORDS, 0).device == like.device


class TestStatistics:
    """One fixed draw each, so that nothing depends on luck; bounds at 4.5 standard deviations."""

    N = 200_000

    def draw(self, counter: int = 0, words: Any = WORDS) -> Any:
        return random_bits(np.zeros(self.N), words, counter)

    def test_each_bit_is_set_half_the_time(self) -> None:
        bits = self.draw()
        for place in range(24):
            assert abs(float(np.mean(bits >> place & 1)) - 0.5) < 4.5 * 0.5 / math.sqrt(self.N)
        assert int(bits.min()) >= 0
        assert int(bits.max()) < 2**24

    def test_values_are_spread_evenly(self) -> None:
        counts = np.bincount(self.draw() >> 16, minlength=256)
        chi_square = float(np.sum((counts - self.N / 256) ** 2) / (self.N / 256))
        assert abs(chi_square - 255) < 4.5 * math.sqrt(2 * 255)

    @pytest.mark.parametrize("lag", [1, 2, 28, 784, 1000])
    def test_neighbours_are_not_correlated(self, lag: int) -> None:
        bits = self.draw().astype(float)
        assert abs(np.corrcoef(bits[:-lag], bits[lag:])[0, 1]) < 4.5 / math.sqrt(self.N - lag)

    @pytest.mark.parametrize("other", [1, 2, 1024, 2**32, 2**63])
    def test_steps_share_nothing(self, other: int) -> None:
        first, second = self.draw(0).astype(float), self.draw(other).astype(float)
        assert abs(np.corrcoef(first, second)[0, 1]) < 4.5 / math.sqrt(self.N)
        # equal by chance: one in 2^24
        assert np.count_nonzero(first == second) < 5

    def test_layers_share_nothing(self) -> None:
        first = self.draw(words=Stream(0, "Dropout1").words("mask")).astype(float)
        second = self.draw(words=Stream(0, "Dropout2").words("mask")).astype(float)
        assert abs(np.corrcoef(first, second)[0, 1]) < 4.5 / math.sqrt(self.N)

    @pytest.mark.parametrize("ratio", [0.001, 0.1, 0.5, 0.9])
    def test_masks_drop_their_share(self, ratio: float) -> None:
        kept = keep_mask(np.zeros(self.N), ratio, WORDS, 0)
        assert kept.dtype == bool
        assert abs(1.0 - float(np.mean(kept)) - ratio) < 4.5 * math.sqrt(ratio * (1 - ratio) / self.N)

    def test_a_larger_ratio_drops_the_same_and_more(self) -> None:
        few, many = (keep_mask(np.zeros(1000), ratio, WORDS, 0) for ratio in (0.2, 0.6))
        assert not np.any(many & ~few)

    def test_zero_keeps_all_and_one_keeps_none(self) -> None:
        assert keep_mask(np.zeros(self.N), 0.0, WORDS, 0).all()
        assert not keep_mask(np.zeros(self.N), 1.0, WORDS, 0).any()


@quick
@pytest.mark.parametrize("counter", [0, 1, 2**33])
def test_masks_are_the_same_everywhere(backend: Backend, counter: int) -> None:
    shape = (3, 5)
    mask = backend.call(
        keep_mask, backend.asarray(np.zeros(shape), "float32"), drop_ratio=0.4, words=WORDS, counter=counter
    )
    backend.check(mask, oracles.dropout_mask(shape, 0.4, WORDS, counter))
