"""Choosing where new arrays are made: names, modules, dtypes and devices; restoring; and what is refused."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import xpdl.backends
from tests.harness import Backend
from tests.selection import params_of
from xpdl.backends import asarray, get_backend, make_backend, use
from xpdl.backends.namespaces import device, dtype_name
from xpdl.errors import BackendError

# arguments for each library: its names and its modules, by the name of the module
SPELLINGS = {
    "numpy": ["numpy", "array_api_compat.numpy"],
    "array_api_strict": ["array_api_strict"],
    "torch": ["torch", "array_api_compat.torch"],
    "jax": ["jax", "jax.numpy"],
}
# those of floating numbers
DTYPES_OF = {
    "numpy": ["float16", "float32", "float64"],
    "array_api_strict": ["float32", "float64"],
    "torch": ["float16", "bfloat16", "float32", "float64"],
    "jax": ["float16", "bfloat16", "float32", "float64"],
}
each_library = pytest.mark.parametrize("library", params_of(*SPELLINGS))
FLAT = [(library, module) for library, modules in SPELLINGS.items() for module in modules]


def chosen() -> tuple[str, str]:
    backend = get_backend()
    return backend.name, backend.dtype


class TestNames:
    @pytest.mark.parametrize(("library", "module"), params_of(*FLAT))
    def test_a_name_or_a_module(self, library: str, module: str) -> None:
        loaded = importlib.import_module(module)
        for given in (module, loaded):
            handle = use(given)
            assert (handle.name, handle.dtype) == (library, "float32")
            assert get_backend() is handle.backend
            made = asarray([1.0])
            assert dtype_name(made.dtype) == "float32"
            assert get_backend().xp.asarray is not None

    @each_library
    def test_every_spelling_is_the_same_backend(self, library: str) -> None:
        given = [g for m in SPELLINGS[library] for g in (m, importlib.import_module(m))]
        first, *others = [make_backend(g) for g in given]
        assert all(other.xp is first.xp and other == first for other in others)

    def test_numpy_in_float32_is_the_default(self) -> None:
        assert chosen() == ("numpy", "float32")

    def test_handle_has_what_get_backend_has(self) -> None:
        handle = use("array_api_strict", device="device1", dtype="float64")
        backend = get_backend()
        for name in ("name", "xp", "device", "dtype"):
            assert getattr(handle, name) == getattr(backend, name)
        assert repr(handle) == f"<xpdl.use array_api_strict {backend.device} float64>"
        with pytest.raises(AttributeError):
            _ = handle.nothing

    def test_repeated_use_just_replaces(self) -> None:
        use("array_api_strict")
        use("numpy", dtype="float64")
        assert chosen() == ("numpy", "float64")


class TestDtypesAndDevices:
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
    @each_library
    @pytest.mark.applies(lambda library, dtype: dtype in DTYPES_OF[library])
    def test_dtype(self, library: str, dtype: str) -> None:
        backend = use(library, dtype=dtype).backend
        assert backend.dtype == dtype
        assert dtype_name(asarray([1.0, 2.0]).dtype) == dtype
        assert dtype_name(backend.float) == dtype

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
    @each_library
    @pytest.mark.applies(lambda library, dtype: dtype not in DTYPES_OF[library])
    def test_a_dtype_that_the_library_lacks(self, library: str, dtype: str) -> None:
        with pytest.raises(BackendError, match=rf"use\('{library}'\): this library has no dtype {dtype}"):
            use(library, dtype=dtype)

    def test_dtype_may_be_the_library_s_own_object(self) -> None:
        assert use("numpy", dtype=np.float64).dtype == "float64"
        assert use("array_api_strict", dtype=np.dtype("float64")).dtype == "float64"

    @pytest.mark.parametrize("dtype", ["int32", "complex64", "float", "double", "", None, 32, np.int64])
    def test_a_dtype_that_is_none_of_ours(self, dtype: Any) -> None:
        with pytest.raises(BackendError, match="use: dtype must be one of float16, bfloat16, float32, float64, got"):
            use("numpy", dtype=dtype)

    @pytest.mark.parametrize("given", ["device1", "device2"])
    def test_device_of_array_api_strict(self, given: str) -> None:
        import array_api_strict as strict

        for spelled in (given, strict.Device(given)):
            assert use("array_api_strict", device=spelled).device == strict.Device(given)
            assert device(asarray([1.0])) == strict.Device(given)

    @pytest.mark.needs("torch")
    def test_device_of_torch(self) -> None:
        import torch

        for spelled in ("meta", torch.device("meta")):
            assert use("torch", device=spelled).device == torch.device("meta")
            assert asarray([1.0]).is_meta

    @pytest.mark.needs("jax")
    def test_device_of_jax(self) -> None:
        import jax

        first = jax.devices("cpu")[0]
        for spelled in ("cpu", "cpu:0", first):
            assert use("jax", device=spelled).device == first

    @pytest.mark.parametrize(
        ("library", "bad"),
        params_of(
            ("numpy", "gpu"),
            ("array_api_strict", "nowhere"),
            ("torch", "nowhere"),
            ("torch", "cuda:99"),
            ("torch", 1.5),
            ("jax", "nowhere"),
            ("jax", "cpu:99"),
            ("jax", "cpu:one"),
        ),
    )
    def test_a_device_that_is_not_there(self, library: str, bad: Any) -> None:
        with pytest.raises(BackendError, match=rf"use\('{library}'\): device {bad!r} .*does not work"):
            use(library, device=bad)

    def test_a_device_without_float64(self) -> None:
        with pytest.raises(BackendError, match=r"use\('array_api_strict'\): device 'no_float64' or dtype float64"):
            use("array_api_strict", device="no_float64", dtype="float64")

    @pytest.mark.needs("jax")
    def test_jax_with_float64_off_names_the_switch(self) -> None:
        import jax

        with jax.enable_x64(False), pytest.raises(BackendError, match="jax_enable_x64"):
            use("jax", dtype="float64")


class TestRefused:
    @pytest.mark.parametrize("name", ["nope", "no.such", "", ".", "..numpy", "numpy.", "a b"])
    def test_no_such_module(self, name: str) -> None:
        with pytest.raises(
            BackendError, match=r"^use\(.*\): cannot import .*; install it, or choose one of auto, numpy"
        ):
            use(name)

    @pytest.mark.parametrize("name", ["json", "collections.abc"])
    def test_a_module_that_is_no_array_library(self, name: str) -> None:
        for given in (name, importlib.import_module(name)):
            with pytest.raises(BackendError, match="it must be a module that array-api-compat understands"):
                use(given)

    @pytest.mark.parametrize("given", [None, 3, 1.5, ["numpy"]])
    def test_neither_name_nor_module(self, given: Any) -> None:
        with pytest.raises(BackendError, match="use: expected the name of a library or its module, got"):
            use(given)

    def test_a_broken_library_is_no_traceback(self, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "broken_arrays.py").write_text("raise ImportError('libfoo.so is missing')\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(BackendError, match=r"cannot import broken_arrays \(libfoo.so is missing\)"):
            use("broken_arrays")

    def test_what_failed_leaves_the_choice_as_it_was(self) -> None:
        before = use("array_api_strict", dtype="float64").backend
        for arguments in ({"name": "nope"}, {"name": "numpy", "device": "gpu"}, {"name": "numpy", "dtype": "int8"}):
            with pytest.raises(BackendError):
                use(**arguments)
            assert get_backend() is before


class TestContextManager:
    def test_restores_what_was_there(self) -> None:
        use("numpy", dtype="float64")
        with use("array_api_strict") as inside:
            assert get_backend() is inside
            assert chosen() == ("array_api_strict", "float32")
        assert chosen() == ("numpy", "float64")

    def test_restores_when_the_block_raises(self) -> None:
        with pytest.raises(ZeroDivisionError), use("array_api_strict"):
            _ = 1 / 0
        assert chosen() == ("numpy", "float32")

    def test_nested(self) -> None:
        seen = []
        with use("numpy", dtype="float64"):
            with use("array_api_strict"):
                with use("numpy", dtype="float16"):
                    seen.append(chosen())
                seen.append(chosen())
            seen.append(chosen())
        assert seen == [("numpy", "float16"), ("array_api_strict", "float32"), ("numpy", "float64")]
        assert chosen() == ("numpy", "float32")

    def test_a_plain_use_inside_is_undone_too(self) -> None:
        with use("numpy", dtype="float64"):
            use("array_api_strict")
        assert chosen() == ("numpy", "float32")

    def test_before_the_first_use_the_environment_decides_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with use("numpy", dtype="float64"):
            pass
        monkeypatch.setenv("XPDL_BACKEND", "array_api_strict")
        assert chosen() == ("array_api_strict", "float32")

    def test_existing_arrays_are_untouched(self) -> None:
        made = asarray([1.0])
        with use("array_api_strict"):
            pass
        use("array_api_strict")
        assert isinstance(made, np.ndarray)


def test_of_an_array(backend: Backend) -> None:
    made = xpdl.backends.Backend.of(backend.asarray(np.zeros(2, "float32")))
    assert made.xp is backend.xp
    assert made.device == backend.device
    assert made.dtype == "float32"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("library", "dtype"), params_of(*((library, dtype) for library, dtypes in DTYPES_OF.items() for dtype in dtypes))
)
def test_pickles_and_copies_are_the_same_backend(library: str, dtype: str) -> None:
    own = make_backend(library, dtype=dtype)
    with use(library, dtype=dtype) as inside:
        assert inside == own
    handle = use(library, dtype=dtype)
    for made in (own, handle):
        for other in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
            assert isinstance(other, xpdl.backends.Backend) and other == own
            assert other.asarray([1.0]).dtype == own.asarray([1.0]).dtype


def test_pickles_keep_the_device() -> None:
    backend = make_backend("array_api_strict", "device1")
    assert pickle.loads(pickle.dumps(backend)).device == backend.device != make_backend("array_api_strict").device


def test_a_module_by_another_name_is_found_through_array_api_compat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any importable module that makes arrays array-api-compat knows will do."""
    mine = ModuleType("my_arrays")
    mine.asarray = np.asarray  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_arrays", mine)
    assert use("my_arrays").xp is use("numpy").xp
