"""The nodes of the book's computational graphs, on plain numbers as in its chapter 5."""

from __future__ import annotations

import pytest

from xpdl.layers import AddLayer, MulLayer


def test_apples_and_oranges() -> None:
    apples, oranges, both, tax = MulLayer(), MulLayer(), AddLayer(), MulLayer()
    price = tax.forward(both.forward(apples.forward(100, 2), oranges.forward(150, 3)), 1.1)
    assert price == pytest.approx(715)
    d_both, d_tax = tax.backward(1)
    d_apples, d_oranges = both.backward(d_both)
    assert (d_both, d_tax) == (1.1, 650)
    assert apples.backward(d_apples) == pytest.approx((2.2, 110))
    assert oranges.backward(d_oranges) == pytest.approx((3.3, 165))


def test_factors_of_zero_are_saved() -> None:
    node = MulLayer()
    assert node.forward(0, 5) == 0
    assert node.backward(2) == (10, 0)
