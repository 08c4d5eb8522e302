"""The gate on a GPU does what it says; here its parts run on the host, and nothing looks at how long they take."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests import harness
from tests.backends.cupy import fake, fake_capture
from xpdl import Affine, Convolution, Flatten, Identity, Relu, Residual, Sequential, SoftmaxWithLoss, load_mini_mnist
from xpdl.backends import diagnosis, make_backend, use
from xpdl.bench import gpu_accuracy, gpu_report, gpu_steps, gpu_tables, gpu_utilization, roofline, torch_peer
from xpdl.models import TwoLayerNet

REASON = "no driver: none here"


def test_without_a_gpu_it_says_why_and_fails(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(diagnosis, "cupy_problem", lambda: REASON)
    assert gpu_report.main(["--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"gpu_report: nothing to measure: {REASON}\n"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small(monkeypatch):
    """A gate on the stand-in for CuPy, with one small net, and PyTorch on the processor."""
    if reason := harness.problem(harness.SPECS["cupy:host"]):
        pytest.skip(reason)
    fake.install(monkeypatch)
    monkeypatch.setattr(gpu_report, "make_backend", lambda name: make_backend(fake.module))
    monkeypatch.setattr(gpu_report, "machine", lambda: {"GPU": "none"})
    monkeypatch.setattr(gpu_report, "_SIDE", 8)
    monkeypatch.setattr(gpu_report, "_MEGABYTES", 1)
    monkeypatch.setattr(
        gpu_accuracy, "to_accuracy", lambda backend, limit: ([gpu_accuracy.Reached(0.99, 12.34, 15.0)], "")
    )
    monkeypatch.setattr(gpu_steps, "CASES", {"TwoLayerNet": (lambda: TwoLayerNet(6, 5, 10), (6,), (3, 7))})
    monkeypatch.setattr(gpu_steps, "_SECONDS", 1e-9)
    monkeypatch.setattr(gpu_steps, "_ROUNDS", 1)
    monkeypatch.setattr(torch_peer, "on_gpu", lambda module, precision, compiled: module)
    defaults = gpu_steps.row.__kwdefaults__ | {"on_gpu": torch_peer.on_gpu}
    monkeypatch.setattr(gpu_steps.row, "__kwdefaults__", defaults)


def test_all_of_it_goes_into_two_files(small, tmp_path, capsys):
    pytest.importorskip("torch")
    assert gpu_report.main(["--out", str(tmp_path), "--no-tests"]) == 0
    found = json.loads((tmp_path / "gpu_report.json").read_text())
    rows = [(r["net"], r["batch_size"], r["precision"]) for r in found["steps"]]
    assert rows == [("TwoLayerNet", n, p) for p in ("highest", "tf32", "float16") for n in (3, 7)]
    for r in found["steps"]:
        assert set(r["milliseconds"]) == {"xpdl", "xpdl captured", "torch", "torch compiled"}
        without = {name for name, value in r["milliseconds"].items() if value is None}
        assert without == ({"xpdl captured"} if r["precision"] == "float16" else set())
        assert all(value > 0 for value in r["milliseconds"].values() if value is not None)
        assert r["floor_milliseconds"] > 0 and not r["note"]
    assert len(fake_capture.graphs) == 2 * 4, "of each size, in two precisions, without and with compiled PyTorch"
    assert found["accuracy"]["reached"] == [{"target": 0.99, "seconds": 12.34, "seconds_with_start": 15.0}]
    table = (tmp_path / "gpu_report.md").read_text()
    assert capsys.readouterr().out == table + "\n"
    assert (
        "| TwoLayerNet | 7 | tf32 | " in table
        and "| TwoLayerNet | 3 | float16 | " in table
        and "| 99.0 % | 12.3 | 15.0 |" in table
    )


def test_what_there_is_no_time_for_is_said(small, tmp_path, capsys):
    assert gpu_report.main(["--out", str(tmp_path), "--no-tests", "--minutes", "0"]) == 0
    found = json.loads((tmp_path / "gpu_report.json").read_text())
    # the first is measured to know how long one takes
    assert len(found["steps"]) == 1
    # without PyTorch there is a note of that, too
    assert [note for note in found["notes"] if "out of time: " in note and "TwoLayerNet 7 highest on" in note]


def test_failing_tests_fail_the_gate_and_are_named(small, tmp_path, monkeypatch, capsys):
    said = "print('FAILED tests/a.py::b'); print('1 failed, 2 passed'); raise SystemExit(1)"
    run = gpu_report.run_tests
    monkeypatch.setattr(gpu_report, "run_tests", lambda limit: run(limit, (sys.executable, "-c", said)))
    assert gpu_report.main(["--out", str(tmp_path), "--minutes", "0.2"]) == 2
    found = json.loads((tmp_path / "gpu_report.json").read_text())["tests"]
    assert found["failed"] == ["FAILED tests/a.py::b"] and not found["passed"]
    assert "Tests: 1 failed, 2 passed" in (tmp_path / "gpu_report.md").read_text()


def test_tests_run_on_the_gpu_and_nowhere_else():
    said = "import os; print(os.environ['XPDL_BACKENDS'], os.environ['XPDL_REQUIRE_GPU'], os.path.exists('pyproject.toml'))"
    found = gpu_report.run_tests(60, (sys.executable, "-c", said))
    assert found["result"] == "cupy 1 True" and found["passed"]


def test_tests_that_take_too_long_are_no_failure():
    found = gpu_report.run_tests(0.2, (sys.executable, "-c", "import time; time.sleep(30)"))
    assert found["passed"] is None and found["result"] == "not finished after 0 s"


class TestCost:
    def test_affine_by_hand(self):
        net = Sequential(Affine(units=5), Relu(), Affine(units=3), loss=SoftmaxWithLoss)
        net.build((4,))
        found = roofline.cost(net, (4,), rows=10, itemsize=4)
        # forward and dW; forward, dx and dW
        assert found.flop == 2 * 10 * 4 * 5 * 2 + 2 * 10 * 5 * 3 * 3
        values = 10 * 4 + 4 * 10 * (5 + 5 + 3)
        assert found.bytes == 4 * (values + 10 * (4 * 5 + 5 + 5 * 3 + 3))

    def test_convolution_with_groups_and_a_residual_sum(self):
        paths = Residual(Convolution(filters=4, size=3, pad=1, groups=2, use_bias=False), shortcut=Identity())
        net = Sequential(paths, Flatten(), loss=SoftmaxWithLoss)
        net.build((4, 6, 6))
        found = roofline.cost(net, (4, 6, 6), rows=2, itemsize=8)
        assert found.flop == 2 * (2 * 4 * 36) * (2 * 9) * 2
        # the data; convolution, identity, sum and Flatten
        assert found.bytes == 8 * (2 * 4 * 36 + 4 * 2 * (4 * 4 * 36) + 10 * 4 * 2 * 9)

    def test_mixed_precision_has_a_wider_optimizer(self):
        net = Sequential(Affine(units=5), loss=SoftmaxWithLoss)
        net.build((4,))
        found = roofline.cost(net, (4,), rows=10, itemsize=2, parameter_size=4)
        assert found.bytes == 2 * (10 * 4 + 4 * 10 * 5 + 3 * 25) + 4 * 7 * 25

    def test_the_slower_of_both_is_the_floor(self):
        rates = roofline.Rates(flop_per_second=100.0, bytes_per_second=10.0)
        assert roofline.Cost(1000.0, 20.0).seconds(rates) == 10.0
        assert roofline.Cost(100.0, 200.0).seconds(rates) == 20.0


def test_rates_count_what_a_product_and_a_copy_do(monkeypatch):
    monkeypatch.setattr(roofline, "_seconds", lambda call, synchronize: call() is None or 0.5)
    found = roofline.rates(make_backend("numpy"), lambda: None, side=10, megabytes=1)
    assert found == roofline.Rates(2 * 1000 / 0.5, 2 * 2**20 / 0.5)


class TestBusy:
    backend = SimpleNamespace(device=SimpleNamespace(pci_bus_id="0000:17:00.0"))

    def test_is_what_the_driver_says_of_the_time_of_the_steps(self, tmp_path, monkeypatch):
        program = tmp_path / "nvidia-smi"
        lines = "print(*[0] * 10, *[80, 90] * 5, '[N/A]', sep='\\n', flush=True)"
        asked = f"import sys, time; open({str(tmp_path / 'asked')!r}, 'w').write(' '.join(sys.argv))"
        program.write_text(f"#!{sys.executable}\n{asked}; {lines}; time.sleep(60)\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(gpu_utilization, "_SETTLED", 0.3)
        steps, waits = [], []
        found = gpu_utilization.gpu_utilization(
            lambda: steps.append(1), lambda: waits.append(1), self.backend, seconds=0.3
        )
        assert found == 0.85 and len(steps) > len(waits) > 1
        assert "-i 0000:17:00.0" in (tmp_path / "asked").read_text()

    def test_without_the_program_or_an_address_it_is_not_known(self, tmp_path, monkeypatch):
        assert gpu_utilization.gpu_utilization(lambda: None, lambda: None, make_backend("numpy")) is None
        monkeypatch.setenv("PATH", str(tmp_path))
        assert gpu_utilization.gpu_utilization(lambda: None, lambda: None, self.backend) is None


def test_ours_and_those_of_torch_take_turns_and_are_waited_for():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in ("xpdl", "torch")}
    times = gpu_steps.alternating(calls, lambda: order.append("wait"))
    assert {name: len(found) for name, found in times.items()} == {
        "xpdl": gpu_steps._ROUNDS,
        "torch": gpu_steps._ROUNDS,
    }
    rounds = [name for name, before in zip(order, ["wait", *order], strict=False) if name != "wait" and name != before]
    assert rounds[-4:] == ["xpdl", "torch", "xpdl", "torch"] and order[-1] == "wait"


def test_a_peer_that_fails_is_a_note(small):
    pytest.importorskip("torch")

    def broken(module, precision, compiled):
        raise RuntimeError("no compiler\nmore words")

    rates = roofline.Rates(1e9, 1e9)
    options = {"backend": make_backend("numpy"), "rates": rates, "torch_kinds": {"torch compiled": True}}
    row = gpu_steps.row("TwoLayerNet", 3, "highest", **options, synchronize=lambda: None, on_gpu=broken)
    assert row.note == "torch compiled: RuntimeError: no compiler" and row.milliseconds["torch compiled"] is None
    assert row.ratio("torch compiled") is None and row.milliseconds["xpdl"] > 0


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
@pytest.mark.filterwarnings("ignore:Trainer. a step cannot be captured")
def test_a_step_that_cannot_be_captured_is_a_note(small, monkeypatch, error):
    class Fails(TwoLayerNet):
        def gradient(self, x, t):
            if fake_capture.is_recording():
                raise error("not in a graph")
            return super().gradient(x, t)

    monkeypatch.setattr(gpu_steps, "CASES", {"Fails": (lambda: Fails(6, 5, 10), (6,), (3,))})
    options = {"backend": make_backend(fake.module), "rates": roofline.Rates(1e9, 1e9), "torch_kinds": {}}
    row = gpu_steps.row("Fails", 3, "highest", **options, synchronize=lambda: None)
    assert row.milliseconds["xpdl captured"] is None and row.milliseconds["xpdl"] > 0
    assert row.note in ("captured: not in a graph", "captured: MemoryError: not in a graph")


def test_resnet18_is_the_one_of_the_paper():
    build, shape, _ = gpu_steps.CASES["ResNet18"]
    net = build()
    assert net.build(shape) == (10,)
    # torchvision's has 11,181,642 with ten classes; its entrance is for large images, its shortcuts have batch norm
    entrance, shortcuts = 64 * 3 * (9 - 49), -2 * (128 + 256 + 512)
    assert sum(int(np.prod(p.shape)) for p in net.params.values()) == 11_181_642 + entrance + shortcuts


def test_epochs_are_said_one_by_one_until_the_goal(capsys):
    train, test = load_mini_mnist()
    net = TwoLayerNet(784, 20, 10, seed=0)
    with use("numpy"):
        gpu_accuracy.epochs(net, tuple(a[:500] for a in train), test, limit=1e9, goal=0.5)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[-1]["accuracy"] >= 0.5 and all(line["accuracy"] < 0.5 for line in lines[:-1])


def test_a_process_that_fails_is_a_note():
    reached, note = gpu_accuracy.to_accuracy("no_such_library", 5)
    assert [r.seconds for r in reached] == [None, None] and "no_such_library" in note


def test_ratios_are_summed_up_against_their_goals():
    times = {"xpdl": 2.0, "xpdl captured": 1.5, "torch": 1.0, "torch compiled": 2.0}
    rows = [
        gpu_steps.Row("A", 1, "highest", times, 1.0, 1.0, 0.5, busy=0.83),
        gpu_steps.Row("B", 1, "highest", {"xpdl": 1.0, "torch": 2.0, "torch compiled": None}, 1.0, 1.0, 0.5, "a word"),
    ]
    lines = gpu_tables._steps(rows)
    assert "| A | 1 | highest | 2.000 | 1.500 | 1.000 | 2.000 | 2.00 | 1.00 | 0.75 | 0.500 | 0.25 | 0.83 |" in lines
    assert "xpdl/torch: geometric mean 1.00; 1 of 2 rows above 1.0" in lines
    assert "xpdl/torch compiled: geometric mean 1.00; 0 of 1 rows above 1.1" in lines
    assert lines[-1] == "B 1 highest: a word"


def test_former_name_still_runs_and_warns():
    done = subprocess.run([sys.executable, "-m", "xpdl.gpu_gate", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: python -m xpdl.bench.gpu" in done.stdout
    assert (
        "DeprecationWarning: gpu_gate: python -m xpdl.gpu_gate is deprecated; use python -m xpdl.bench.gpu"
        in done.stderr
    )
