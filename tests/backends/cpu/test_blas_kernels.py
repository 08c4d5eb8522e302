"""The hint that OpenBLAS does not use AVX-512, from recorded answers of OpenBLAS and Linux."""

import types

import pytest

from xpdl.backends import device_info
from xpdl.backends.cpu import blas_kernels

WIDE = "fpu sse2 avx2 fma avx512f avx512dq avx512ifma avx512cd avx512bw avx512vl"
# the first processors with AVX-512, which OpenBLAS has no kernels for
KNIGHTS = "fpu sse2 avx2 fma avx512f avx512pf avx512er avx512cd"


@pytest.mark.parametrize(
    "architecture, flags, chosen, says",
    [
        ("Haswell", WIDE, "Haswell", "unset OPENBLAS_CORETYPE, which is Haswell, or set it to SkylakeX before"),
        ("Zen", WIDE, None, "set OPENBLAS_CORETYPE=SkylakeX before Python starts"),
        ("SkylakeX", WIDE, None, None),
        ("Cooperlake", WIDE, "Cooperlake", None),
        ("SAPPHIRERAPIDS", WIDE, None, None),
        ("Haswell", "fpu sse2 avx2 fma", None, None),
        ("Haswell", KNIGHTS, None, None),
        ("neoversen1", "fp asimd sve", None, None),
        (None, WIDE, None, None),
    ],
)
def test_hint_is_for_processors_with_more_than_openblas_uses(architecture, flags, chosen, says):
    hint = blas_kernels.hint(architecture, flags.split(), chosen)
    assert hint is None if says is None else says in hint and f"for {architecture}, without AVX-512" in hint


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """Libraries of a process on a processor with AVX-512."""
    processor = tmp_path / "cpuinfo"
    processor.write_text(f"processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: {WIDE}\nbugs\t: none\n")
    monkeypatch.setattr(blas_kernels, "_PROCESSOR", processor)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)

    def record(*libraries):
        selected = types.SimpleNamespace(info=lambda: list(libraries))
        controller = types.SimpleNamespace(select=lambda internal_api: selected)
        monkeypatch.setattr(blas_kernels.threadpoolctl, "ThreadpoolController", lambda: controller)

    return record


def test_library_is_that_of_numpy(recorded):
    scipys = {"filepath": "/site-packages/scipy.libs/libscipy_openblas.so", "architecture": "Haswell"}
    recorded(scipys)
    assert blas_kernels.hint_here() is None
    recorded(scipys, {"filepath": "/site-packages/numpy.libs/libscipy_openblas64_.so", "architecture": "Zen"})
    assert "for Zen, without AVX-512" in blas_kernels.hint_here()


def test_system_that_does_not_tell_its_processor_gives_no_hint(recorded, monkeypatch, tmp_path):
    recorded({"filepath": "/numpy.libs/openblas.so", "architecture": "Haswell"})
    monkeypatch.setattr(blas_kernels, "_PROCESSOR", tmp_path / "none")
    assert blas_kernels.hint_here() is None


def test_info_has_the_hint_beside_the_kernels(monkeypatch):
    monkeypatch.setattr(device_info.loading, "state", lambda: "compiled")
    monkeypatch.setattr(device_info.blas_kernels, "hint_here", lambda: "by OpenBLAS for Zen")
    assert device_info.details("numpy") == {"kernels": "compiled", "products": "by OpenBLAS for Zen"}
    monkeypatch.setattr(device_info.blas_kernels, "hint_here", lambda: None)
    assert device_info.details("numpy") == {"kernels": "compiled"}
