"""Products by cuBLAS: what it is asked for, by a note of each call on the way to it."""

import functools
import sys
import threading
import types

import numpy as np
import pytest

from tests.selection import host_dtypes
from xpdl import (
    Adam,
    Affine,
    BackendError,
    BatchNormalization,
    Convolution,
    Dropout,
    Relu,
    Sequential,
    SoftmaxWithLoss,
    Trainer,
    numerics,
    use,
)
from xpdl.backends.cupy import capture, cublas, products
from xpdl.backends.dtypes import dtype_by_name
from xpdl.training.cuda_graph import GraphedStep

pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]
KINDS = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
TOLERANCE = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-13}


class Library:
    """libcublas, with a line for each call, and a status for functions that are refused."""

    def __init__(self, cupy):
        self.cupy = cupy
        self.refused = {}
        self._library, self._lines, self._handles = cublas._library(), [], []

    def __getattr__(self, name):
        function = getattr(self._library, name)

        def call(handle, *args):
            status = self.refused.get(name, 0) or function(handle, *args)
            self._lines.append(self._line(name, handle, args))
            return status

        return call

    def _line(self, name, handle, args):
        if name == "cublasCreate_v2":
            # `handle` refers to where it is written
            self._handles.append(handle._obj.value)
            return f"create {len(self._handles)}"
        number = self._handles.index(handle.value) + 1
        if name == "cublasSetMathMode":
            return f"math {number} {args[0]}"
        if name == "cublasSetStream_v2":
            return f"stream {number} {args[0]}"
        if name == "cublasSetWorkspace_v2":
            return f"workspace {number} {args[0] % 256} {args[1]}"
        ops, sizes, rest = args[:2], args[2:5], args[6:]
        if name == "cublasGemmEx":
            _, kind_a, lda, _, kind_b, ldb, _, _, kind_c, ldc, computed, algorithm = rest
            kind, stacks = "gemm", ""
        else:
            (_, kind_a, lda, between_a, _, kind_b, ldb, between_b, _, _, kind_c, ldc, between_c, count, computed) = (
                rest[:15]
            )
            kind, algorithm = "batched", rest[15]
            stacks = f" between {between_a} {between_b} {between_c} count {count}"
        return (
            f"{kind} {number} ops {ops[0]} {ops[1]} sizes {sizes[0]} {sizes[1]} {sizes[2]} kinds {kind_a} {kind_b} {kind_c} "
            f"steps {lda} {ldb} {ldc}{stacks} as {computed} {algorithm}"
        )

    def calls(self):
        """The calls since this was asked last."""
        lines, self._lines = self._lines, []
        return lines


@pytest.fixture
def library(gpu, monkeypatch):
    made = Library(gpu.cupy)
    monkeypatch.setattr(cublas, "_library", lambda: made)
    monkeypatch.setattr(cublas, "_local", cublas._Local())
    return made


def array(library, a, dtype="float32"):
    return library.cupy.asarray(a.astype(dtype_by_name(dtype, library.cupy)))


def compare(library, a, b):
    """The product against NumPy's in float64, by the sizes of its terms; gives the one call of cuBLAS that made it."""
    library.calls()
    c = products.matmul(a, b)
    dtype = a.dtype.name
    assert c.dtype.name == dtype and c.flags.c_contiguous
    exact, terms = (np.matmul(f(a.get().astype("float64")), f(b.get().astype("float64"))) for f in (np.array, np.abs))
    assert (np.abs(c.get().astype("float64") - exact) <= TOLERANCE[dtype] * terms).all()
    (call,) = [line for line in library.calls() if not line.startswith(("create", "math", "stream", "workspace"))]
    return call


@pytest.mark.parametrize("dtype", host_dtypes(*KINDS))
@pytest.mark.parametrize(
    "left, right, ops, steps",
    [
        (False, False, "0 0", "3 5 3"),
        (True, False, "0 1", "3 4 3"),
        (False, True, "1 0", "5 5 3"),
        (True, True, "1 1", "5 4 3"),
    ],
)
def test_arguments_of_a_product(library, dtype, left, right, ops, steps):
    rng = np.random.default_rng(0)
    a, b = (
        array(library, rng.normal(size=shape[::-1] if turned else shape), dtype)
        for shape, turned in (((4, 5), left), ((5, 3), right))
    )
    call = compare(library, a.T if left else a, b.T if right else b)
    kind, computed = KINDS[dtype], 70 if dtype == "float64" else 68
    assert call.split(" ", 2)[2] == f"ops {ops} sizes 3 4 5 kinds {kind} {kind} {kind} steps {steps} as {computed} -1"
    assert call.startswith("gemm ")


