"""Layers against PyTorch's autograd in float64, on random configurations."""

from __future__ import annotations

import numpy as np
import pytest

from tests.layers import against_torch, windows_against_torch
from tests.layers.against_torch import compare

pytestmark = pytest.mark.needs("torch")

PEERS = {**against_torch.PEERS, **windows_against_torch.PEERS}


def worst(name: str, seeds: range) -> float:
    """The largest relative difference over as many configurations."""
    generators = [np.random.default_rng(seed) for seed in seeds]
    return max(compare(PEERS[name](rng), rng) for rng in generators)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", PEERS)
def test_equals_pytorch(name: str) -> None:
    assert worst(name, range(20)) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_equals_pytorch_in_many_configurations(name: str) -> None:
    assert worst(name, range(20, 520)) < 1e-9
