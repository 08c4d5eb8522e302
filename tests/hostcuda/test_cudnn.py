"""cuDNN's graphs on hostcuda: convolutions by definition, in the order of calls, memory and streams that cuDNN asks for."""

import numpy as np
import pytest

from tests.hostcuda.child import on_host

pytestmark = pytest.mark.needs("cupy")

CASES = [
    {"stride": (1, 1), "pad": (0, 0), "dilation": (1, 1), "groups": 1},
    {"stride": (2, 1), "pad": (1, 2), "dilation": (1, 2), "groups": 2},
    {"stride": (1, 3), "pad": (2, 0), "dilation": (2, 1), "groups": 4},
]
RTOL = {"float16": 5e-3, "bfloat16": 4e-2, "float32": 1e-5, "float64": 1e-13}


def compare(actual, desired, dtype):
    assert actual.dtype.name == dtype
    atol = RTOL[dtype] * np.abs(desired).max()
    np.testing.assert_allclose(actual.get().astype("float64"), desired, rtol=RTOL[dtype], atol=atol)


@pytest.mark.parametrize("dtype", RTOL)
@on_host(HOSTCUDA_CUDNN="1")
def test_convolutions_and_their_gradients(dtype):
    import cupy as cp
    import ml_dtypes
    from hostcuda import cudnn

    from xpdl.ops import convolution

    kind, rng = np.dtype(getattr(ml_dtypes, dtype, None) or dtype), np.random.default_rng(0)
    for static in CASES:
        given = rng.normal(size=(3, 4, 7, 6)), rng.normal(size=(8, 4 // static["groups"], 3, 2)), rng.normal(size=8)
        x, W, b = (a.astype(kind).astype("float64") for a in given)
        y = convolution.convolution(x, W, b, **static)
        dy = rng.normal(size=y.shape).astype(kind).astype("float64")
        on_device = {name: cp.asarray(a.astype(kind)) for name, a in (("x", x), ("W", W), ("b", b), ("dy", dy))}
        compare(convolution.convolution(*(on_device[name] for name in "xWb"), **static), y, dtype)
        grads = convolution.convolution_backward(*(on_device[name] for name in ("dy", "x", "W")), **static)
        desired = convolution.convolution_backward(dy, x, W, **static)
        for got, want in zip(grads, desired, strict=True):
            compare(got, want, dtype)
    assert cudnn.executed == ["fprop", "wgrad", "dgrad"] * len(CASES)


@on_host(HOSTCUDA_CUDNN="1")
def test_tf32_rounds_factors():
    import cupy as cp

    import xpdl
    from xpdl.ops import convolution

    # 1 + 2**-12 needs more bits than TF32 has
    x, W = cp.full((1, 1, 2, 2), 1 + 2.0**-12, "float32"), cp.ones((1, 1, 1, 1), "float32")
    assert float(convolution.convolution(x, W)[0, 0, 0, 0]) == 1 + 2.0**-12
    with xpdl.numerics(precision="tf32"):
        assert float(convolution.convolution(x, W)[0, 0, 0, 0]) == 1


@on_host(HOSTCUDA_CUDNN="1")
def test_graphs_are_recorded_on_the_stream_of_the_handle():
    import cupy as cp
    from hostcuda import cudnn

    from xpdl.ops import convolution

    x, W, stream = cp.ones((1, 1, 3, 3)), cp.ones((1, 1, 2, 2)), cp.cuda.Stream(non_blocking=True)
    with stream:
        convolution.convolution(x, W)
        count = len(cudnn.executed)
        stream.begin_capture()
        y = convolution.convolution(x, W)
        graph = stream.end_capture()
        assert len(cudnn.executed) == count
        x *= 2
        graph.launch(stream)
        np.testing.assert_array_equal(y.get(), np.full((1, 1, 2, 2), 8.0))


@on_host(HOSTCUDA_CUDNN="1")
def test_calls_in_another_order_and_unaligned_addresses_are_errors():
    import cupy as cp
    from hostcuda import cudnn

    frontend = cudnn.module()
    handle = frontend.create_handle()
    kinds = {"io_data_type": "FLOAT", "intermediate_data_type": "FLOAT", "compute_data_type": "FLOAT"}
    graph = frontend.pygraph(handle=handle, **kinds)
    described = {"stride": [4, 4, 2, 1], "data_type": "FLOAT"}
    x = graph.tensor(uid=1, dim=[1, 1, 2, 2], **described)
    w = graph.tensor(uid=2, dim=[1, 1, 1, 1], **described)
    options = {"pre_padding": [0, 0], "post_padding": [0, 0], "stride": [1, 1], "dilation": [1, 1]}
    out = graph.conv_fprop(x, w, **options).set_uid(3).set_output(True).set_data_type("FLOAT")
    out.set_dim([1, 1, 2, 2]).set_stride([4, 4, 2, 1])
    graph.validate()
    with pytest.raises(AssertionError, match="build_plans after"):
        graph.build_plans()
    graph.build_operation_graph()
    graph.create_execution_plans(["A"])
    graph.deselect_workspace_greater_than(16)
    with pytest.raises(frontend.cudnnGraphNotSupportedError):
        graph.check_support()
    graph.build_plans()
    a, workspace = cp.ones(64, "float32"), cp.empty(graph.get_workspace_size(), "uint8")
    memory = a.data.ptr
    graph.execute({1: memory, 2: memory + 64, 3: memory + 128}, workspace.data.ptr, handle=handle)
    assert (workspace == 0xFF).all()
    with pytest.raises(AssertionError, match="is not aligned to 16 bytes"):
        graph.execute({1: memory + 4, 2: memory + 64, 3: memory + 128}, workspace.data.ptr, handle=handle)
    with pytest.raises(AssertionError, match="is of another device"):
        graph.execute({1: memory, 2: memory + 64, 3: memory + 128}, np.empty(512).ctypes.data // 16 * 16, handle=handle)


@on_host()
def test_without_the_setting_there_is_none():
    from xpdl.backends.cupy import cudnn

    assert "cuDNN is not used" in cudnn.problem()


@on_host(HOSTCUDA_CUDNN="1")
def test_images_and_filters_in_any_order_of_memory():
    import itertools

    import cupy as cp
    from hostcuda import cudnn

    frontend, rng = cudnn.module(), np.random.default_rng(0)
    handle = frontend.create_handle()
    x, w = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(6, 3, 3, 2))
    y = np.zeros((2, 6, 3, 3))
    for r, s in itertools.product(range(3), range(2)):
        y += np.einsum("nchw,kc->nkhw", x[:, :, r : r + 3, s : s + 3], w[:, :, r, s])

    def strides(dim, last):
        _, c, h, w = dim
        return [c * h * w, 1, w * c, c] if last else [c * h * w, h * w, w, 1]

    for orders in itertools.product([False, True], repeat=3):
        kinds = {"io_data_type": "DOUBLE", "intermediate_data_type": "DOUBLE", "compute_data_type": "DOUBLE"}
        graph, arrays = frontend.pygraph(handle=handle, **kinds), []
        for a, last in zip((x, w, y), orders, strict=True):
            memory = np.ascontiguousarray(a.transpose(0, 2, 3, 1)) if last else a
            arrays.append(cp.asarray(memory if len(arrays) < 2 else np.zeros_like(memory)))
        tensors = [
            graph.tensor(uid=uid, dim=list(a.shape), stride=strides(a.shape, last), data_type="DOUBLE")
            for uid, a, last in ((1, x, orders[0]), (2, w, orders[1]))
        ]
        options = {"pre_padding": [0, 0], "post_padding": [0, 0], "stride": [1, 1], "dilation": [1, 1]}
        out = graph.conv_fprop(*tensors, **options).set_uid(3).set_output(True).set_data_type("DOUBLE")
        out.set_dim(list(y.shape)).set_stride(strides(y.shape, orders[2]))
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans(["A"])
        graph.check_support()
        graph.build_plans()
        workspace = cp.empty(graph.get_workspace_size(), "uint8")
        addresses = {uid: a.data.ptr for uid, a in enumerate(arrays, 1)}
        graph.execute(addresses, workspace.data.ptr, handle=handle)
        found = arrays[2].get()
        np.testing.assert_allclose(found.transpose(0, 3, 1, 2) if orders[2] else found, y, rtol=1e-12)
