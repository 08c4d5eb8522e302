"""The cuDNN path: what is asked of it, what is done without it, and, where it is installed, that it plans what is asked."""

import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest

from tests.backends.cupy.device import TOLERANCE
from tests.backends.cupy.test_kernels import trained
from xpdl import Affine, Sequential, SoftmaxWithLoss, Trainer
from xpdl.backends import device_memory, make_backend, numerics
from xpdl.backends.cupy import cudnn, cudnn_graph, products, trace
from xpdl.backends.random import Stream
from xpdl.layers import Convolution, Pooling, Relu
from xpdl.layers.chain import Chain
from xpdl.ops import convolution

pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]


def arrays(*, groups=2):
    rng = np.random.default_rng(0)
    x, W, b = rng.normal(size=(3, 4, 7, 6)), rng.normal(size=(6, 4 // groups, 3, 2)), rng.normal(size=6)
    static = {"stride": (2, 1), "pad": (1, 2), "dilation": (1, 2), "groups": groups}
    return x, W, b, rng.normal(size=convolution.convolution(x, W, b, **static).shape), static


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_forward_and_both_gradients_are_its_own(gpu, library, dtype):
    asked = library()
    x, W, b, dy, static = arrays()
    for bias in (b, None):
        y = convolution.convolution(*(gpu.array(a.astype(dtype)) for a in (x, W)), *_given(gpu, bias, dtype), **static)
        want = convolution.convolution(x, W, bias, **static)
        np.testing.assert_allclose(y.get(), want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * np.abs(want).max())
    gpu.compare(convolution.convolution_backward, dy, x, W, dtype=dtype, **static)
    assert [graph.kind for graph in asked.executed] == ["fprop", "fprop", "wgrad", "dgrad"]
    # the bias gradient is the only kernel of ours, but for what brings images of half precision to channels-last
    assert ("transpose" in gpu.launched()) == (dtype == "float16")
    assert {"channel_sums"} <= gpu.launched() <= {"channel_sums", "channel_totals", "transpose"}


def _given(gpu, b, dtype):
    return () if b is None else (gpu.array(b.astype(dtype)),)


def test_calls_are_traced_with_their_shapes(gpu, library):
    library()
    x, W, b, dy, static = arrays()
    on_device = [gpu.array(a.astype("float32")) for a in (x, W, b, dy)]
    with trace.traced() as calls:
        convolution.convolution(*on_device[:3], **static)
        convolution.convolution_backward(on_device[3], *on_device[:2], **static)
    found = [call for call in calls if call.library == "cudnn"]
    assert [(call.name, call.args.bias) for call in found] == [("fprop", True), ("wgrad", False), ("dgrad", False)]
    for call in found:
        assert (call.args.x, call.args.w, call.args.y) == (x.shape, W.shape, dy.shape)


@pytest.mark.parametrize("unsupported", ["fprop", "dgrad", "wgrad"])
def test_what_it_does_not_serve_goes_by_columns(gpu, library, unsupported):
    asked = library((unsupported,))
    x, W, b, dy, static = arrays()
    gpu.compare(convolution.convolution_backward, dy, x, W, **static)
    if unsupported == "fprop":
        gpu.compare(convolution.convolution, x, W, b, **static)
    else:
        assert "im2col" in {name for name, *_ in gpu.launches}
    assert unsupported not in {graph.kind for graph in asked.executed}


class TestRelu:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_is_in_the_graph(self, gpu, library, dtype):
        asked = library()
        x, W, b, _, static = arrays()
        for bias in (b, None):
            given = *(gpu.array(a.astype(dtype)) for a in (x, W)), *_given(gpu, bias, dtype)
            y = convolution.convolution(*given, **static, activation="relu").get()
            want = np.maximum(convolution.convolution(x, W, bias, **static), 0)
            np.testing.assert_allclose(y, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * want.max())
        assert all(graph.rectified for graph in asked.executed)
        # of half precision, images come in the order of their axes here
        assert gpu.launched() == ({"transpose"} if dtype == "float16" else set())

    @pytest.mark.parametrize("case", ["unsupported", "swallows NaN"])
    def test_a_plan_that_is_not_there_or_swallows_nan_leaves_it_to_a_kernel_of_its_own(self, gpu, library, case):
        asked = library(("relu",) if case == "unsupported" else ())
        asked.swallows_nan = case == "swallows NaN"
        x, W, b, _, static = arrays()
        x[0, 0, 0, 0] = np.nan
        given = *(gpu.array(a.astype("float32")) for a in (x, W)), *_given(gpu, b, "float32")
        for _ in range(2):
            y = convolution.convolution(*given, **static, activation="relu").get()
        np.testing.assert_array_equal(np.isnan(y), np.isnan(convolution.convolution(x, W, b, **static)))
        assert {name for name, *_ in gpu.launches} == {"relu"}
        # tried once, when it was planned
        assert [graph.rectified for graph in asked.executed] == [True] * (case != "unsupported") + [False] * 2

    def test_two_layers_take_one_graph_and_are_left_as_if_they_had_taken_two(self, backend, gpu, library):
        def layers():
            with backend.use("float64"):
                chain = Chain(
                    Convolution(filters=3, size=3), Relu(), Convolution(filters=2, size=2), Relu(), Pooling(2, 2)
                )
                chain.build((2, 7, 7), stream=Stream(0))
            return chain

        asked = library()
        rng, (ours, single) = np.random.default_rng(0), (layers(), layers())
        x, dy = (gpu.array(rng.normal(size=shape)) for shape in ((2, 2, 7, 7), (2, 2, 2, 2)))
        with backend.use("float64"):
            y = ours.forward(x)
        # a relu goes with its pooling rather than with the convolution before it
        assert [graph.rectified for graph in asked.executed[-2:]] == [True, False]
        for layer in single.layers.values():
            x = layer.forward(x)
        np.testing.assert_allclose(y.get(), x.get(), rtol=1e-12)
        for of_ours, alone in zip(ours.layers.values(), single.layers.values(), strict=True):
            for name in ("x", "out", "saved"):
                if hasattr(alone, name):
                    kept, desired = getattr(of_ours, name).get(), getattr(alone, name).get()
                    # relu's backward asks for the sign alone
                    assert ((kept > 0) == (desired > 0)).all()
        dx = ours.backward(dy)
        for layer in reversed(single.layers.values()):
            dy = layer.backward(dy)
        np.testing.assert_allclose(dx.get(), dy.get(), rtol=1e-12)
        for (name, own, key), (_, desired, _) in zip(ours.named_grads(), single.named_grads(), strict=True):
            np.testing.assert_allclose(own[key].get(), desired[key].get(), rtol=1e-12, err_msg=name)

    def test_gradients_of_parameters_alone(self, backend, library):
        asked = library()
        with backend.use("float64") as made:
            chain = Chain(Convolution(filters=3, size=3), Relu())
            chain.forward(made.asarray(np.ones((1, 1, 4, 4))))
            chain.backward_parameters(made.asarray(np.ones((1, 3, 2, 2))))
        assert [graph.kind for graph in asked.executed[-2:]] == ["fprop", "wgrad"]
        assert [name for name, *_ in chain.named_grads()] == ["Convolution1.W", "Convolution1.b"]


def test_extras_pin_the_frontend_whose_calls_are_cheap():
    """A graph's `execute` takes 1.6 us of Python in 1.26 and 40 us since 1.27; 1.29 and later need CUTLASS."""
    extras = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for name in ("cudnn12", "cudnn13"):
        [frontend] = [line for line in extras[name] if line.startswith("nvidia-cudnn-frontend")]
        assert frontend == "nvidia-cudnn-frontend>=1.26,<1.27", name


def test_no_gradient_of_the_data_where_nobody_asks(gpu, library):
    asked = library()
    x, W, _, dy, static = arrays()
    gpu.compare(convolution.convolution_backward, dy, x, W, need_dx=False, **static)
    assert [graph.kind for graph in asked.executed] == ["wgrad"]


def test_a_plan_is_made_once_for_each_case_and_the_last_batch_has_its_own(gpu, library):
    asked = library()
    x, W, b, _, static = arrays()
    for rows in (3, 3, 2, 3, 2):
        convolution.convolution(*(gpu.array(a.astype("float32")) for a in (x[:rows], W, b)), **static)
    assert len(asked.graphs) == 2 and len(asked.executed) == 5
    assert asked.streams == [0], "told of the stream once"
    with numerics.numerics(precision="tf32"):
        convolution.convolution(*(gpu.array(a.astype("float32")) for a in (x, W, b)), **static)
    assert len(asked.graphs) == 3


@pytest.mark.parametrize("rows, last", [(13, 3), (15, 5), (4, 4)])
def test_plans_for_the_last_batch_are_made_at_the_first_step(backend, library, rows, last):
    asked, made = library(), []

    class Counts:
        def on_batch_end(self, trainer, step):
            made.append(len(asked.graphs))

    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(rows, 1, 6, 6)), rng.integers(0, 3, rows)
    with backend.use("float32"):
        chain = [Convolution(filters=4, size=3), Relu(), Convolution(filters=2, size=3), Affine(units=3)]
        net = Sequential(*chain, loss=SoftmaxWithLoss, seed=0)
        Trainer(net, x, t, x[:5], t[:5], 2, 5, "sgd", {}, verbose=False, seed=0, callbacks=[Counts()]).train()
    # two passes forward, one with relu, and three back, for each of two sizes
    assert made[0] == (5 if last in (4, 5) else 10)
    steps = -(-rows // 5)
    assert set(made[:steps]) == {made[0]}
    images = (graph.operands[0].fields for graph in asked.graphs if graph.kind == "wgrad")
    sizes = {fields["dim"][0] for fields in images}
    assert sizes == {min(rows, 5), last}


@pytest.mark.parametrize(
    "dtype,setting,unwanted",
    [
        ("float32", {}, ["NONDETERMINISTIC", "TENSOR_CORE", "DOWN_CONVERT_INPUTS"]),
        ("float32", {"precision": "tf32"}, ["NONDETERMINISTIC"]),
        ("float32", {"deterministic": False}, ["TENSOR_CORE", "DOWN_CONVERT_INPUTS"]),
        ("float16", {}, ["NONDETERMINISTIC"]),
        ("float64", {"deterministic": False}, []),
    ],
)
def test_precision_and_determinism_exclude_plans(gpu, library, dtype, setting, unwanted):
    asked = library()
    x, W, _, _, static = arrays()
    with numerics.numerics(**setting):
        convolution.convolution(*(gpu.array(a.astype(dtype)) for a in (x, W)), **static)
    (graph,) = asked.graphs
    assert graph.unwanted == set(unwanted) and graph.workspace_limit == 1 << 30 and graph.modes == ["A", "FALLBACK"]


def test_a_net_trains_by_it_as_without(backend, gpu, library):
    def params():
        # a plan with relu in it is tried, and read, when it is made
        trained(backend.use("float64"), gpu.cupy, 1)
        net = trained(backend.use("float64"), gpu.cupy, 2, gpu.rules)
        return {name: value.get() for name, value in net.params.items()}

    without = params()
    asked = library()
    for name, value in params().items():
        np.testing.assert_allclose(value, without[name], rtol=1e-9, atol=1e-12)
    assert asked.executed


def test_an_address_that_is_not_aligned_is_copied_to_one_that_is(backend, gpu, library):
    asked = library()
    x, W, b, dy, static = arrays()

    def shifted(a):
        flat = gpu.array(np.concatenate([[0.0], a.reshape(-1)]).astype("float32"))
        return flat[1:].reshape(a.shape)

    unaligned = [shifted(a) for a in (x, W, b, dy)]
    assert all(a.data.ptr % 16 for a in unaligned)
    y = convolution.convolution(*unaligned[:3], **static).get()
    want = convolution.convolution(x, W, b, **static)
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    found = convolution.convolution_backward(unaligned[3], *unaligned[:2], **static)
    for ours, theirs in zip(found, convolution.convolution_backward(dy, x, W, **static), strict=True):
        np.testing.assert_allclose(ours.get(), theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())
    assert [graph.kind for graph in asked.executed] == ["fprop", "wgrad", "dgrad"]


FAILURES = {
    "backend": ("build_operation_graph", RuntimeError("CUDNN_BACKEND_API_FAILED")),
    "shape": ("validate", ValueError("shape deduction failed")),
    "nvrtc": ("build_plans", RuntimeError("NVRTC compilation failed\nwith a log")),
    "plans": ("create_execution_plans", RuntimeError("")),
}


class TestFailures:
    @pytest.mark.parametrize("step,error", FAILURES.values(), ids=FAILURES)
    def test_of_planning_are_one_warning_and_go_by_columns(self, gpu, library, monkeypatch, step, error):
        monkeypatch.setattr(cudnn, "_warned", False)
        library().failures[step] = error
        x, W, b, dy, static = arrays()
        with pytest.warns(UserWarning, match=r"cuDNN: .*takes longer") as warned:
            gpu.compare(convolution.convolution_backward, dy, x, W, **static)
            gpu.compare(convolution.convolution, x, W, b, **static)
        assert len(warned) == 1 and "im2col" in {name for name, *_ in gpu.launches}

    def test_of_a_handle_are_one_warning_and_go_by_columns(self, gpu, library, monkeypatch):
        monkeypatch.setattr(cudnn, "_warned", False)
        asked, tried = library(), []

        def fails():
            tried.append(1)
            raise RuntimeError("CUDNN_STATUS_NOT_INITIALIZED")

        asked.create_handle = fails
        x, W, b, _, static = arrays()
        with pytest.warns(UserWarning, match="cuDNN: no handle on device 0: CUDNN_STATUS_NOT_INITIALIZED") as warned:
            for _ in range(2):
                gpu.compare(convolution.convolution, x, W, b, **static)
        assert len(warned) == len(tried) == 1

    @pytest.mark.parametrize("error", [AssertionError("cudart 12 for 13"), RuntimeError("status 1002"), OSError("")])
    def test_of_the_import_or_a_handle_are_the_reason_why_it_is_not_used(self, monkeypatch, error):
        def fails(*_):
            raise error

        pathfinder = types.SimpleNamespace(load_nvidia_dynamic_lib=lambda name: None)
        monkeypatch.setitem(sys.modules, "cuda.pathfinder", pathfinder)
        module = types.SimpleNamespace(
            backend_version=lambda: 91702, create_handle=lambda: 7, destroy_handle=lambda handle: None
        )
        monkeypatch.setitem(sys.modules, "cudnn", module)
        cudnn.problem.cache_clear()
        try:
            assert cudnn.problem() is None
            if isinstance(error, RuntimeError):
                module.create_handle = fails
            else:
                module.backend_version = fails
            cudnn.problem.cache_clear()
            assert cudnn.problem().startswith(f"cuDNN is not used: {error}")
        finally:
            cudnn.problem.cache_clear()


class TestWorkspace:
    def case(self, batch, dtype="float32"):
        x, y = (batch, 64, 56, 56), (batch, 128, 28, 28)
        return cudnn_graph.Case(
            "wgrad", x, (128, 64, 3, 3), y, (2, 2), (1, 1), (1, 1), dtype, False, False, "tf32", True
        )

    def test_of_small_images_is_a_gigabyte(self):
        assert cudnn_graph.workspace_limit(self.case(1)) == 1 << 30

    def test_of_large_batches_grows_with_the_images(self):
        images = 4 * (1024 * 64 * 56 * 56 + 1024 * 128 * 28 * 28)
        assert cudnn_graph.workspace_limit(self.case(1024)) == 2 * images + (64 << 20)
        assert cudnn_graph.workspace_limit(self.case(1024, "bfloat16")) == images + (64 << 20)

    def test_is_no_more_than_what_is_free(self, gpu, library, monkeypatch):
        assert cudnn_graph.workspace_limit(self.case(1024), 12345) == 12345
        asked = library()
        monkeypatch.setattr(cudnn, "_free_bytes", lambda: 98765)
        x, W, b, _, static = arrays()
        convolution.convolution(*(gpu.array(a.astype("float32")) for a in (x, W, b)), **static)
        assert asked.graphs[0].workspace_limit == 98765

    def test_free_is_what_the_device_and_the_pool_have(self, backend, gpu):
        assert gpu.cupy.get_default_memory_pool().get_limit() == 0
        assert cudnn._free_bytes() == device_memory.free_bytes(make_backend("cupy", backend.device))


def test_without_the_package_the_reason_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    cudnn.problem.cache_clear()
    try:
        assert "pip install 'xpdl[cudnn12]'" in cudnn.problem()
    finally:
        cudnn.problem.cache_clear()


class TestPrecisionOfProducts:
    @pytest.fixture
    def told(self, gpu, monkeypatch):
        """The calls of ``set_compute_type``: (dtype, compute type)."""
        told = []
        monkeypatch.setattr(gpu.cupy._core, "set_compute_type", lambda *what: told.append(what))
        products._set_precision.cache_clear()
        yield told
        products._set_precision.cache_clear()

    def test_cupy_is_told_of_changes_only(self, gpu, told):
        a = gpu.array(np.ones((2, 2), "float32"))
        for _ in range(2):
            products.matmul(a, a)
        with numerics.numerics(precision="tf32"):
            products.matmul(a, a)
        products.matmul(a, a)
        routines = importlib.import_module("cupy._core._routines_linalg")
        full, tf32 = routines.COMPUTE_TYPE_FP32, routines.COMPUTE_TYPE_TF32
        assert told == [(np.float32, full), (np.float32, tf32), (np.float32, full)]

    def test_other_dtypes_have_one_precision(self, gpu, told):
        a = gpu.array(np.ones((2, 2), "float64"))
        products.matmul(a, a)
        assert not told


# --- planning by cuDNN itself, of a device that is described and not there

# public specifications of these cards
H100 = {
    "cudaDeviceId": 0,
    "deviceVer": 900,
    "driverVer": 13000,
    "totalGlobalMem": 80 << 30,
    "multiProcessorCount": 132,
    "smCountOrigin": 0,
    "warpSize": 32,
    "maxGridSize": [2147483647, 65535, 65535],
    "maxBlockSize": [1024, 1024, 64],
    "regsPerBlock": 65536,
    "maxSharedMemoryPerBlock": 49152,
    "maxSharedMemoryPerBlockOptin": 232448,
    "oversizedSharedMemoryPerBlock": 0,
    "reservedSharedMemoryPerBlock": 1024,
    "maxRegistersPerSM": 65536,
    "maxCtasPerSM": 32,
    "maxThreadsPerBlock": 1024,
    "maxThreadsPerSM": 2048,
    "pciDeviceId": 0x2330,
    "isTccDriver": 0,
    "supportCoopLaunch": 1,
    "smClockRateKHz": 1980000,
    "memClockRateKHz": 2619000,
    "memoryBusWidth": 5120,
    "l2CacheSize": 50 << 20,
    "deviceName": "NVIDIA H100 80GB HBM3",
}
T4 = H100 | {
    "deviceVer": 750,
    "totalGlobalMem": 16 << 30,
    "multiProcessorCount": 40,
    "maxSharedMemoryPerBlockOptin": 65536,
    "reservedSharedMemoryPerBlock": 0,
    "maxCtasPerSM": 16,
    "maxThreadsPerSM": 1024,
    "pciDeviceId": 0x1EB8,
    "smClockRateKHz": 1590000,
    "memClockRateKHz": 5001000,
    "memoryBusWidth": 256,
    "l2CacheSize": 4 << 20,
    "deviceName": "Tesla T4",
}

# The driver's library, for cuDNN's own to load: the functions they are linked with say CUDA_ERROR_NO_DEVICE, and of others
# that they look up themselves they note that they are missing.
STUB = [
    "cuGetErrorString",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuTensorMapEncodeIm2col",
    "cuTensorMapEncodeTiled",
]

PROGRAM = """
import json, sys
sys.path[:0] = {path!r}
from xpdl.backends.cupy import cudnn_graph as ours
from xpdl.backends.cupy.cudnn import missing
assert missing() is None, missing()
import cudnn
limit = ours.workspace_limit
device = cudnn.create_device_properties({device!r})
for case in json.load(sys.stdin):
    case = ours.Case(*(tuple(v) if isinstance(v, list) else v for v in case))
    try:
        where = dict(device_property=device, sm_version={version}, sm_count={count})
        plan = ours.finish(ours.describe(cudnn, case, **where))
        workspaces = [plan.workspace]
        if case.x[0] >= 512:
            ours.workspace_limit = lambda case, free=None: 8 << 30
            workspaces.append(ours.finish(ours.describe(cudnn, case, **where)).workspace)
            ours.workspace_limit = limit
        print("plan", *workspaces, flush=True)
    except cudnn.cudnnGraphNotSupportedError as error:
        print("none", str(error).splitlines()[0], flush=True)
"""


def cases():
    shapes = [
        # x, w, stride, pad, dilation: nets of the bench, and odd ones
        ((100, 1, 28, 28), (30, 1, 5, 5), (1, 1), (0, 0), (1, 1)),
        ((100, 16, 28, 28), (16, 16, 3, 3), (1, 1), (1, 1), (1, 1)),
        ((37, 64, 16, 16), (128, 64, 3, 3), (2, 2), (1, 1), (1, 1)),
        ((8, 64, 16, 16), (128, 64, 1, 1), (2, 2), (0, 0), (1, 1)),
        ((3, 4, 17, 29), (6, 2, 5, 2), (2, 1), (1, 2), (1, 2)),
        ((4, 8, 9, 9), (8, 1, 3, 3), (1, 1), (1, 1), (1, 1)),
        # of ResNet-18 for CIFAR-10
        ((512, 64, 32, 32), (64, 64, 3, 3), (1, 1), (1, 1), (1, 1)),
        ((512, 64, 32, 32), (128, 64, 3, 3), (2, 2), (1, 1), (1, 1)),
    ]
    found = []
    for x, w, stride, pad, dilation in shapes:
        out = [(x[i + 2] + 2 * pad[i] - dilation[i] * (w[i + 2] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
        y = (x[0], w[0], *out)
        for kind, bias, relu in (
            ("fprop", False, False),
            ("fprop", True, False),
            ("fprop", True, True),
            ("dgrad", False, False),
            ("wgrad", False, False),
        ):
            for dtype, precision in (
                ("float16", "highest"),
                ("bfloat16", "highest"),
                ("float32", "highest"),
                ("float32", "tf32"),
                ("float64", "highest"),
            ):
                options = (stride, pad, dilation, dtype, bias, relu, precision, True)
                on_tensor_cores = dtype.endswith("16") or precision == "tf32"
                orders = [(True, True), (True, False)] if on_tensor_cores else []
                found += [cudnn_graph.Case(kind, x, w, y, *options, *order) for order in (*orders, (False, False))]
    return found


@pytest.fixture
def compiler():
    found = shutil.which("gcc")
    if found is None or cudnn_missing():
        pytest.skip(cudnn_missing() or "needs gcc")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("device", [H100, T4], ids=lambda device: device["deviceName"])
def test_cudnn_has_plans_for_what_is_asked(device, compiler, tmp_path):
    """Needs the extra cudnn13 (1.2 GB) beside CuPy, and gcc; no GPU."""
    (tmp_path / "stub.c").write_text("".join(f"int {name}(void) {{ return 100; }}\n" for name in STUB))
    flags = ["-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([compiler, *flags, "stub.c", "-o", "libcuda.so.1"], cwd=tmp_path, check=True)
    program = PROGRAM.format(
        path=[str(Path(__file__).parents[3])],
        device=json.dumps(device),
        version=device["deviceVer"] // 10,
        count=device["multiProcessorCount"],
    )
    asked = cases()
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(asked),
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answers = dict(zip(asked, done.stdout.splitlines(), strict=True))
    without = {case: answer for case, answer in answers.items() if not answer.startswith("plan")}
    # declined cases go by im2col, which is right and slow: only where precision or dtype leaves no plan
    spared = {"float64"} if device["deviceVer"] >= 800 else {"float64", "bfloat16"}
    assert not {case for case in without if case.dtype not in spared}, without
    for case, answer in answers.items():
        if answer.startswith("plan"):
            workspaces = [int(size) for size in answer.split()[1:]]
            assert workspaces[0] <= cudnn_graph.workspace_limit(case)
            # no plan of a large batch is passed over for its workspace
            assert len(set(workspaces)) == 1, (case, workspaces)
    if device["deviceVer"] >= 800:
        compare_workspaces(answers)


def compare_workspaces(answers):
    """In half precision a plan for channels-last transposes nothing: it takes an image less at least than one that does.

    In TF32, cuDNN 9.28 copies the operands rounded to TF32 in either order, and transposes the result of some plans besides.
    """
    compared = 0
    for case, answer in answers.items():
        other = answers.get(case._replace(channels_last=False, filters_last=False), "")
        if not case.filters_last or not (answer.startswith("plan") and other.startswith("plan")):
            continue
        workspace, transposing = (int(text.split()[1]) for text in (answer, other))
        large = case.x[0] >= 512
        if case.dtype.endswith("16") and case.w[1] % 8 == case.w[0] % 8 == 0:
            assert workspace + 2 * min(math.prod(case.x), math.prod(case.y)) <= transposing, case
            compared += 1
        elif large:
            assert workspace <= transposing, case
            compared += 1
    assert compared


def cudnn_missing():
    for name in ("cudnn", "cuda.pathfinder"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            return f"cuDNN's front end is not installed ({error}): pip install '.[cudnn13]' beside CuPy"
    return None
