"""Random cases of every op that has a kernel, compared with the generic op; more of them by ``-m slow``."""

import pytest

from tests.backends.numpy import soak
from tests.backends.watched import own_kernels
from xpdl.backends import registry


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", soak.CASES, ids=lambda kind: kind.__name__)
def test_kernels_are_their_ops(kind, count, code):
    found = [finding for case in range(count) if (finding := soak.run_case(kind, 0, case))]
    assert not found, "\n".join(found[:3])


def test_findings_are_found(code):
    with own_kernels():
        registry.kernel("numpy", "relu")(lambda x: x + (x.sum() > 3))
        assert any(soak.run_case(soak.an_elementwise, 0, case) for case in range(25))
