"""The setting of precision and determinism: in force at once, restored by a block."""

import pytest

import xpdl
from xpdl.backends.numerics import Numerics, get_numerics, numerics


def test_default_is_exact_and_repeatable():
    assert get_numerics() == Numerics("highest", True)


def test_what_is_not_named_stays():
    with numerics(precision="tf32"), numerics(deterministic=False) as setting:
        assert setting == get_numerics() == Numerics("tf32", False)


def test_a_block_restores_also_when_it_raises():
    with pytest.raises(ZeroDivisionError), numerics(precision="tf32"):
        _ = 1 / 0
    assert get_numerics() == Numerics()


def test_in_force_without_a_block():
    handle = xpdl.numerics(precision="tf32")
    assert get_numerics().precision == "tf32"
    with handle:
        pass
    assert get_numerics().precision == "highest"


def test_unknown_precision_is_named():
    with pytest.raises(ValueError, match="precision must be one of highest, tf32, got 'fp8'"):
        numerics(precision="fp8")
    assert get_numerics() == Numerics()
