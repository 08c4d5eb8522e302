"""The stand-in for CuPy, for the tests of this folder."""

import pytest

from tests import harness
from tests.backends.cupy import fake


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> harness.Backend:
    """The backend ``cupy:host``: CUDA kernels compiled by the host's compiler."""
    spec = harness.SPECS["cupy:host"]
    if reason := harness.problem(spec):
        pytest.skip(reason)
    fake.install(monkeypatch)
    return harness.Backend(spec)
