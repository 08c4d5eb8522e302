"""The default backend: the environment, "auto", available libraries; and importing loads NumPy alone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

import xpdl.backends
from xpdl.backends import asarray, availability, available_backends, get_backend, make_backend, use
from xpdl.errors import BackendError


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a new interpreter where every warning is an error."""
    full = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=full, capture_output=True, text=True, check=False, timeout=120
    )


def chosen() -> tuple[str, str]:
    backend = get_backend()
    return backend.name, backend.dtype


class TestEnvironment:
    @pytest.mark.exhaustive
    def test_is_the_default(self) -> None:
        code = "from xpdl.backends import asarray; print(type(asarray([1.0])).__module__)"
        ran = python(code, XPDL_BACKEND="array_api_strict")
        assert ran.stdout.startswith("array_api_strict"), ran.stderr
        assert not ran.stderr

    def test_use_comes_before_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XPDL_BACKEND", "array_api_strict")
        use("numpy")
        assert chosen() == ("numpy", "float32")

    def test_empty_is_as_if_not_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XPDL_BACKEND", "")
        assert chosen() == ("numpy", "float32")

    def test_a_wrong_name_fails_when_the_first_array_is_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XPDL_BACKEND", "nope")
        with pytest.raises(BackendError, match=r"^XPDL_BACKEND=nope: use\('nope'\): cannot import"):
            asarray([1.0])


class TestAuto:
    def test_takes_cupy_when_a_gpu_answers(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        asked = []

        def make(name: str, device: Any, dtype: str) -> Any:
            asked.append((name, device, dtype))
            return make_backend("numpy", None, dtype)

        monkeypatch.setattr(availability, "cupy_problem", lambda: None)
        monkeypatch.setattr(xpdl.backends, "make_backend", make)
        use("auto", dtype="float16")
        assert asked == [("cupy", None, "float16")]
        assert capsys.readouterr().err == "xpdl: using cupy: a CUDA device answers\n"

    def test_is_the_default_of_use_itself(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(availability, "cupy_problem", lambda: "no driver: none found")
        assert use(dtype="float64").name == "numpy"
        assert chosen() == ("numpy", "float64")
        assert capsys.readouterr().err == "xpdl: using numpy: no driver: none found\n"

    def test_a_named_library_says_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        use("numpy")
        assert capsys.readouterr() == ("", "")


class TestAvailable:
    def test_ok_is_what_use_accepts_and_the_rest_is_a_reason(self) -> None:
        answers = available_backends()
        assert list(answers) == ["numpy", "cupy", "torch", "jax", "array_api_strict"]
        assert answers["numpy"] == "ok"
        for name, answer in answers.items():
            if answer == "ok":
                assert use(name).name == name
            else:
                with pytest.raises(BackendError) as caught:
                    use(name)
                assert str(caught.value) == f"use({name!r}): {answer}"

    def test_asking_chooses_nothing(self) -> None:
        before = use("array_api_strict").backend
        available_backends()
        assert get_backend() is before


@pytest.mark.exhaustive
def test_importing_xpdl_loads_no_array_library_but_numpy() -> None:
    libraries = ["cupy", "torch", "jax", "jaxlib", "array_api_strict", "dask", "ndonnx", "onnx", "tensorflow"]
    code = (
        "import sys, numpy, xpdl, xpdl.backends, xpdl.functional, xpdl.layers, xpdl.models, xpdl.optimizers\n"
        "layer = xpdl.layers.Affine(units=2)\n"
        "layer.forward(numpy.ones((2, 3)))\n"
        f"print([name for name in {libraries} if name in sys.modules])"
    )
    ran = python(code)
    assert ran.stdout == "[]\n", ran.stdout + ran.stderr
    assert not ran.stderr
