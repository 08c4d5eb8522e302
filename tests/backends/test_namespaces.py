"""Library, device and dtype of an array, and the errors of mixed ones."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from tests.selection import params_of
from xpdl.backends import dtypes, namespaces
from xpdl.backends.namespaces import array_namespace, device, dtype_name, is_array, is_floating, library_name
from xpdl.errors import MixedArraysError

LIBRARIES = ["numpy", "array_api_strict", "torch", "jax"]
EACH = params_of(*LIBRARIES)


def zeros(library: str, **kwargs: Any) -> Any:
    return importlib.import_module("jax.numpy" if library == "jax" else library).zeros(3, **kwargs)


class TestArrayNamespace:
    def test_one_array(self, backend: Backend) -> None:
        assert array_namespace(backend.asarray([1.0])) is backend.xp

    def test_several_of_one_library(self, backend: Backend) -> None:
        a, b = backend.asarray([1.0]), backend.asarray([[2, 3]])
        assert array_namespace(a, b, a) is backend.xp

    def test_none_and_python_numbers_are_passed_over(self, backend: Backend) -> None:
        x = backend.asarray([1.0])
        for others in ((None,), (2.0,), (3, None), (True,)):
            assert array_namespace(x, *others) is backend.xp
            assert array_namespace(*others, x) is backend.xp

    def test_numpy_scalars_are_arrays_of_numpy(self) -> None:
        """float64's scalar is a Python float, too: it must not be passed over."""
        assert library_name(array_namespace(np.float64(1.0))) == "numpy"
        with pytest.raises(MixedArraysError):
            array_namespace(np.float64(1.0), zeros("array_api_strict"))

    def test_the_namespace_is_one_object(self) -> None:
        short, long = array_namespace(np.zeros(1)), array_namespace(np.zeros(1), None)
        assert short is long is array_namespace(np.float32(0))

    def test_subclasses_of_ndarray(self) -> None:
        class Mine(np.ndarray):
            pass

        assert library_name(array_namespace(np.zeros(2).view(Mine))) == "numpy"

    @pytest.mark.parametrize(
        ("bad", "cure"),
        [
            *((bad, "make one with xpdl.asarray(...)") for bad in ([1.0], (1, 2), {"a": 1}, object())),
            ("abc", "encode a text with xpdl.Vocabulary"),
        ],
        ids=lambda v: type(v).__name__,
    )
    def test_what_is_no_array_is_named(self, bad: Any, cure: str) -> None:
        for given in ((bad,), (np.zeros(1), bad), (bad, np.zeros(1))):
            with pytest.raises(TypeError) as caught:
                array_namespace(*given, owner="Affine")
            assert str(caught.value) == f"Affine: expected arrays, got {type(bad).__name__}; {cure}"
            assert not isinstance(caught.value, MixedArraysError)

    @pytest.mark.parametrize("given", [(), (None,), (1.0, 2), (None, True)], ids=str)
    def test_no_array_at_all(self, given: Any) -> None:
        with pytest.raises(TypeError, match=r"^expected arrays, got no array at all; make one with"):
            array_namespace(*given)


class TestMixing:
    @pytest.mark.parametrize("first", EACH)
    @pytest.mark.parametrize("second", EACH)
    @pytest.mark.applies(lambda first, second: first < second)
    def test_libraries_are_named_with_the_cure(self, first: str, second: str) -> None:
        a, b = zeros(first), zeros(second)
        for given in ((a, b), (b, a), (a, None, b, 1.0)):
            with pytest.raises(MixedArraysError) as caught:
                array_namespace(*given, owner="Affine1")
            assert str(caught.value).startswith(
                f"Affine1: arrays of {first} and {second} are mixed; move one with xpdl.as"
            )

    @pytest.mark.needs("torch")
    def test_three_libraries(self) -> None:
        with pytest.raises(MixedArraysError, match="arrays of array_api_strict and numpy and torch are mixed"):
            array_namespace(np.zeros(1), zeros("torch"), zeros("array_api_strict"))

    def test_devices_are_named_with_the_cure(self) -> None:
        import array_api_strict as strict

        a, b = strict.zeros(2), strict.zeros(2, device=strict.Device("device1"))
        with pytest.raises(
            MixedArraysError, match=r"^Relu: arrays on devices .*CPU_DEVICE.* and .*device1.*; move one"
        ):
            array_namespace(a, a, b, owner="Relu")

    @pytest.mark.needs("torch")
    def test_devices_of_torch(self) -> None:
        with pytest.raises(MixedArraysError, match="arrays on devices cpu and meta are mixed"):
            array_namespace(zeros("torch"), zeros("torch", device="meta"))

    def test_is_a_type_error_for_those_who_catch_that(self) -> None:
        assert issubclass(MixedArraysError, TypeError)


