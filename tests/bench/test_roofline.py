"""Bytes and FLOP of every kernel are in the table, and are those counted by hand."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from xpdl import cli
from xpdl.backends import availability, get_backend, make_backend
from xpdl.backends.cupy import sources, trace
from xpdl.backends.cupy.trace import Call, Size
from xpdl.bench import device_rates, gpu_steps, roofline, step_roofline
from xpdl.bench.device_rates import PEAKS, Rates, peak_of
from xpdl.bench.nets import NETS
from xpdl.bench.roofline import KERNELS, Total, call_cost
from xpdl.bench.step_cost import Cost, column_bytes, layer_costs, least_cost
from xpdl.layers import Affine, Convolution, Flatten, Identity, Relu, Residual, SoftmaxWithLoss
from xpdl.models import Sequential

KERNEL_NAMES = {name for file in sources.FILES for name in trace.parameters(file)}


def test_table_has_every_kernel_and_no_other():
    assert set(KERNELS) == KERNEL_NAMES and len(KERNEL_NAMES) > 30


def array(size, itemsize=4):
    return Size(size, size * itemsize)


def args(**values):
    return SimpleNamespace(**values)


TABLE = args(p=[1, 1, 0], g=[1, 1, 0], first=[9, 9, 0], second=[9, 9, 0], size=[100, 20, 0])
WINDOWS = args(H=6, W=6, OH=3, OW=3, KH=2, KW=2)
CASES = [
    ("relu", args(x=array(50), y=array(50), n=50), 50, 400),
    ("add_bias", args(y=array(50), b=array(5), n=50), 50, 420),
    ("dropout_mask", args(mask=array(50, 1), first_key=1, second_key=2, keys=None, threshold=3, n=50), 0, 50),
    ("softmax_with_loss", args(x=array(50), labels=array(5, 8), weights=None, y=array(50), losses=array(5)), 350, 460),
    ("adam_step", args(table=TABLE), 12 * 120, 4 * 7 * 120),
    ("sgd_step", args(table=args(**{**vars(TABLE), "first": [0] * 3, "second": [0] * 3})), 2 * 120, 4 * 3 * 120),
    ("momentum_step", args(table=args(**{**vars(TABLE), "second": [0] * 3})), 4 * 120, 4 * 5 * 120),
    ("max_pooling", args(x=array(72), y=array(18), taps=array(18, 1), s=WINDOWS, n=18), 72, 4 * 90 + 18),
    ("im2col", args(x=array(40), col=array(90), s=args(), bands=args(), planes=4), 0, 520),
    ("im2col_rows", args(x=array(40), col=array(90), s=args(), n=90), 0, 520),
    ("col2im", args(col=array(90), x=array(40), s=args(), n=40), 90, 520),
    ("images_of_rows", args(rows=array(30), b=None, y=array(30), n=30), 0, 240),
    ("matmul", args(a=array(30), b=array(20), c=array(24), sums=None, s=args(M=3, N=4, K=5)), 2 * 24 * 5, 4 * 74),
    ("matmul", args(a=array(30), b=array(20), c=array(24), sums=array(72), s=args(M=3, N=4, K=5)), 240, 4 * 122),
    ("channel_sums", args(x=array(60), sums=array(3), s=args()), 60, 252),
]


@pytest.mark.parametrize("name, arguments, flop, moved", CASES, ids=[case[0] for case in CASES])
def test_kernel_costs_what_was_counted_by_hand(name, arguments, flop, moved):
    assert call_cost(Call("xpdl", name, "float32", arguments)) == Cost(flop, moved)


@pytest.mark.parametrize(
    "name, dtype, to, moved",
    [("cast_all", "float16", 5, 6), ("unscale", "bfloat16", 5, 6), ("all_finite", "float32", 0, 4)],
)
def test_conversions_move_one_array_of_each_width(name, dtype, to, moved):
    table = args(**{"from": [5, 5], "to": [to, to], "size": [100, 20]})
    assert call_cost(Call("xpdl", name, dtype, args(table=table))).bytes == moved * 120


def test_library_calls_cost_their_operands_once():
    gemm = Call("cublas", "gemm", "float16", args(a=(7, 2, 3), b=(7, 3, 4)))
    assert call_cost(gemm) == Cost(2 * 7 * 2 * 3 * 4, 2 * 7 * (6 + 12 + 8))
    conv = Call("cudnn", "fprop", "float32", args(x=(2, 4, 6, 6), w=(8, 2, 3, 3), y=(2, 8, 6, 6), bias=True))
    assert call_cost(conv) == Cost(2 * (2 * 8 * 36) * 18, 4 * (288 + 144 + 576 + 8))


def test_transposes_are_counted_by_kernels_and_in_plans_of_cudnn():
    sizes = {"x": (2, 4, 6, 6), "w": (8, 4, 3, 3), "y": (2, 8, 6, 6), "bias": False}
    calls = [
        Call("xpdl", "transpose", "float16", args(x=array(5000, 2), y=array(5000, 2), rows=4, columns=36)),
        Call("cudnn", "fprop", "float16", args(**sizes, transposes=True)),
        Call("cudnn", "dgrad", "float16", args(**sizes, transposes=False)),
    ]
    plans = 2 * 2 * (288 + 576) / 1e6
    assert roofline.transposes(calls) == f"Transposes: 0.02 MB by kernels, {plans:.2f} MB of images in plans of cuDNN."
    assert roofline.transposes(calls[2:]).count(" 0.00 MB") == 2


def test_kernel_that_is_not_in_the_table_is_an_error():
    with pytest.raises(KeyError, match="no_such"):
        call_cost(Call("xpdl", "no_such", "float32", args()))


@pytest.mark.backends("cupy")
@pytest.mark.parametrize("net", ["MLP", "DeepConvNet", "ResNet"])
def test_products_of_a_step_are_those_that_its_layers_need(backend, net):
    """Two counts of the same FLOP: by the launches of a step, and by the shapes of its layers."""
    build, shape = NETS[net]
    rows = 4
    with backend.use("float32"):
        network = build()
        network.build(shape)
        x = get_backend().asarray(np.ones((rows, *shape), np.float32))
        t = get_backend().asarray(np.arange(rows))
        rows_of_table = roofline.totals(gpu_steps.traced(gpu_steps.training_step(network, x, t)))
    products = sum(total.cost.flop for total in rows_of_table if total.library in ("cublas", "cudnn"))
    least = least_cost(network, shape, rows, 4)
    assert products == least.flop
    assert sum(total.cost.bytes for total in rows_of_table) > least.bytes


def test_totals_are_by_name_and_sorted_by_their_time_in_the_table():
    calls = [
        Call("xpdl", "relu", "float32", args(x=array(10), y=array(10), n=10)),
        Call("cublas", "gemm", "float32", args(a=(100, 100), b=(100, 100))),
        Call("xpdl", "relu", "float32", args(x=array(30), y=array(30), n=30)),
    ]
    rows = roofline.totals(calls)
    assert rows == [Total("xpdl", "relu", 2, Cost(40, 320)), Total("cublas", "gemm", 1, Cost(2e6, 120000))]
    slow, fast = Rates(1e6, 1e9), Rates(1e9, 1e9)
    lines = roofline.table(rows, Cost(2e6, 1000), fast, slow).splitlines()
    assert lines[2] == "| cublas gemm | 1 | 0.12 | 2.00 | 2000.0 | 98% |"
    assert lines[3] == "| xpdl relu | 2 | 0.00 | 0.00 | 40.0 | 2% |"
    assert lines[5] == "| least by layers | | 0.00 | 2.00 | 2000.0 | |"


class TestLayers:
    def test_affine_by_hand(self):
        net = Sequential(Affine(units=5), Relu(), Affine(units=3), loss=SoftmaxWithLoss)
        net.build((4,))
        found = least_cost(net, (4,), rows=10, itemsize=4)
        # forward and dW; forward, dx and dW
        assert found.flop == 2 * 10 * 4 * 5 * 2 + 2 * 10 * 5 * 3 * 3
        values = 10 * 4 + 4 * 10 * (5 + 5 + 3)
        # the first weights are not read backward
        assert found.bytes == 4 * (values + 9 * (4 * 5 + 5) + 10 * (5 * 3 + 3))
        assert [name for name, _ in layer_costs(net, (4,), 10, 4)] == ["Affine1", "Relu1", "Affine2", "input"]

    def test_convolution_with_groups_and_a_residual_sum(self):
        paths = Residual(Convolution(filters=4, size=3, pad=1, groups=2, use_bias=False), shortcut=Identity())
        net = Sequential(paths, Flatten(), loss=SoftmaxWithLoss)
        net.build((4, 6, 6))
        found = least_cost(net, (4, 6, 6), rows=2, itemsize=8)
        assert found.flop == 2 * (2 * 4 * 36) * (2 * 9) * 2
        # the data; convolution, identity, sum and Flatten
        assert found.bytes == 8 * (2 * 4 * 36 + 4 * 2 * (4 * 4 * 36) + 9 * 4 * 2 * 9)

    def test_mixed_precision_has_a_wider_optimizer(self):
        net = Sequential(Affine(units=5), loss=SoftmaxWithLoss)
        net.build((4,))
        found = least_cost(net, (4,), rows=10, itemsize=2, parameter_size=4)
        assert found.bytes == 2 * (10 * 4 + 4 * 10 * 5 + 2 * 25) + 4 * 7 * 25

    def test_the_slower_of_both_is_the_floor(self):
        rates = Rates(flop_per_second=100.0, bytes_per_second=10.0)
        assert Cost(1000.0, 20.0).seconds(rates) == 10.0
        assert Cost(100.0, 200.0).seconds(rates) == 20.0

    def test_columns_are_written_and_read_in_each_pass(self):
        net = Sequential(
            Convolution(filters=3, size=3), Convolution(filters=2, size=2, stride=2), Flatten(), loss=SoftmaxWithLoss
        )
        net.build((2, 6, 6))
        first, second = 5 * (2 * 9) * 16, 5 * (3 * 4) * 4
        assert column_bytes(net, (2, 6, 6), rows=5, itemsize=4) == 4 * (4 * first + 6 * second)


class TestRates:
    def test_count_what_a_product_and_a_copy_do(self, monkeypatch):
        monkeypatch.setattr(device_rates, "_seconds", lambda call, synchronize: call() is None or 0.5)
        found = device_rates.measure_rates(make_backend("numpy"), lambda: None, side=10, megabytes=1)
        assert found == Rates(2 * 1000 / 0.5, 2 * 2**20 / 0.5)

    @pytest.mark.parametrize(
        "name, key",
        [
            ("NVIDIA H200", "H200"),
            ("NVIDIA H100 80GB HBM3", "H100"),
            ("NVIDIA H100 PCIe", "H100 PCIe"),
            ("NVIDIA A100-SXM4-80GB", "A100 SXM 80GB"),
            ("NVIDIA A100 80GB PCIe", "A100 80GB"),
            ("NVIDIA A100-SXM4-40GB", "A100"),
            ("NVIDIA L4", "L4"),
            ("NVIDIA L40S", "L40S"),
            ("Tesla T4", "T4"),
            ("Tesla V100-SXM2-16GB", "V100"),
            ("NVIDIA GeForce RTX 4090", "RTX 4090"),
            ("host (CuPy without a GPU)", None),
        ],
    )
    def test_peaks_are_found_by_the_name_of_the_driver(self, name, key):
        assert peak_of(name) == key

    @pytest.mark.parametrize("name", PEAKS)
    def test_peaks_name_their_source_and_are_in_order(self, name):
        peak = PEAKS[name]
        assert peak.source.startswith("NVIDIA ") and peak.fp32 <= peak.tf32 <= peak.half
        assert peak.rates("highest") == Rates(1e12 * peak.fp32, 1e9 * peak.bandwidth)
        assert peak.rates("tf32").flop_per_second == 1e12 * peak.tf32
        assert peak.rates("bfloat16").flop_per_second == 1e12 * peak.half
        assert math.isfinite(Cost(1.0, 1.0).seconds(peak.rates("highest")))


class TestCommand:
    def test_without_cupy_it_counts_by_layers_and_says_why(self, monkeypatch, capsys, tmp_path):
        monkeypatch.setattr(availability, "cupy_problem", lambda: "CuPy is not installed; words")
        file = tmp_path / "figures.json"
        arguments = ["bench", "--roofline", "DeepConvNet", "ResNet18", "--batch-size", "8", "--json", str(file)]
        assert cli.main([*arguments, "--gpu", "T4"]) == 0
        said = capsys.readouterr().out
        assert said.startswith(
            "DeepConvNet, batch 8, float32; counted, not timed; times at the peaks of T4 (NVIDIA T4 "
        )
        assert "| Conv1 | " in said and said.count("CuPy is not installed; words") == 2
        rows = [row for row in json.loads(file.read_text())["figures"] if row["net"] == "DeepConvNet"]
        build, shape = NETS["DeepConvNet"]
        net = build()
        net.build(shape)
        assert sum(row["cost"]["flop"] for row in rows) == least_cost(net, shape, 8, 4).flop

    @pytest.mark.backends("cupy")
    def test_with_cupy_it_counts_every_kernel(self, backend, monkeypatch):
        monkeypatch.setattr(step_roofline, "machine", lambda: {"GPU": "NVIDIA L4"})
        monkeypatch.setattr(availability, "cupy_problem", lambda: None)
        monkeypatch.setattr(step_roofline, "use", lambda library: backend.use("float32"))
        counted = step_roofline.step_roofline("SimpleConvNet", 2)
        assert "times at the peaks of L4" in counted.text and "| xpdl adam_step | 1 |" in counted.text
        assert {row["name"] for row in counted.rows} >= {"softmax_with_loss", "add_bias", "max_pooling"}
        columns = "MB are im2col's columns" in counted.text
        assert columns is not any(row["library"] == "cudnn" for row in counted.rows)

    @pytest.mark.backends("cupy")
    @pytest.mark.parametrize("precision", ["highest", "tf32", "bfloat16"])
    def test_it_says_what_transposes_cost(self, backend, monkeypatch, precision):
        monkeypatch.setattr(step_roofline, "machine", lambda: {"GPU": "NVIDIA L4"})
        monkeypatch.setattr(availability, "cupy_problem", lambda: None)
        monkeypatch.setattr(step_roofline, "use", lambda library: backend.use("float32"))
        counted = step_roofline.step_roofline("SimpleConvNet", 2, precision=precision)
        shown = {"highest": "float32;", "tf32": "float32 with TF32;", "bfloat16": "bfloat16;"}[precision]
        assert f"batch 2, {shown}" in counted.text
        # twice the 30 images of 12 x 12 before the fully connected layer, and their gradient, where cuDNN is
        cudnn = any(row["library"] == "cudnn" for row in counted.rows)
        itemsize = 2 if precision == "bfloat16" else 4
        moved = 3 * 2 * itemsize * 2 * 30 * 12 * 12 if cudnn and precision != "highest" else 0
        assert f"Transposes: {moved / 1e6:.2f} MB by kernels, 0.00 MB of images" in counted.text

    def test_wrong_batches_are_refused(self):
        with pytest.raises(ValueError, match="roofline: batch_size"):
            step_roofline.step_roofline("MLP", 0)
