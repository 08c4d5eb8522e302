"""HTML of models, histories and trainers for notebooks."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import pytest

from tests.harness import nonempty
from tests.training import runs
from xpdl import Affine, Sequential, SoftmaxWithLoss
from xpdl.training import History, Trainer


def parsed(thing: Any) -> ElementTree.Element:
    """Well-formed, so that nothing in it is markup by accident."""
    return ElementTree.fromstring(thing._repr_html_().replace("<br>", "<br/>"))


def points(root: ElementTree.Element) -> list[list[tuple[float, float]]]:
    """The curves of the first SVG."""
    lines = [line.attrib["points"] for line in root.iter("polyline")]
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())] for line in lines]


def test_a_model_is_its_summary() -> None:
    net = Sequential(("<b>", Affine(units=3)), loss=SoftmaxWithLoss, seed=0)
    assert "?" in "".join(parsed(net).itertext())
    net.build((4,))
    text = " ".join(parsed(net).itertext())
    assert "<b> Affine (N, 3) 15" in text and "total" in text and "loss SoftmaxWithLoss()" in text
    assert len(list(parsed(Sequential(*(Affine(units=1) for _ in range(300)))).iter("tr"))) < 70
    assert parsed(Sequential()).tag == "table"


def test_a_history_draws_its_losses_within_the_frame() -> None:
    history = History(
        train_loss_list=[2.0, 1.0, 0.5], test_loss_list=[2.0, 1.0], seconds=[1.0, 1.0], test_acc_list=[0.5]
    )
    first, second = points(parsed(history))
    assert first[0] == (2.0, 2.0) and first[-1] == (318.0, 78.0) and len(first) == 3 and len(second) == 2
    text = "".join(parsed(history).itertext())
    assert "3 steps, 2 epochs" in text and "loss 2 to 0.5" in text and "test_acc 0.5" in text


@pytest.mark.parametrize(
    "losses",
    [
        [],
        [1.0],
        [math.nan] * 3,
        [1.0, math.inf, 2.0],
        [3.0] * 5,
        [1.7e308, -1.7e308, 0.0],
        list(map(float, range(100_000))),
    ],
    ids=["none", "one", "NaN", "infinite", "alike", "largest", "many"],
)
def test_any_history_is_drawn_in_bounded_size(losses: list[float]) -> None:
    history = History(train_loss_list=losses, metrics={"val_<x>": [0.5]})
    assert "val_<x> 0.5" in "".join(parsed(history).itertext())
    assert len(history._repr_html_()) < 10_000 and not re.search("nan,|inf,|,nan|,inf", history._repr_html_())
    ends = [end for line in points(parsed(history)) for end in line]
    assert all(0 <= x <= 320 and 0 <= y <= 80 for x, y in ends)


def test_a_trainer_says_its_progress() -> None:
    trainer = runs.trainer(runs.net(), epochs=3)
    assert "0 of 3" in "".join(parsed(trainer).itertext())
    trainer.train()
    text = "".join(parsed(trainer).itertext())
    assert "3 of 3" in text and type(trainer.network).__name__ in text and points(parsed(trainer))


def test_empty_ones_are_no_error() -> None:
    x, t = np.zeros((4, 2), "float32"), np.zeros(4, int)
    net = Sequential(Affine(units=2), loss=SoftmaxWithLoss)
    made = [History(), Sequential(), Trainer(net, x, t, verbose=False)]
    assert all(thing._repr_html_() for thing in nonempty(made))