@pytest.mark.parametrize("dtype", host_dtypes(*KINDS))
@pytest.mark.parametrize("turned", [False, True])
def test_arguments_of_stacks(library, dtype, turned):
    rng = np.random.default_rng(1)
    a = array(library, rng.normal(size=(6, 5, 4) if turned else (6, 4, 5)), dtype)
    b = array(library, rng.normal(size=(6, 5, 3)), dtype)
    call = compare(library, a.transpose(0, 2, 1) if turned else a, b)
    kind, computed = KINDS[dtype], 70 if dtype == "float64" else 68
    ops, steps = ("0 1", "3 4 3") if turned else ("0 0", "3 5 3")
    assert call.startswith("batched ")
    assert call.split(" ", 2)[2] == (
        f"ops {ops} sizes 3 4 5 kinds {kind} {kind} {kind} steps {steps} between 15 20 12 count 6 as {computed} -1"
    )


def test_a_stack_of_one_is_a_product(library):
    rng = np.random.default_rng(2)
    a, b = (array(library, rng.normal(size=shape)) for shape in ((1, 5, 4), (1, 5, 3)))
    call = compare(library, a.transpose(0, 2, 1), b)
    assert call.startswith("gemm ") and "ops 0 1 sizes 3 4 5" in call


def laid_out(library, rng, shape, dtype):
    """An array whose matrices are gapless or not, transposed or not, reversed or not."""
    rows, columns = shape[-2:]
    steps = [int(rng.choice([1, 1, 2])) for _ in shape]
    wide = array(library, rng.normal(size=[n * step for n, step in zip(shape, steps, strict=True)]), dtype)
    a = wide[tuple(slice(None, None, step) for step in steps)]
    if rng.random() < 0.3:
        a = a[..., ::-1]
    if rng.random() < 0.5:
        swapped = array(library, rng.normal(size=(*shape[:-2], columns, rows)), dtype)
        a = swapped.transpose(*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    return a


@pytest.mark.parametrize("seed", range(40))
def test_any_layout(library, seed):
    rng = np.random.default_rng(seed)
    m, k, n, stack = (int(v) for v in rng.integers(1, (7, 7, 7, 4)))
    dtype = list(KINDS)[seed % 4]
    stacks = (stack,) if seed % 3 else ()
    compare(library, laid_out(library, rng, (*stacks, m, k), dtype), laid_out(library, rng, (*stacks, k, n), dtype))


def test_rows_with_gaps_between_them_are_not_copied(library):
    rng = np.random.default_rng(3)
    a, b = array(library, rng.normal(size=(4, 9))), array(library, rng.normal(size=(5, 3)))
    assert "steps 3 9 3" in compare(library, a[:, 2:7], b)
    assert "steps 3 18 3" in compare(library, a[::2, 2:7], b)


def test_tf32_is_of_single_precision_alone(library):
    a = array(library, np.array([[1.0 + 2.0**-12]]))
    with numerics(precision="tf32"):
        library.calls()
        assert float(products.matmul(a, a).get()[0, 0]) == 1.0
        assert library.calls()[-1].endswith("as 77 -1")
        for dtype, computed in (("float16", 68), ("float64", 70)):
            assert compare(
                library, array(library, np.ones((2, 2)), dtype), array(library, np.ones((2, 2)), dtype)
            ).endswith(f"as {computed} -1")
    assert compare(library, a, a).endswith("as 68 -1")


def test_a_handle_has_stream_workspace_and_whole_sums_before_its_first_product(library):
    a = array(library, np.ones((2, 2)))
    products.matmul(a, a)
    created, *calls = library.calls()
    number = created.removeprefix("create ")
    assert calls[:3] == [f"math {number} 16", f"stream {number} 0", f"workspace {number} 0 {4 << 20}"]
    products.matmul(a, a)
    assert [line.split()[0] for line in library.calls()] == ["gemm"]


def test_another_stream_is_set_before_its_workspace(library):
    a = array(library, np.ones((2, 2)))
    products.matmul(a, a)
    stream = library.cupy.cuda.Stream(non_blocking=True)
    library.calls()
    with stream:
        products.matmul(a, a)
        products.matmul(a, a)
    products.matmul(a, a)
    words = [line.split() for line in library.calls()]
    assert [line[0] for line in words] == ["stream", "workspace", "gemm", "gemm", "stream", "workspace", "gemm"]
    assert [int(line[2]) for line in words if line[0] == "stream"] == [stream.ptr, 0]


def test_workspace_is_larger_from_hopper_on(library, monkeypatch):
    cuda = library.cupy.cuda
    for capability, size in (("75", 4), ("89", 4), ("90", 32), ("120", 32)):
        device = types.SimpleNamespace(compute_capability=capability)
        changed = types.SimpleNamespace(**{**vars(cuda), "Device": lambda number, device=device: device})
        monkeypatch.setattr(cublas, "cupy", lambda changed=changed: types.SimpleNamespace(cuda=changed))
        monkeypatch.setattr(cublas, "_local", cublas._Local())
        cublas.bind()
        assert library.calls()[-1].split()[2:] == ["0", str(size << 20)]


def test_each_thread_has_a_handle(library):
    a = array(library, np.ones((2, 2)))
    products.matmul(a, a)
    (thread := threading.Thread(target=lambda: products.matmul(a, a))).start()
    thread.join()
    assert len({line for line in library.calls() if line.startswith("create")}) == 2


@pytest.fixture
def two_devices(library):
    if library.cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two devices, as HOSTCUDA_DEVICES=2 gives")


def test_each_device_has_a_handle(library, two_devices):
    rng = np.random.default_rng(0)
    for device in (0, 1, 0):
        with library.cupy.cuda.Device(device):
            a = array(library, rng.normal(size=(3, 3)))
            np.testing.assert_allclose(products.matmul(a, a).get(), a.get() @ a.get(), rtol=1e-5)
    assert sum(line.startswith("create") for line in library.calls()) == 2


@pytest.mark.parametrize(
    "function, status, message",
    [
        ("cublasCreate_v2", 1, r"cublasCreate_v2: cuBLAS says NOT_INITIALIZED \(1\); .*`xpdl info` names"),
        ("cublasCreate_v2", 3, r"ALLOC_FAILED \(3\); the device has too little memory left"),
        ("cublasSetWorkspace_v2", 7, r"cublasSetWorkspace_v2: cuBLAS says INVALID_VALUE \(7\)"),
        (
            "cublasGemmEx",
            15,
            r"cublasGemmEx of float32 \(2, 3\) @ \(3, 4\): cuBLAS says NOT_SUPPORTED \(15\); this GPU has no",
        ),
        ("cublasGemmEx", 13, r"EXECUTION_FAILED \(13\)"),
        ("cublasGemmEx", 99, r"an unknown status \(99\)"),
        ("cublasGemmStridedBatchedEx", 8, r"of float32 \(2, 2, 3\) @ \(2, 3, 4\): cuBLAS says ARCH_MISMATCH \(8\)"),
    ],
)
def test_what_is_refused_is_one_clear_error_and_no_harm(library, function, status, message):
    stack = (2,) if "Batched" in function else ()
    a, b = array(library, np.ones((*stack, 2, 3))), array(library, np.ones((*stack, 3, 4)))
    library.refused[function] = status
    try:
        with pytest.raises(BackendError, match=message):
            products.matmul(a, b)
    finally:
        library.refused[function] = 0
    assert (products.matmul(a, b).get() == 3).all()


def network():
    first = [
        Convolution(filters=4, size=3, pad=1),
        BatchNormalization(),
        Relu(),
        Convolution(filters=2, size=3),
        Relu(),
    ]
    return Sequential(*first, Dropout(0.25), Affine(units=6), Relu(), Affine(units=3), loss=SoftmaxWithLoss, seed=0)


def trained(library, *, recording, dtype="float32", **options):
    rng = np.random.default_rng(3)
    x, t = rng.normal(size=(27, 1, 6, 6)), rng.integers(0, 3, 27)
    with use("cupy", dtype=dtype):
        trainer = Trainer(
            network(), x, t, x, t, 3, 5, Adam(0.01), {}, verbose=False, seed=0, compile=recording is not None, **options
        )
    if isinstance(trainer.step, GraphedStep) and not recording:
        trainer.step.problem = "none is wanted"
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    "options", [{}, {"dtype": "float64"}, {"precision": "float16"}], ids=["float32", "float64", "float16"]
)
@pytest.mark.parametrize("precision", ["highest", "tf32"])
def test_captured_steps_are_bitwise_identical_to_all_others(library, options, precision):
    with numerics(precision=precision):
        captured, alike, plain = (trained(library, recording=recording, **options) for recording in (True, False, None))
    assert captured.step.problem is None and captured.step._recorded
    params = captured.network.state_dict()
    for other in (alike, plain):
        assert captured.history.train_loss_list == other.history.train_loss_list
        for name, value in other.network.state_dict().items():
            np.testing.assert_array_equal(params[name].get(), value.get(), err_msg=name)