@pytest.mark.needs("torch")
class TestTensorsOfPyTorch:
    """Their types are known once one has been seen: the quick answers are those of the long way."""

    @pytest.fixture
    def cpu(self, torch: Any) -> Any:
        array_namespace(torch.nn.Parameter(torch.ones(2)), torch.ones(2))
        return torch.ones(2)

    @pytest.mark.parametrize(
        "other",
        [
            lambda torch: np.ones(2, "float32"),
            lambda torch: torch.ones(2, device="meta"),
            lambda torch: importlib.import_module("array_api_strict").ones(2),
        ],
        ids=["numpy", "another device", "array_api_strict"],
    )
    def test_are_not_beside_others(self, torch: Any, cpu: Any, other: Any) -> None:
        strange = other(torch)
        for one, two in ((cpu, strange), (strange, cpu)):
            with pytest.raises(MixedArraysError):
                array_namespace(one, two)
            assert not namespaces.same_device(one, two)
            assert not namespaces.floats_alike(one, two)
            assert not namespaces.is_floating_beside(one, two)

    def test_parameters_are_beside_tensors(self, torch: Any, cpu: Any) -> None:
        p = torch.nn.Parameter(torch.ones(2))
        assert array_namespace(p, None, cpu) is array_namespace(cpu) is array_namespace(cpu, p)
        for one, two in ((cpu, p), (p, cpu)):
            assert namespaces.same_device(one, two) and namespaces.floats_alike(one, two)
            assert namespaces.is_floating_beside(one, two, None)
        assert not namespaces.is_host(cpu) and is_array(p) and namespaces.is_writable(p)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
    def test_floats(self, torch: Any, cpu: Any, dtype: str) -> None:
        x = cpu.to(getattr(torch, dtype))
        assert namespaces.is_floating_beside(x) and is_floating(x) and namespaces.floats_alike(x, x)
        assert namespaces.is_half(x) == (dtype in namespaces.HALVES)
        assert dtype_name(namespaces.widened(x).dtype) == ("float32" if namespaces.is_half(x) else dtype)
        assert namespaces.floats_alike(x, cpu) == (dtype == "float32")

    @pytest.mark.parametrize("dtype", ["bool", "int16", "uint8", "int64", "complex64"])
    def test_others(self, torch: Any, cpu: Any, dtype: str) -> None:
        x = cpu.to(getattr(torch, dtype))
        assert not (namespaces.is_floating_beside(x) or is_floating(x) or namespaces.floats_alike(x, x))
        assert not namespaces.is_half(x)


class TestNames:
    @pytest.mark.parametrize("library", EACH)
    def test_library_name_is_what_users_type(self, library: str) -> None:
        assert library_name(array_namespace(zeros(library))) == library

    @pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "int32", "uint8", "int8", "complex64", "bool"])
    @pytest.mark.applies(lambda backend, dtype: dtype in backend.dtypes)
    def test_dtype_name(self, backend: Backend, dtype: str) -> None:
        x = backend.asarray(np.zeros(2), dtype)
        assert dtype_name(x.dtype) == dtype
        assert dtype_name(getattr(backend.xp, dtype)) == dtype

    def test_dtype_name_of_types_and_strings(self) -> None:
        assert [dtype_name(t) for t in (np.float32, np.dtype("float32"), np.dtype(">f4"), "float32")] == ["float32"] * 4

    def test_device_is_the_library_s_own(self, backend: Backend) -> None:
        assert device(backend.asarray([1.0])) == backend.device

    def test_to_device(self) -> None:
        import array_api_strict as strict

        x = strict.zeros(2)
        assert namespaces.to_device(x, device(x)) is x
        moved = namespaces.to_device(x, strict.Device("device2"))
        assert device(moved) == strict.Device("device2")
        assert device(x) == strict.Device("CPU_DEVICE")


class TestQuestions:
    def test_is_array(self, backend: Backend) -> None:
        assert is_array(backend.asarray([1.0]))
        assert is_array(backend.asarray(1.0))

    @pytest.mark.parametrize("other", [1.0, [1.0], None, "a", np], ids=repr)
    def test_is_no_array(self, other: Any) -> None:
        assert not is_array(other)

    @pytest.mark.parametrize(
        ("dtype", "floating"),
        [
            ("float32", True),
            ("float16", True),
            ("int64", False),
            ("bool", False),
            ("uint8", False),
            ("complex64", False),
        ],
    )
    @pytest.mark.applies(lambda backend, dtype: dtype in backend.dtypes)
    def test_is_floating(self, backend: Backend, dtype: str, floating: bool) -> None:
        assert is_floating(backend.asarray(np.zeros(1), dtype)) is floating

    @pytest.mark.needs("torch")
    def test_bfloat16_is_floating(self) -> None:
        import torch

        assert is_floating(torch.zeros(1, dtype=torch.bfloat16))
        assert dtype_name(torch.bfloat16) == "bfloat16"

    def test_is_host(self, backend: Backend) -> None:
        assert namespaces.is_host(backend.asarray([1.0])) is (backend.spec.library == "numpy")

    def test_is_writable(self, backend: Backend) -> None:
        writable = backend.spec.library != "jax" and not backend.spec.readonly
        assert namespaces.is_writable(backend.asarray([1.0])) is writable

    def test_numpy_scalars_are_not_writable(self) -> None:
        assert namespaces.is_writable(np.float64(1.0)) is False

    def test_default_float(self, backend: Backend) -> None:
        x = backend.asarray([1])
        got = dtypes.default_float(backend.xp, x)
        assert got == backend.xp.asarray([0.5], device=backend.device).dtype


class TestWrite:
    @pytest.mark.backends("values")
    def test_in_place_where_it_can_be_else_the_new_array(self, backend: Backend) -> None:
        old, new = backend.asarray([1.0, 2.0]), backend.asarray([3.0, 4.0])
        got = namespaces.write(old, new)
        writable = namespaces.is_writable(old)
        assert got is (old if writable else new)
        backend.check(got, np.array([3.0, 4.0]))
        backend.check(old, np.array([3.0, 4.0] if writable else [1.0, 2.0]))

    def test_of_rank_zero(self) -> None:
        old = np.array(1.0)
        assert namespaces.write(old, np.float64(2.0)) is old
        assert old == 2.0

    def test_the_dtype_stays(self) -> None:
        old = np.zeros(2, np.float32)
        namespaces.write(old, np.array([0.5, 1.5]))
        assert old.dtype == np.float32
        assert old.tolist() == [0.5, 1.5]
