"""Layers against PyTorch's autograd in float64, on random configurations."""

from __future__ import annotations

import numpy as np
import pytest

import xpdl.layers
from tests.layers import (
    against_torch,
    arrangements_against_torch,
    losses_against_torch,
    sequences_against_torch,
    windows_against_torch,
)
from tests.layers.against_torch import compare

pytestmark = pytest.mark.needs("torch")

PEERS = {
    **against_torch.PEERS,
    **arrangements_against_torch.PEERS,
    **losses_against_torch.PEERS,
    **sequences_against_torch.PEERS,
    **windows_against_torch.PEERS,
}
# bases, layers that hold others, one that draws numbers, the identity, and two for single numbers
WITHOUT = {"Layer", "LossLayer", "Chain", "Dag", "Residual", "Dropout", "Identity", "AddLayer", "MulLayer"}


def worst(name: str, seeds: range) -> float:
    """The largest relative difference over as many configurations."""
    generators = [np.random.default_rng(seed) for seed in seeds]
    return max(compare(PEERS[name](rng), rng) for rng in generators)


def test_every_layer_has_a_peer() -> None:
    there = {name.split()[0] for name in PEERS}
    layers = {name for name in xpdl.layers.__all__ if isinstance(getattr(xpdl.layers, name), type)}
    assert layers - there == WITHOUT


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", PEERS)
def test_equals_pytorch(name: str) -> None:
    assert worst(name, range(20)) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_equals_pytorch_in_many_configurations(name: str) -> None:
    assert worst(name, range(20, 520)) < 1e-9
