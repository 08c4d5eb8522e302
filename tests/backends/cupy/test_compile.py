"""Every kernel, in every instance, is compiled for real GPUs by NVRTC, which needs none.

``pip install ".[gpu-ci]"`` brings it, and ``python -m pytest -m slow tests/backends/cupy/test_compile.py`` runs this. What
the machine code holds is in `test_sass.py`.
"""

from __future__ import annotations

import pytest

from tests.backends.cupy.nvrtc import compile_for
from tests.harness import nonempty
from xpdl.backends.cupy import sources

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", sources.FILES)
def test_compiles_without_a_warning(file: str, architecture: str) -> None:
    for dtype in nonempty(sources.TYPES):
        for wide in nonempty(sources.INDICES):
            cubin, log = compile_for(architecture, sources.source(file, dtype, wide))
            assert cubin and not log.strip(), f"{dtype}, wide indices {wide}: {log}"


def test_a_name_that_does_not_exist_is_noticed() -> None:
    code = sources.source("elementwise", "float32", False).replace("hashed(uint32 h)", "hashed(uint h)", 1)
    cubin, log = compile_for("sm_80", code)
    assert cubin is None and "uint" in log
