"""The backends tests run on: making arrays there, calling under their rules, checking what comes back."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

import xpdl.backends
from xpdl.backends import availability, conversion, dtypes, namespaces

# relative errors that rounding alone explains in nets of a few hundred operations
RTOL = {"float16": 1e-2, "bfloat16": 4e-2, "float32": 2e-5, "float64": 1e-11}


T = TypeVar("T")
_ORDINARY = (None, "cpu", "cuda")


@dataclasses.dataclass(frozen=True)
class Spec:
    """A library and the rules it is tested under."""

    id: str
    library: str
    device: Any = None  # by name
    jit: bool = False
    readonly: bool = False  # NumPy inputs cannot be written to
    values: bool = True  # False: arrays have shapes, dtypes and devices only
    float64: bool = True
    host_reads: bool = True  # allows float(), bool(), np.asarray... inside the call under test
    gpu: bool = False
    second: bool = False  # on a device that is not the current one, of two GPUs; only where it is asked for
    flags: tuple[tuple[str, Any], ...] = ()

    @property
    def dtypes(self) -> set[str]:
        """Names of the dtypes of its arrays."""
        lacks = {"float16", "bfloat16"} if self.library == "array_api_strict" else set()
        lacks |= {"bfloat16"} if self.library == "numpy" else set()
        lacks |= set() if self.float64 else {"float64", "complex128"}
        integers = {f"{kind}int{bits}" for kind in ("", "u") for bits in (8, 16, 32, 64)}
        return {"bool", *integers, "float16", "bfloat16", "float32", "float64", "complex64", "complex128"} - lacks

    @property
    def tags(self) -> set[str]:
        """Tags for the markers ``backends`` and ``skip_backend``: id, library, and capabilities.

        ``plain`` is a library as users have it, without a rule or a restriction of ours; ``precompiled`` ones do not
        compile for every new shape, which makes many small cases quick. ``current`` ones are on the device that is.
        """
        tags = {self.id, self.library}
        for tag, is_so in (
            ("jit", self.jit),
            ("gpu", self.gpu),
            ("nosync", not self.host_reads),
            ("meta", not self.values),
            ("values", self.values),
            ("float64", self.float64),
            ("float16", "float16" in self.dtypes),
            ("bfloat16", "bfloat16" in self.dtypes),
            ("eager", not self.jit),
            ("precompiled", self.library != "jax"),
            ("current", not self.second),
            ("plain", not (self.jit or self.readonly or self.flags) and self.values and self.device in _ORDINARY),
        ):
            if is_so:
                tags.add(tag)
        return tags


_EVERYTHING_OFF = (
    ("api_version", "2024.12"),
    ("boolean_indexing", False),
    ("data_dependent_shapes", False),
    ("enabled_extensions", ()),
)

SPECS = {
    spec.id: spec
    for spec in (
        Spec("numpy", "numpy"),
        Spec("numpy:readonly", "numpy", readonly=True),
        Spec("strict:device1", "array_api_strict", device="device1"),
        Spec("strict:nosync", "array_api_strict", device="device2", host_reads=False, flags=_EVERYTHING_OFF),
        Spec("strict:no_float64", "array_api_strict", device="no_float64", float64=False),
        Spec("torch", "torch", device="cpu"),
        Spec("torch:meta", "torch", device="meta", values=False, host_reads=False),
        Spec("jax", "jax"),
        Spec("jax:jit", "jax", jit=True, host_reads=False),
        Spec("cupy", "cupy", gpu=True),
        Spec("cupy:device1", "cupy", device=1, gpu=True, second=True),
        Spec("torch:cuda", "torch", device="cuda", gpu=True),
    )
}


def gpu_required() -> bool:
    return os.environ.get("XPDL_REQUIRE_GPU", "") not in ("", "0")


def on_host() -> bool:
    """Tell whether the GPU is the host's CPU (tests/hostcuda)."""
    return os.environ.get("CUPY_ON_HOST", "") not in ("", "0")


def gpu_present() -> bool:
    """Tell whether tests of a GPU are to run: there is one, or its absence is to be a failure."""
    return gpu_required() or on_host() or availability._driver_found()


def selected() -> list[Spec]:
    """The backends of this run: those ``XPDL_BACKENDS`` names (``all`` or ids with commas), else all that could work.

    ``cupy:device1``, the second of two GPUs while the first is the current one, is for those who ask for it. With
    ``CUPY_ON_HOST=1``, CuPy's backends need no GPU: see tests/hostcuda.

    Without the variable, GPU backends are skipped where no NVIDIA driver is found, unless ``XPDL_REQUIRE_GPU`` is set.
    """
    asked = os.environ.get("XPDL_BACKENDS", "")
    if asked == "all":
        return list(SPECS.values())
    if asked:
        unknown = [name for name in asked.split(",") if name not in SPECS]
        if unknown:
            raise ValueError(f"XPDL_BACKENDS names {unknown}; known are: all, {', '.join(SPECS)}")
        return [SPECS[name] for name in asked.split(",")]
    gpu = gpu_required() or availability._driver_found()
    return [spec for spec in SPECS.values() if (gpu or not spec.gpu) and not spec.second]


