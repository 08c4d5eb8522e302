"""A trace has every kernel and library call of a piece of code, with the sizes of its arguments."""

from types import SimpleNamespace

import numpy as np
import pytest

from xpdl.backends.cupy import launch, optimizers, sources, trace
from xpdl.layers import Affine, Convolution, Pooling, Relu, SoftmaxWithLoss
from xpdl.models import Sequential
from xpdl.optimizers import Adam

PLAIN = {"int64", "double"}


@pytest.mark.parametrize("file", sources.FILES)
def test_every_kernel_and_structure_of_a_file_is_read(file):
    parameters, fields = trace.parameters(file), trace.fields(file)
    assert len(parameters) == sources.text(f"{file}.cu").count("__global__") > 0
    kinds = {kind for kernel in parameters.values() for kind, _ in kernel if not kind.endswith("*")}
    # other structures are of the kernels' own
    assert kinds - PLAIN <= set(fields) and all(fields[kind] for kind in kinds - PLAIN)


def test_lengths_of_structures_are_those_that_are_passed():
    words = {name: sum(length for _, length in members) for name, members in trace.fields("optimizers").items()}
    table = optimizers._TABLE_ROWS * optimizers.TENSORS
    passed = {kind: words[kind] for kind in ("Table", "Shared", "Number")}
    assert passed == {"Table": table, "Shared": optimizers._SHARED.size // 8, "Number": optimizers._NUMBER.size // 8}
    assert [name for name, _ in trace.fields("windows")["Layout"]][:3] == ["N", "C", "H"]


@pytest.mark.backends("cupy")
def test_step_is_recorded_with_the_names_of_the_source(backend):
    layers = [Convolution(filters=3, size=3, pad=1), Relu(), Pooling(2, 2), Affine(units=5)]
    net, adam = Sequential(*layers, loss=SoftmaxWithLoss, seed=0), Adam()
    with backend.use("float32"):
        net.build((2, 6, 6))
        x, t = backend.asarray(np.ones((4, 2, 6, 6), np.float32)), backend.asarray(np.arange(4))
        with trace.traced() as calls:
            adam.update(net.params, net.gradient(x, t))
        adam.update(net.params, net.gradient(x, t))
    assert trace.calls is None
    by_name = {call.name: call for call in calls}
    assert (
        by_name["softmax_with_loss"].args.x == (4 * 5, 4 * 4 * 5) and by_name["softmax_with_loss"].args.weights is None
    )
    assert by_name["softmax_with_loss"].args.classes == 5
    table = by_name["adam_step"].args.table
    assert table.size[:5] == [3 * 2 * 9, 3, 27 * 5, 5, 0] and len(table.p) == optimizers.TENSORS
    assert len([call for call in calls if call.name == "adam_step"]) == 1


@pytest.mark.backends("cupy")
def test_products_of_cublas_are_recorded_with_their_shapes(backend):
    layer = Affine(units=5)
    with backend.use("float32"):
        layer.build((7,))
        x = backend.asarray(np.ones((4, 7), np.float32))
        with trace.traced() as outer:
            layer.forward(x)
            with trace.traced() as inner:
                layer.forward(x)
    (gemm,) = (call for call in inner if call.library == "cublas")
    assert (gemm.name, gemm.dtype, gemm.args) == ("gemm", "float32", SimpleNamespace(a=(4, 7), b=(7, 5)))
    assert [call.name for call in outer] == [call.name for call in inner]


def test_null_pointers_and_raw_bytes_are_told_apart(monkeypatch):
    monkeypatch.setattr(trace, "calls", [])
    windows = launch.struct("H W OH OW KH KW SH SW PH PW", *range(10))
    bands = launch.struct(
        "planes rows per_plane count staged result_rows result_columns stride_h stride_w", *range(10, 19)
    )
    trace.record_launch("pooling", "average_pooling", "float32", (np.ones(3, "f"), 0, windows, bands, 8))
    (call,) = trace.calls
    assert call.args.x == (3, 12) and call.args.y is None and call.args.planes == 8
    assert call.args.bands.count == 13
    assert (call.args.s.H, call.args.s.KW, call.args.s.PW) == (0, 5, 9)
