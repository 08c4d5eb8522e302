"""Every example in its short form, and the book's results where so short a form can show them."""

from __future__ import annotations

import importlib
import math
import re
import statistics
import sys
from contextlib import nullcontext as does_not_raise
from pathlib import Path

import numpy as np
import pytest

from tests.selection import params_of

EXAMPLES = Path(__file__).parents[1] / "examples"
if not EXAMPLES.is_dir():
    pytest.skip("the examples are not beside the tests", allow_module_level=True)
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "shared")
LONGEST = 80
#: those that draw nothing
WITHOUT_FIGURE = {"computational_graph", "float16", "gradient_check", "simple_net", "text_by_lstm", "three_layer_net"}

draws = pytest.mark.needs("matplotlib")


def seconds_of(name):
    """The time of an example's full form, as the table of the README has it."""
    return int(re.search(rf"\| \[{name}\.py\].*?\| (\d+) s \|", (EXAMPLES / "README.md").read_text())[1])


@pytest.mark.parametrize("name", NAMES)
def test_two_minutes_or_more_are_announced(name, monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "shared", raising=False)
    shared = importlib.import_module("shared")
    source = (EXAMPLES / f"{name}.py").read_text()
    program = re.search(r"(options\(__doc__, argv.*?\))\n", source)[1]
    takes_data = "data=True" in program
    for data in ["mini", *["mnist"] * takes_data]:
        argv = ["--out", str(tmp_path), *(["--data", data] if takes_data else [])]
        eval(program, {"options": shared.options, "__doc__": "", "argv": argv})
        seconds = seconds_of(name) * (12 if data == "mnist" else 1)
        words = f"takes about {round(seconds / 60)} minutes on one core\n" if seconds >= 120 else ""
        assert capsys.readouterr().out == words
        eval(program, {"options": shared.options, "__doc__": "", "argv": [*argv, "--short"]})
        assert capsys.readouterr().out == ""
    monkeypatch.delitem(sys.modules, "shared", raising=False)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Call an example's main, in its short form, in an empty folder."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)

    def main(name, *argv, short=True):
        for loaded in (name, "shared"):
            monkeypatch.delitem(sys.modules, loaded, raising=False)
        found = importlib.import_module(name).main([*(["--short"] if short else []), "--out", str(tmp_path), *argv])
        for loaded in (name, "shared"):
            monkeypatch.delitem(sys.modules, loaded, raising=False)
        return found

    return main


def same(value):
    """An example of which it is enough that it runs."""


def the_mean_of_the_end(losses):
    return statistics.fmean(losses[-10:])


def gates(xor):
    assert xor == [0, 1, 1, 0]


def three_layer_net(y):
    # the book prints these
    assert y == pytest.approx([0.31682708, 0.69627909], abs=1e-6)


def recognise_digits(found):
    assert found[1] == found[100]


def losses(found):
    # the book's numbers
    assert found["squares"] == pytest.approx((0.0975, 0.5975), abs=1e-6)
    assert found["cross entropy"] == pytest.approx((0.510825, 2.302584), abs=1e-5)


def numerical_differentiation(slopes):
    assert slopes == pytest.approx({5: 0.2, 10: 0.3}, abs=1e-6)


def gradient_descent(ends):
    assert ends[0.1] < 0.01 < ends[0.001] < 25 < ends[1.05]


def simple_net(gradient):
    # the book's matrix of gradients for these weights
    expected = [[0.21924763, 0.14356247, -0.36281009], [0.32887144, 0.2153437, -0.54421514]]
    assert gradient == pytest.approx(np.array(expected), abs=1e-4)


def two_layer_net(differences):
    assert set(differences) == {"W1", "b1", "W2", "b2"} and max(differences.values()) < 1e-3


def computational_graph(found):
    price, slopes = found
    assert price == pytest.approx(715)
    assert slopes == pytest.approx({"apple": 2.2, "apples": 110, "orange": 3.3, "oranges": 165, "tax": 650})


def optimizer_paths(ends):
    assert max(ends["valley"].values()) < 0.2
    # only momentum carries over the hill into the deeper of the two minima
    momentum = ends["two_minima"].pop("Momentum")
    assert momentum < -0.2 and all(0.29 < value < 0.35 for value in ends["two_minima"].values())
    # dividing by the gradients seen so far leaves the saddle, at 0, early
    assert max(ends["saddle"]["AdaGrad"], ends["saddle"]["RMSprop"]) < -1 < -0.1 < ends["saddle"]["Momentum"]


def compare_optimizers(found):
    end = {name: the_mean_of_the_end(curve) for name, curve in found.items()}
    assert max(end["AdaGrad"], end["Adam"], end["Momentum"]) < 0.5 * end["SGD"]


def initial_weights(found):
    spread, curves = found
    assert spread["Sigmoid", 1.0] > 3 * spread["Sigmoid", "xavier"] > 3 * spread["Sigmoid", 0.01]
    assert spread["Relu", "he"] > 2 * spread["Relu", "xavier"] > 2 * spread["Relu", 0.01]
    end = {name: the_mean_of_the_end(curve) for name, curve in curves.items()}
    # weights that are too small learn nothing: the loss of ten equal classes
    assert end["0.01"] == pytest.approx(math.log(10), abs=0.01)
    assert end["he"] < end["xavier"] < 0.7 * end["0.01"]


def batch_norm(ends):
    assert min(ends["with"]) > 0.5
    # and without it, only at scales about those of Xavier and He
    assert sum(end > 0.5 for end in ends["without"]) <= 4


