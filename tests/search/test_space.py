"""Distributions of hyper-parameters: what they draw, and what is none."""

import math
from contextlib import nullcontext as does_not_raise
from types import SimpleNamespace

import numpy as np
import pytest

from tests.harness import nonempty
from tests.search.searches import SPACE, search
from xpdl import choice, log_uniform, uniform
from xpdl.backends.random import Stream
from xpdl.search.space import check_space, sampled


class TestSpace:
    def drawn(self, distribution, n=2000):
        return np.array([distribution.sample(Stream(0, f"{i}").generator("x")) for i in range(n)])

    def evenly(self, shares, n=2000):
        share = 1 / len(shares)
        assert (np.abs(np.asarray(shares) / n - share) < 5 * math.sqrt(share * (1 - share) / n)).all()

    def test_uniform(self):
        x = self.drawn(uniform(-2, 3))
        assert x.min() >= -2 and x.max() <= 3
        self.evenly(np.histogram(x, 5, (-2, 3))[0])

    def test_log_uniform(self):
        x = self.drawn(log_uniform(1e-6, 1e-2))
        assert x.min() >= 1e-6 and x.max() <= 1e-2
        self.evenly(np.histogram(np.log10(x), 4, (-6, -2))[0])

    def test_choice(self):
        x = self.drawn(choice("abc"))
        self.evenly([(x == letter).sum() for letter in "abc"])

    def test_ends_are_never_left_by_a_rounding(self):
        for value in (1e-6, 0.1, 3.3, 1e5):
            assert log_uniform(value, value).sample(np.random.default_rng(0)) == value

    @pytest.mark.parametrize(
        "make, message",
        [
            (lambda: uniform(1, 0), "uniform: low must not exceed high, got 1 and 0"),
            (lambda: uniform(0, math.inf), "uniform: high must be a finite number, got inf"),
            (lambda: uniform("0", 1), "uniform: low must be a finite number, got '0'"),
            (lambda: log_uniform(0, 1), "log_uniform: low must be positive, got 0"),
            (lambda: choice([]), "choice: expected at least one option"),
        ],
    )
    def test_wrong_one_says_what_is_wrong(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    def test_another_hyper_parameter_does_not_change_the_others(self):
        wide = search(lambda **params: 0.0, {**SPACE, "decay": uniform(0, 1)})
        narrow = search(lambda **params: 0.0)
        for one, other in nonempty(zip(wide.trials, narrow.trials, strict=True)):
            assert {name: one.params[name] for name in SPACE} == other.params

    def test_they_are_told_by_what_made_them(self):
        made = uniform(0, 1.5), log_uniform(1e-3, 1), choice("ab")
        assert [repr(one) for one in made] == ["uniform(0, 1.5)", "log_uniform(0.001, 1)", "choice(['a', 'b'])"]

    def test_the_smallest_ones_have_one_value(self):
        rng = np.random.default_rng(0)
        assert [one.sample(rng) for one in (uniform(0, 0), uniform(-2, -2), log_uniform(1e-3, 1e-3), choice([7]))] == [
            0.0,
            -2.0,
            1e-3,
            7,
        ]

    def test_choice_takes_any_collection(self):
        assert choice(range(2)).options == (0, 1) and set(choice({1, 2}).options) == {1, 2}
        with pytest.raises(TypeError, match="choice: options must be a sequence of values, got 3"):
            choice(3)


class TestCheck:
    def test_names_and_distributions(self):
        with does_not_raise():
            check_space(SPACE, "owner")
            check_space({"own": SimpleNamespace(sample=lambda rng: 0)}, "owner", reserved=("epochs",))

    @pytest.mark.parametrize("space", [None, {}, [("x", uniform(0, 1))]])
    def test_other_spaces(self, space):
        with pytest.raises(TypeError, match=r"^owner: space must map the names of hyper-parameters to distributions"):
            check_space(space, "owner")

    @pytest.mark.parametrize("name", [3, "epochs"])
    def test_other_names(self, name):
        with pytest.raises(ValueError, match=f"^owner: {name!r} cannot be the name of a hyper-parameter here$"):
            check_space({name: uniform(0, 1)}, "owner", reserved=("epochs",))

    @pytest.mark.parametrize("value", [3, None, SimpleNamespace(sample=1)])
    def test_what_is_no_distribution(self, value):
        with pytest.raises(
            TypeError, match=r"^owner: x must be a distribution, .*; a value that stays belongs into build$"
        ):
            check_space({"x": value}, "owner")


def test_a_value_depends_on_its_name_and_the_stream():
    space = {"a": uniform(0, 1), "b": uniform(0, 1)}
    one, same, other = (sampled(space, Stream(seed)) for seed in (0, 0, 1))
    assert one == same and one["a"] != one["b"] and one["a"] != other["a"]
    assert sampled({"b": uniform(0, 1)}, Stream(0)) == {"b": one["b"]}