@functools.cache
def problem(spec: Spec) -> str | None:
    """Reason why this backend cannot be tested here, or None."""
    if spec.library == "cupy":
        reason = availability.cupy_problem()
        lacks_second = spec.second and not reason and importlib.import_module("cupy").cuda.runtime.getDeviceCount() < 2
        return "CuPy finds one device, and two are needed" if lacks_second else reason
    try:
        library = importlib.import_module(spec.library)
    except ImportError as error:
        return f"{spec.library} is not installed ({error})"
    if spec.device == "cuda" and not library.cuda.is_available():
        return "torch finds no CUDA device"
    return None


class Backend:
    """A usable backend: what the `backend` fixture gives.

    Attributes
    ----------
    spec : Spec
    id : str
        Its name, such as ``"strict:device1"``.
    xp : the array namespace
    device : the library's own device object
    float : str
        Name of its widest floating dtype: ``"float64"`` where it has that.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.id = spec.id
        self.float = "float64" if spec.float64 else "float32"
        made = xpdl.backends.make_backend(spec.library, spec.device, self.float)
        self.xp = made.xp
        self.device = made.device

    def __repr__(self) -> str:
        return f"<backend {self.id}>"

    def use(self, dtype: str | None = None) -> Any:
        """``xpdl.use`` of this backend, for a ``with`` statement; float64 where it can, unless `dtype` is given."""
        return xpdl.backends.use(self.spec.library, device=self.device, dtype=dtype or self.float)

    def asarray(self, a: Any, dtype: str | None = None) -> Any:
        """A fresh array of this backend with the values, shape and dtype of `a`; float64 only where it exists."""
        host = np.array(a) if dtype == "bfloat16" else np.array(a, dtype=dtype)
        if "bfloat16" in (dtype, host.dtype.name):
            # NumPy has none of its own
            wide = conversion.from_numpy(host.astype(np.float32), self.xp, self.device)
            return self.xp.astype(wide, dtypes.dtype_by_name("bfloat16", self.xp))
        if host.dtype == np.float64 and not self.spec.float64:
            host = host.astype(np.float32)
        if self.spec.library == "numpy":
            host.flags.writeable = not self.spec.readonly
            return host
        return conversion.from_numpy(host, self.xp, self.device)

    def to_numpy(self, x: Any) -> np.ndarray[Any, Any]:
        return conversion.to_numpy(x)

    @contextlib.contextmanager
    def rules(self) -> Iterator[None]:
        """Inside, what this backend forbids raises."""
        with contextlib.ExitStack() as stack:
            if self.spec.flags:
                stack.enter_context(self.xp.ArrayAPIStrictFlags(**dict(self.spec.flags)))
            if self.spec.library == "array_api_strict" and not self.spec.host_reads:
                stack.enter_context(no_host_reads(self.xp))
            yield

    def call(self, f: Callable[..., Any], *arrays: Any, **static: Any) -> Any:
        """``f(*arrays, **static)`` under the rules; under jit, arrays are traced and keywords are static."""

        def run(*traced: Any) -> Any:
            return f(*traced, **static)

        if self.spec.jit:
            run = importlib.import_module("jax").jit(run)
        with self.rules():
            return run(*arrays)

    def check(
        self,
        actual: Any,
        desired: Any,
        *,
        rtol: float | None = None,
        atol: float | None = None,
        dtype: str | None = None,
    ) -> None:
        """Assert namespace, device, shape, dtype and, where there are any, values.

        Parameters
        ----------
        actual : array of this backend
        desired : array_like
            What is expected, on the host.
        rtol, atol : float, optional
            By default what rounding in the dtype of `actual` explains, `atol` in proportion to the largest value.
        dtype : str, optional
            The dtype `actual` must have, by name; by default that of `desired`, or float32 where there is no float64.
        """
        desired = np.asarray(desired)
        assert namespaces.array_namespace(actual) is self.xp, f"namespace {namespaces.array_namespace(actual)}"
        assert namespaces.device(actual) == self.device, f"device {namespaces.device(actual)}, want {self.device}"
        assert tuple(actual.shape) == desired.shape, f"shape {tuple(actual.shape)}, want {desired.shape}"
        if dtype is None:
            dtype = "float32" if desired.dtype == np.float64 and not self.spec.float64 else desired.dtype.name
        assert namespaces.dtype_name(actual.dtype) == dtype, f"dtype {actual.dtype}, want {dtype}"
        if not self.spec.values:
            return
        values = self.to_numpy(actual)
        if values.dtype.kind != "f":
            np.testing.assert_array_equal(values, desired)
            return
        rtol = RTOL[dtype] if rtol is None else rtol
        finite = np.abs(desired[np.isfinite(desired)])
        atol = rtol * float(finite.max(initial=0.0)) if atol is None else atol
        np.testing.assert_allclose(values.astype(np.float64), desired, rtol=rtol, atol=atol)


def nonempty(items: Iterable[T]) -> list[T]:
    """List what a loop is to go through, where a loop over nothing would assert nothing."""
    found = list(items)
    assert found, "there is nothing to go through"
    return found


@contextlib.contextmanager
def no_host_reads(strict: Any) -> Iterator[None]:
    """Forbid what would make a GPU wait for the host: array_api_strict lets it through, even on its fake devices."""

    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a value was read on the host: on a GPU this waits for all work before it")

    cls = type(strict.ones(1))
    names = ("__float__", "__int__", "__bool__", "__complex__", "__index__", "__array__", "__dlpack__")
    original = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
    for name in original:
        setattr(cls, name, refuse)
    try:
        yield
    finally:
        for name, method in original.items():
            setattr(cls, name, method)