def test_a_step_is_recorded_with_workspace_of_its_own(library):
    library.calls()
    trained(library, recording=True)
    words = [line.split() for line in library.calls()]
    streams = [int(line[2]) for line in words if line[0] == "stream"]
    # the default one, the one that is recorded, and the default one again
    assert len(streams) == 3 and streams[0] == streams[2] == 0 and streams[1] > 0
    assert [line[0] for line in words].count("workspace") == 3
    at = [line[0] for line in words].index("stream", 4)
    assert [line[0] for line in words[at : at + 3]] == ["stream", "workspace", "gemm"]


def test_the_graph_keeps_its_workspace(library):
    trainer = trained(library, recording=True)
    recording = trainer.step._recorded[None].recording
    pool, workspace = recording._memory
    assert isinstance(pool, library.cupy.cuda.MemoryPool)
    assert isinstance(workspace, library.cupy.cuda.MemoryPointer)
    assert all(handle.workspace is not workspace for handle in cublas._local.handles.values())


def test_a_handle_leaves_stream_and_workspace_to_the_graph(backend, library):
    a = array(library, np.ones((2, 2)))
    products.matmul(a, a)
    recording = capture.Recorder(backend.device).record(lambda: products.matmul(a, a))
    (handle,) = cublas._local.handles.values()
    assert recording._memory[1] is not None and handle.stream is handle.workspace is None


