"""Dropout: the choice of dropped values, and modes; values and gradients are in the table."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl.backends.random import Stream
from xpdl.errors import DTypeError
from xpdl.layers import Dropout

ONES = np.ones((40, 50))


def test_drops_half_of_the_values_unless_said_otherwise() -> None:
    for layer, share in ((Dropout(), 0.5), (Dropout(0.2), 0.2)):
        dropped = np.mean(layer.forward(ONES) == 0)
        assert abs(dropped - share) < 0.05  # more than four standard deviations


@pytest.mark.parametrize("inverted", [False, True])
def test_either_way_the_mean_is_that_of_evaluation(inverted: bool) -> None:
    layer = Dropout(0.25, inverted=inverted)
    kept = layer.forward(ONES)
    np.testing.assert_array_equal(np.unique(kept), [0.0, 1 / 0.75 if inverted else 1.0])
    assert layer.mask is not None
    evaluated = layer.forward(ONES, False)
    assert layer.mask is None
    np.testing.assert_array_equal(evaluated, np.full(ONES.shape, 1.0 if inverted else 0.75))
    assert abs(kept.mean() / evaluated.mean() - 1) < 0.05


def test_every_step_has_a_mask_of_its_own() -> None:
    layer = Dropout()
    masks = [layer.forward(ONES) != 0 for _ in range(4)]
    for a, b in nonempty(itertools.combinations(masks, 2)):
        # independent ones agree in half of the places
        assert abs(np.mean(a == b) - 0.5) < 0.06


def test_steps_of_training_are_counted_and_those_of_evaluation_not() -> None:
    layer = Dropout()
    assert layer.state["step"] == 0
    for step, training in enumerate([True, True, True]):
        assert layer.state["step"] == step
        layer.forward(ONES, training)
    layer.eval().forward(ONES)
    layer.forward(ONES, False)
    assert layer.state["step"] == 3


def test_a_run_goes_on_with_the_masks_it_would_have_had() -> None:
    whole, resumed = Dropout(), Dropout()
    whole.build((50,), stream=Stream(4, "here"))
    resumed.build((50,), stream=Stream(5, "there"))
    masks = [whole.forward(ONES) for _ in range(2)]
    resumed.state.update(whole.state)
    masks.append(whole.forward(ONES))
    np.testing.assert_array_equal(resumed.forward(ONES), masks[2])


def test_the_seed_decides_and_each_layer_has_its_own_masks() -> None:
    found = []
    for seed in (1, 1, 2):
        xpdl.seed(seed)
        found.append([Dropout().forward(ONES) for _ in range(2)])
    np.testing.assert_array_equal(found[0], found[1])
    assert np.any(found[0][0] != found[0][1])
    assert np.any(found[0][0] != found[2][0])


def test_building_before_the_first_forward_or_in_it_is_the_same() -> None:
    found = []
    for build in (True, False):
        xpdl.seed(3)
        layer = Dropout()
        assert not layer.built
        if build:
            layer.build((50,))
            assert layer.built
        found.append([layer.forward(ONES), layer.forward(ONES)])
        layer.build((50,))  # once more changes nothing
        found[-1].append(layer.forward(ONES))
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("training", [True, False])
def test_train_flg_stands_for_the_mode_when_given(training: bool) -> None:
    found = []
    for mode, flag in ((not training, training), (training, None)):
        layer = Dropout(0.25).train(mode)
        layer.build((50,), stream=Stream(4, "here"))
        found.append((layer.forward(ONES, flag), layer.backward(ONES)))
    np.testing.assert_array_equal(found[0], found[1])


def test_nothing_is_dropped_at_a_ratio_of_zero() -> None:
    np.testing.assert_array_equal(Dropout(0.0).forward(ONES), ONES)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, None, "half", True])
def test_a_ratio_out_of_range_is_an_error(ratio: Any) -> None:
    with pytest.raises(ValueError, match=r"Dropout: dropout_ratio must be a finite number in \[0, 1\)"):
        Dropout(ratio)


def test_inverted_is_a_flag() -> None:
    with pytest.raises(TypeError, match="Dropout: inverted must be True or False, got 1"):
        Dropout(0.5, inverted=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("training", [True, False])
def test_integers_are_refused(training: bool) -> None:
    with pytest.raises(DTypeError, match="Dropout: expected a floating array, got int64"):
        Dropout().forward(np.ones((2, 2), int), training)
