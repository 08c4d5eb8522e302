"""`asarray` and `asnumpy`: from anything to the backend in use, and back to NumPy, as copies."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from tests.harness import Backend
from tests.selection import params_of
from xpdl.backends import asarray, asnumpy, use
from xpdl.backends.conversion import from_numpy
from xpdl.backends.namespaces import array_namespace, device, dtype_name, library_name
from xpdl.errors import BackendError, DTypeError

LIBRARIES = params_of("numpy", "array_api_strict", "torch", "jax")
WITH_BFLOAT16 = params_of("torch", "jax")
DTYPES = ["bool", "int8", "uint8", "int32", "int64", "float16", "float32", "float64", "complex64"]

LAYOUTS = {
    "every second": np.arange(12.0)[::2],
    "backwards": np.arange(6.0)[::-1],
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "broadcast": np.broadcast_to(np.arange(3.0), (2, 3)),
    "big endian": np.arange(6.0).astype(">f8"),
    "little endian": np.arange(6.0).astype("<f8"),
    "no axes": np.array(1.5),
    "no rows": np.zeros((0, 3)),
    "many axes": np.arange(64.0).reshape((2,) * 6),
    "unaligned": np.frombuffer(b"\0" + np.arange(3.0).tobytes(), np.uint8)[1:].view(np.float64),
}
each_layout = pytest.mark.parametrize("layout", LAYOUTS)
values = pytest.mark.backends("values")
has_dtype = pytest.mark.applies(lambda backend, dtype: dtype in backend.dtypes)


def module(library: str) -> Any:
    return importlib.import_module("jax.numpy" if library == "jax" else library)


def array_of(library: str, numbers: Any, dtype: str | None = None) -> Any:
    xp = module(library)
    return xp.asarray(numbers, dtype=None if dtype is None else getattr(xp, dtype))


class TestAsarray:
    @each_layout
    def test_any_memory_layout(self, backend: Backend, layout: str) -> None:
        host = LAYOUTS[layout]
        with backend.use():
            backend.check(asarray(host), np.array(host, "float64"))

    @pytest.mark.parametrize("source", LIBRARIES)
    @pytest.mark.parametrize("target", LIBRARIES)
    def test_from_every_library_to_every_library(self, source: str, target: str) -> None:
        given = array_of(source, [[1.5, -2.0], [0.0, 4.0]], "float64")
        integers = array_of(source, [1, 2], "int32")
        with use(target) as backend:
            got, kept = asarray(given), asarray(integers)
        assert device(got) == backend.device
        assert (dtype_name(got.dtype), dtype_name(kept.dtype)) == ("float32", "int32")
        assert asnumpy(got).tolist() == [[1.5, -2.0], [0.0, 4.0]]
        assert asnumpy(kept).tolist() == [1, 2]

    @pytest.mark.parametrize(
        "given", [[1.0, 2.5], (1.0, 2.5), [[1.0], [2.5]], 2.5, 3.0, range(3), [True, False], [], 7]
    )
    def test_lists_and_numbers(self, backend: Backend, given: Any) -> None:
        want = np.array(given)
        with backend.use():
            backend.check(asarray(given), want)

    @pytest.mark.parametrize("number", [np.float32(1.5), np.float64(1.5), np.float16(1.5)], ids=repr)
    def test_numpy_scalars_become_arrays(self, backend: Backend, number: Any) -> None:
        with backend.use():
            backend.check(asarray(number), np.array(1.5))

    @pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool", "complex64"])
    @has_dtype
    def test_only_floats_take_the_dtype_of_the_backend(self, backend: Backend, dtype: str) -> None:
        with backend.use():
            backend.check(asarray(np.array([0, 1], dtype)), np.array([0, 1], dtype))
            backend.check(asarray(backend.asarray([0, 1], dtype)), np.array([0, 1], dtype))

    @pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "float16"])
    @has_dtype
    def test_a_dtype_by_name_or_object(self, backend: Backend, dtype: str) -> None:
        want = np.array([0, 1, 1], dtype)
        for spelled in (dtype, getattr(backend.xp, dtype), np.dtype(dtype), np.dtype(dtype).type):
            with backend.use():
                for given in ([0, 1, 1], [0.0, 1.0, 1.0], backend.asarray([0.0, 1.0, 1.0])):
                    backend.check(asarray(given, dtype=spelled), want)

    def test_a_dtype_the_library_lacks(self) -> None:
        for name in ("bfloat16", "nonsense", "zeros"):
            with pytest.raises(DTypeError, match=f"asarray: numpy has no dtype '{name}'"):
                asarray([1.0], dtype=name)

    def test_another_device_of_the_library(self) -> None:
        import array_api_strict as strict

        use("array_api_strict", dtype="float64")
        here = asarray([1.0])
        for given in ([1.0], here, np.ones(1)):
            there = asarray(given, device="device1")
            assert device(there) == strict.Device("device1")
            assert dtype_name(there.dtype) == "float64"
        assert device(asarray([1.0])) == device(here), "the device in use stays"
        assert asnumpy(asarray(asarray([1.0], device="device1"))).tolist() == [1.0]

    def test_a_device_that_is_not_there(self) -> None:
        with pytest.raises(BackendError, match="device 'gpu'"):
            asarray([1.0], device="gpu")

    @pytest.mark.parametrize(
        "bad",
        ["abc", b"abc", None, {"a": 1}, [None], object(), ["1.0"], {1.0, 2.0}, np.array(["a"]), [1.0, "a"]],
        ids=repr,
    )
    def test_what_is_no_number_is_an_error(self, backend: Backend, bad: Any) -> None:
        with backend.use(), pytest.raises(DTypeError, match=r"^asarray: expected numbers, got"):
            asarray(bad)

    def test_dates_are_no_numbers(self) -> None:
        with pytest.raises(DTypeError, match="expected numbers, got ndarray of datetime64"):
            asarray(np.array(["2020-01-01"], "datetime64[D]"))

    @pytest.mark.parametrize("ragged", [[[1.0], [2.0, 3.0]], [1.0, [2.0]]], ids=str)
    def test_ragged_lists_are_an_error(self, ragged: Any) -> None:
        with pytest.raises(ValueError, match="inhomogeneous"):
            asarray(ragged)

    @pytest.mark.parametrize("library", WITH_BFLOAT16)
    @pytest.mark.parametrize("target", LIBRARIES)
    def test_bfloat16_goes_everywhere(self, library: str, target: str) -> None:
        given = array_of(library, [1.5, -3.0], "bfloat16")
        with use(target):
            got = asarray(given)
        assert dtype_name(got.dtype) == "float32"
        assert asnumpy(got).tolist() == [1.5, -3.0]

    @pytest.mark.parametrize("library", WITH_BFLOAT16)
    def test_into_bfloat16(self, library: str) -> None:
        use(library, dtype="bfloat16")
        for given in ([1.5, -3.0], np.array([1.5, -3.0]), array_of(library, [1.5, -3.0], "float32")):
            got = asarray(given)
            assert dtype_name(got.dtype) == "bfloat16"
            assert asnumpy(got).tolist() == [1.5, -3.0]


class TestNoSharing:
    @each_layout
    @values
    @pytest.mark.skip_backend("numpy", reason="an array of the backend's own library is taken as it is")
    def test_the_host_array_is_left_alone(self, backend: Backend, layout: str) -> None:
        host = LAYOUTS[layout].copy()
        with backend.use():
            got = asarray(host)
        host[...] = -1.0
        backend.check(got, np.array(LAYOUTS[layout], "float64"))

    @pytest.mark.parametrize("source", LIBRARIES)
    def test_asnumpy_is_a_copy_that_can_be_written(self, source: str) -> None:
        given = array_of(source, [1.0, 2.0], "float64")
        got = asnumpy(given)
        got[0] = 9.0
        assert got.flags.owndata
        assert asnumpy(given).tolist() == [1.0, 2.0]

    @pytest.mark.parametrize("shape", [(), (3,), (2, 2)], ids=str)
    @values
    def test_from_numpy_never_shares(self, backend: Backend, shape: tuple[int, ...]) -> None:
        host = np.ones(shape, "float32")
        got = from_numpy(host, backend.xp, backend.device)
        host[...] = 5.0
        backend.check(got, np.ones(shape, "float32"))

    @pytest.mark.needs("torch")
    def test_torch_does_not_write_into_the_copy(self) -> None:
        import torch

        given = torch.ones(3)
        got = asnumpy(given)
        given.zero_()
        assert got.tolist() == [1.0, 1.0, 1.0]


class Exporter:
    """An array of a library that nobody knows: it has DLPack alone."""

    def __init__(self, a: Any) -> None:
        self.a = a

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.a.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self.a.__dlpack_device__()


def aligned(shape: int) -> np.ndarray[Any, Any]:
    """Ones in float32 that begin at a multiple of 64 bytes, which JAX asks for."""
    room = np.ones(shape + 16, "float32")
    start = -room.ctypes.data % 64 // 4
    return room[start : start + shape]


class TestSharing:
    """``copy=False`` takes the memory by DLPack, or says why it cannot."""

    @pytest.mark.needs("torch", "jax")
    @pytest.mark.parametrize("target", ["numpy", "torch", "jax"])
    @pytest.mark.parametrize("wrap", [lambda a: a, Exporter], ids=["array", "exporter"])
    def test_memory_is_shared(self, target: str, wrap: Any) -> None:
        host = aligned(4)
        with use(target):
            got = asarray(wrap(host), copy=False)
            copies = asarray(wrap(host)), asarray(wrap(host), copy=True)
        host[...] = 5.0
        assert library_name(array_namespace(got)) == target and asnumpy(got).tolist() == [5.0] * 4
        own = target == "numpy" and wrap is not Exporter
        assert [asnumpy(a).tolist() for a in copies] == [[5.0 if own else 1.0] * 4, [1.0] * 4]

    @pytest.mark.needs("torch", "jax")
    @pytest.mark.parametrize("source", ["torch", "jax"])
    def test_arrays_of_other_libraries_come_to_numpy(self, source: str) -> None:
        given = array_of(source, [1.0, 2.0], "float32")
        got = asarray(given, copy=False)
        assert type(got) is np.ndarray and np.shares_memory(got, np.from_dlpack(given))

    @pytest.mark.needs("torch")
    @pytest.mark.parametrize(
        ("given", "options", "reason"),
        [
            (np.ones(3), {}, "its dtype is float64, and that of the result float32"),
            (np.ones(3, "float32"), {"dtype": "float64"}, "its dtype is float32, and that of the result float64"),
            (np.ones(3, "int32"), {"dtype": "int64"}, "its dtype is int32, and that of the result int64"),
            (np.ones(3, "float32"), {"device": "meta"}, "it lies on cpu, and new arrays on meta"),
            ([1.0], {}, "list has no __dlpack__"),
            (np.broadcast_to(np.float32(1.0), 3), {}, "it is read-only"),
        ],
        ids=str,
    )
    def test_reason_of_a_copy_is_said(self, given: Any, options: Any, reason: str) -> None:
        with (
            use("torch"),
            pytest.raises(ValueError, match=rf"^asarray: copy=False, and {reason}.*; without copy=False"),
        ):
            asarray(given, copy=False, **options)

    @pytest.mark.needs("torch")
    def test_integers_keep_their_dtype(self) -> None:
        with use("torch"):
            assert dtype_name(asarray(np.ones(3, "int16"), copy=False).dtype) == "int16"

    def test_own_array_is_taken_as_it_is(self, backend: Backend) -> None:
        with backend.use():
            x = backend.asarray([1.0, 2.0])
            assert asarray(x, copy=False) is x and asarray(x) is x and asarray(x, copy=True) is not x

    @pytest.mark.parametrize("copy", [0, 1, "no"])
    def test_other_values_are_refused(self, copy: Any) -> None:
        with pytest.raises(TypeError, match="asarray: copy must be True, False or None, got"):
            asarray([1.0], copy=copy)


class TestAsnumpy:
    @pytest.mark.parametrize("dtype", DTYPES)
    @values
    @has_dtype
    def test_keeps_dtype_shape_and_values(self, backend: Backend, dtype: str) -> None:
        host = np.array([[0, 1], [1, 0]], dtype)
        got = asnumpy(backend.asarray(host))
        assert type(got) is np.ndarray
        assert got.dtype == host.dtype
        np.testing.assert_array_equal(got, host)

    @values
    @pytest.mark.parametrize("shape", [(), (0, 2), (2, 1, 3)], ids=str)
    def test_any_rank(self, backend: Backend, shape: tuple[int, ...]) -> None:
        assert asnumpy(backend.asarray(np.ones(shape))).shape == shape

    @pytest.mark.parametrize("given", [1.5, [1.5], np.float32(1.5), (1, 2)], ids=repr)
    def test_numbers_and_lists(self, given: Any) -> None:
        got = asnumpy(given)
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, np.array(given))

    @pytest.mark.parametrize("library", WITH_BFLOAT16)
    def test_bfloat16_becomes_float32(self, library: str) -> None:
        got = asnumpy(array_of(library, [1.5, -3.0], "bfloat16"))
        assert got.dtype == np.float32
        assert got.tolist() == [1.5, -3.0]

    @pytest.mark.needs("torch")
    @pytest.mark.parametrize("view", ["transposed", "strided", "flipped sign", "conjugate", "requires grad"])
    def test_tensors_that_are_views(self, view: str) -> None:
        import torch

        x = torch.arange(6, dtype=torch.float64).reshape(2, 3)
        given, want = {
            "transposed": (x.T, x.numpy().T),
            "strided": (x[:, ::2], x.numpy()[:, ::2]),
            "flipped sign": (torch.complex(x, x).conj().imag, -x.numpy()),
            "conjugate": (torch.complex(x, x).conj(), x.numpy() - 1j * x.numpy()),
            "requires grad": (x.clone().requires_grad_(), x.numpy()),
        }[view]
        np.testing.assert_array_equal(asnumpy(given), want)

    def test_big_endian_stays(self) -> None:
        host = np.arange(3.0).astype(">f8")
        assert asnumpy(host).tolist() == [0.0, 1.0, 2.0]

    def test_from_a_fake_device(self) -> None:
        import array_api_strict as strict

        x = strict.asarray([1.0, 2.0], device=strict.Device("device2"))
        assert asnumpy(x).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("convert", [asarray, asnumpy])
def test_masked_values_are_refused(convert):
    values = np.ma.masked_array([1.0, 2.0], [False, True])
    with pytest.raises(TypeError, match=rf"{convert.__name__}: some values of this array are masked"):
        convert(values)
    np.testing.assert_array_equal(convert(values[:1]), [1.0])