def gap(accuracies):
    training, test = accuracies
    return training - test


def overfit_weight_decay(found):
    gaps = {name: gap(accuracies) for name, accuracies in found.items()}
    assert gaps["L2, 0.1"] < gaps["L2, 0.05"] < 0.9 * gaps["none"] and gaps["L1, 0.01"] < 0.9 * gaps["none"]
    # the test pays for what narrows the gap, little or much; a bound of single weights is the worst bargain
    assert found["L2, 0.05"][1] > found["none"][1] - 0.03 > found["max-norm, 0.2"][1]


def overfit_dropout(found):
    assert gap(found["SGD, dropout"]) < 0.5 * gap(found["SGD"])


def hyperparameter_search(result):
    # rates are drawn from 1e-6 to 1e-2, and the best one is, as in the book, near the upper end
    assert 2e-3 < result.best.params["lr"] <= 1e-2
    assert result.best.score > 0.3


def layer_diagnostics(found):
    dead = {name: statistics.fmean(found[name]["dead_relu"].values()) for name in ("good", "rate_too_large")}
    assert dead["good"] < 0.1 and dead["rate_too_large"] > 2 * dead["good"]
    assert min(found["weights_too_large"]["saturation"].values()) > 0.5
    assert {len(of["update_ratio"]) for of in found.values()} == {10}


def gradient_check(found):
    report, mistake, rows = found
    assert max(report.errors.values()) <= report.tolerance < 1e-4 and "is off by" in mistake
    assert all(0 <= difference < 1e-5 for row in rows for difference in row.differences.values())
    assert sum(difference > 0 for row in rows for difference in row.differences.values()) > 20


def float16(accuracy):
    assert accuracy["float16"] == pytest.approx(accuracy["float32"], abs=0.011)


def two_inputs(accuracy):
    assert accuracy > 0.7


def siamese(accuracy):
    assert accuracy > 0.7


def saliency(found):
    before, after = found
    assert after < before - 0.1


def autoencoder(errors):
    noisy, given_back = errors
    assert given_back < 0.9 * noisy


def vae(losses):
    before, after = losses
    assert after < 220 < before


def text_by_gpt(losses):
    before, after = losses
    assert before == pytest.approx(math.log(70), abs=0.1) and after < before - 0.5


def word_vectors(found):
    losses, nearest = found
    assert losses[0] < 6 * math.log(2) and {"said", "she"} <= nearest.keys()
    assert all(len(words) == 5 and query not in words for query, words in nearest.items())


def gan(alike):
    # untrained: about 0
    assert alike > 0.5


def addition(accuracy):
    # of one epoch
    assert list(accuracy) == ["plain", "reversed", "peeky, reversed"] and all(0 <= a <= 1 for a in accuracy.values())


def dates_with_attention(accuracy):
    assert 0 <= accuracy <= 1


def text_by_lstm(perplexities):
    before, after = perplexities
    assert after < 0.5 * before


CHECKS = {name: globals().get(name, same) for name in NAMES}


@draws
@pytest.mark.parametrize("name", NAMES)
def test_example(name, run, tmp_path, capsys):
    CHECKS[name](run(name))
    assert capsys.readouterr().out
    drawn = list(tmp_path.glob("*.png"))
    assert bool(drawn) == (name not in WITHOUT_FIGURE)


@draws
@pytest.mark.slow
@pytest.mark.parametrize("library", params_of("torch", "jax", "array_api_strict"))
@pytest.mark.parametrize("name", NAMES)
def test_example_on_other_libraries(name, library, run, capsys):
    """``pytest -m slow tests/test_examples.py``: some minutes on two cores."""
    run(name, "--backend", library)
    assert capsys.readouterr().out


#: claims of the book, which hold for several seeds
OF_THE_BOOK = [
    *("batch_norm", "compare_optimizers", "hyperparameter_search", "initial_weights", "layer_diagnostics"),
    *("overfit_dropout", "overfit_weight_decay"),
]


@draws
@pytest.mark.slow
@pytest.mark.parametrize("seed", ["1", "2", "3", "4"])
@pytest.mark.parametrize("name", OF_THE_BOOK)
def test_result_holds_for_other_seeds(name, seed, run):
    """``pytest -m slow tests/test_examples.py -k seeds``: two to three minutes."""
    with does_not_raise():
        CHECKS[name](run(name, "--seed", seed))


@draws
@pytest.mark.slow
def test_dropout_helps_a_net_that_is_trained_to_the_end(run):
    """The whole example for three seeds: about a minute."""
    found = [run("overfit_dropout", "--seed", seed, short=False) for seed in ("0", "1", "2")]
    assert all(gap(of["SGD, dropout"]) < gap(of["SGD"]) for of in found)
    assert all(gap(of["Adam, dropout"]) < gap(of["Adam"]) for of in found)
    assert statistics.fmean(of["Adam, dropout"][1] - of["Adam"][1] for of in found) > 0.005


def test_checks_belong_to_examples():
    named = {name for name, value in globals().items() if callable(value) and name in CHECKS}
    assert len(named) >= 15


@pytest.mark.parametrize("name", [*NAMES, "shared"])
def test_example_is_small(name):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= LONGEST


def test_table_has_every_example():
    rows = [line for line in (EXAMPLES / "README.md").read_text().splitlines() if line.startswith("| [")]
    assert sorted(row.split("[")[1].split(".py]")[0] for row in rows) == NAMES
