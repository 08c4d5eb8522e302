"""Copies of parameters and running statistics, and their way back into a network that others hold arrays of."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.harness import nonempty
from tests.training.runs import net
from xpdl.backends import asnumpy
from xpdl.training.network_state import copies, named_arrays, put_back


def built():
    network = net()
    network.build((2,))
    return network


def test_are_all_parameters_and_running_statistics_and_no_counters():
    network = built()
    expected = {*network.params, *network.buffers}
    assert "BatchNormalization1.running_mean" in expected and {name for name, _, _ in named_arrays(network)} == expected
    assert "Dropout1.step" in {name for name, _, _ in network.named_state()}


@pytest.mark.backends("values")
@pytest.mark.backends("plain")
def test_come_back_as_they_were(backend):
    with backend.use("float32"):
        network = built()
    before = {name: asnumpy(owner[key]).copy() for name, owner, key in named_arrays(network)}
    kept = copies(network)
    for _, owner, key in named_arrays(network):
        owner[key] = owner[key] + 1.0
    put_back(network, kept)
    for name, owner, key in nonempty(named_arrays(network)):
        backend.check(owner[key], before[name])


def test_copies_do_not_change_with_the_network():
    network = built()
    kept = copies(network)
    before = kept["Affine1.W"].copy()
    network.params["Affine1.W"] += 1.0
    np.testing.assert_array_equal(kept["Affine1.W"], before)


def test_are_put_back_in_place():
    network = built()
    kept, held = copies(network), network.layers["Affine1"].W
    held += 1.0
    put_back(network, kept)
    assert network.layers["Affine1"].W is held
    np.testing.assert_array_equal(held, kept["Affine1.W"])
    assert not np.shares_memory(held, kept["Affine1.W"])


def test_of_another_network_are_its_params():
    book = SimpleNamespace(params={"W1": np.ones((2, 3)), "b1": np.zeros(3)})
    kept = copies(book)
    book.params["W1"] *= 5.0
    put_back(book, kept)
    assert list(kept) == ["W1", "b1"] and (book.params["W1"] == 1.0).all()