class TestWithoutTheLibrary:
    """CuPy's own products, and a kernel of ours in captured steps."""

    @pytest.fixture
    def absent(self, gpu, monkeypatch):
        module = types.ModuleType("cupy_backends.cuda.libs.cublas")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(cublas, "_library", functools.cache(cublas._library.__wrapped__))
        monkeypatch.setattr(cublas, "problem", functools.cache(cublas.problem.__wrapped__))
        return module

    def test_the_reason_is_said(self, absent, tmp_path):
        assert cublas.problem() == (
            "cuBLAS is not called directly (CuPy's module for it is linked to no library); products of captured steps are "
            "made by a kernel of xpdl"
        )
        for path, reason in (
            (tmp_path / "none.so", "cannot open shared object"),
            (np._core._multiarray_umath.__file__, "undefined symbol"),
        ):
            absent.__file__ = str(path)
            cublas.problem.cache_clear()
            cublas._library.cache_clear()
            assert reason in cublas.problem()

    def test_products_are_made(self, gpu, absent):
        rng = np.random.default_rng(0)
        a, b = (gpu.array(rng.normal(size=shape)) for shape in ((3, 4), (4, 2)))
        np.testing.assert_allclose(products.matmul(a, b).get(), a.get() @ b.get(), rtol=1e-12)
        assert cublas.bind() is None
        assert not gpu.launches

    def test_captured_steps_have_a_kernel_of_ours(self, gpu, absent):
        trainer = trained(gpu, recording=True)
        assert trainer.step.problem is None and trainer.step._recorded
        assert "matmul" in gpu.launched()
