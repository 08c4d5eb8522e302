"""The GPU report keeps to its time, keeps what it measured, and says what is left; nothing here looks at a figure."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest

from tests.harness import nonempty
from tests.hostcuda import child as hostcuda
from xpdl import cli, load_mini_mnist
from xpdl.backends import availability, device_info, use
from xpdl.bench import gpu_accuracy, gpu_predictions, gpu_report, gpu_tables, torch_peer
from xpdl.bench.child import Ended
from xpdl.bench.device_rates import Rates
from xpdl.bench.gpu_accuracy import Reached
from xpdl.bench.gpu_predictions import PREDICTIONS
from xpdl.bench.gpu_results import Report, load
from xpdl.bench.gpu_steps import ALL_PRECISIONS, CAPTURED, CASES, PEERS, Measurement
from xpdl.bench.gpu_tests import SuiteRun
from xpdl.bench.step_cost import Cost
from xpdl.models import TwoLayerNet

pytestmark = pytest.mark.exhaustive

REASON = "no driver: none here"
CARD = {"GPU": "NVIDIA Card", "driver": "600.1", "cuDNN": "used by convolutions"}


def test_without_a_gpu_it_says_why_and_fails(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(availability, "cupy_problem", lambda: REASON)
    assert gpu_report.main(["--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"gpu_report: nothing to measure: {REASON}\n"
    assert not list(tmp_path.iterdir())


def measurement(part, net, size, precision, **milliseconds):
    times = {"xpdl": 2.0, CAPTURED: 1.0} | {name: 4.0 for name in PEERS[part]} | milliseconds
    kernels = [{"library": "cublas", "name": "gemm", "calls": 3, "cost": {"flop": 6.0, "bytes": 9e6}}]
    return Measurement(part, net, size, precision, times, Cost(1e6, 1e6), kernels if part == "eager" else [], notes=[])


class Machine:
    """Stand-in for the processes of the report; the one of the case `time_is_over_at` runs out of time."""

    def __init__(self):
        self.started, self.tested = [], []
        self.time_is_over_at = self.fails = self.tests = None

    def run_child(self, command, limit, on_line):
        assert limit > 0
        words = command[command.index("xpdl.bench.gpu_steps") + 1 :]
        self.started.append(words)
        if words[0] == "rates":
            for precision in words[1:]:
                on_line(json.dumps({"precision": precision, "flop_per_second": 1e9, "bytes_per_second": 1e9}))
            return Ended(0, 1.0, "")
        part, net, *cases = words
        for case in cases:
            size, precision = case.split(":")
            if (net, case) == self.time_is_over_at:
                return Ended(None, limit, "")
            if (net, case) == self.fails:
                return Ended(-11, 1.0, "a word\nSegmentation fault")
            on_line(json.dumps(dataclasses.asdict(measurement(part, net, int(size), precision))))
        return Ended(0, 1.0, "")

    def run_tests(self, limit, log, before, paths):
        self.tested.append((limit, before, list(paths)))
        return self.tests or SuiteRun({"tests/a.py::b": "PASSED"}, 3.0, True)


@pytest.fixture
def machine(monkeypatch):
    found = Machine()
    monkeypatch.setattr(availability, "cupy_problem", lambda: None)
    monkeypatch.setattr(gpu_report, "machine", lambda: dict(CARD))
    monkeypatch.setattr(torch_peer, "is_installed", lambda: True)
    monkeypatch.setattr(gpu_report, "run_child", found.run_child)
    monkeypatch.setattr(gpu_report, "run_tests", found.run_tests)
    monkeypatch.setattr(gpu_accuracy, "to_accuracy", lambda *args, **kw: ([Reached(0.99, 1.234, 5.0)], ""))
    return found


def kept(folder):
    return json.loads((folder / "gpu_report.json").read_text())


def keys(folder):
    return [(m["part"], m["net"], m["batch_size"], m["precision"]) for m in kept(folder)["measurements"]]


EVERYTHING = [
    (part, net, size, precision)
    for part in PEERS
    for net, (_, _, sizes) in CASES.items()
    for precision in ALL_PRECISIONS
    for size in sizes
]


def test_all_of_it_is_in_one_json_and_one_table(machine, tmp_path, capsys):
    assert gpu_report.main(["--out", str(tmp_path)]) == 0
    assert keys(tmp_path) == EVERYTHING and not kept(tmp_path)["left_out"]
    text = (tmp_path / "gpu_report.md").read_text()
    said = capsys.readouterr().out
    assert said.endswith(text + "\n") and said.startswith("# xpdl on a GPU\n\n- GPU: NVIDIA Card\n- driver: 600.1\n")
    for line in (
        "Tests: 1 passed (3 s)",
        "| 99.0 % | 1.2 | 5.0 |",
        "| MLP | 1000 | bfloat16 | 2.000 | 1.000 | 4.000 |",
    ):
        assert line in text
    assert re.search(r"^- measured: \d{4}-\d\d-\d\dT", text, re.MULTILINE)
    assert text.rstrip().splitlines()[-1].startswith(f"Please attach {tmp_path}/gpu_report.json and ")
    assert "Skipped" not in text and "Not there yet" not in text


def test_parts_nets_and_precisions_are_chosen_and_merged(machine, tmp_path):
    few = ["--out", str(tmp_path), "--nets", "MLP"]
    assert gpu_report.main([*few, "--only", "eager", "--precisions", "tf32", "bfloat16"]) == 0
    assert machine.started[1:] == [["eager", "MLP", "100:tf32", "1000:tf32", "100:bfloat16", "1000:bfloat16"]]
    assert not machine.tested
    text = (tmp_path / "gpu_report.md").read_text()
    assert (
        "Not there yet: tests, compiled, accuracy." in text
        and "| MLP | 100 | tf32 | 2.000 | 1.000 | 4.000 | 4.000 | - |" in text
    )
    machine.started.clear()
    assert gpu_report.main([*few, "--only", "eager", "compiled", "--precisions", "tf32"]) == 0
    # finished cases are not measured again, nor are the rates
    assert machine.started == [["compiled", "MLP", "100:tf32", "1000:tf32"]]
    assert len(keys(tmp_path)) == 6 and len(kept(tmp_path)["dates"]) == 2
    text = (tmp_path / "gpu_report.md").read_text()
    assert "| MLP | 100 | tf32 | 2.000 | 1.000 | 4.000 | 4.000 | 4.000 | 0.50 | 0.25 | 0.50 | 0.25 |" in text


def test_what_was_measured_before_the_time_was_over_is_kept_and_the_rest_comes_next_time(machine, tmp_path):
    machine.time_is_over_at = ("SimpleConvNet", "100:tf32")
    options = ["--out", str(tmp_path), "--only", "eager"]
    assert gpu_report.main(options) == 0
    before = keys(tmp_path)
    assert ("eager", "SimpleConvNet", 1000, "highest") in before
    assert ("eager", "SimpleConvNet", 100, "tf32") not in before
    (left_out,) = kept(tmp_path)["left_out"]
    assert (
        left_out.startswith("eager: SimpleConvNet 100 tf32, 1000 tf32, 100 float16") and "its time was over" in left_out
    )
    assert f"- {left_out}" in (tmp_path / "gpu_report.md").read_text()
    machine.time_is_over_at = None
    machine.started.clear()
    assert gpu_report.main(options) == 0
    assert [words[:3] for words in machine.started] == [["eager", "SimpleConvNet", "100:tf32"]]
    assert sorted(keys(tmp_path)) == sorted(key for key in EVERYTHING if key[0] == "eager")
    assert not kept(tmp_path)["left_out"]


def test_without_time_nothing_is_started_and_all_is_said_to_be_left_out(machine, tmp_path):
    assert gpu_report.main(["--out", str(tmp_path), "--minutes", "0.1", "--only", "eager", "accuracy"]) == 0
    assert not machine.started
    left_out = kept(tmp_path)["left_out"]
    assert [line.split(" (")[0].split()[1] for line in left_out[:-1]] == list(CASES)
    assert left_out[-1] == "accuracy: no time was left"


def test_a_process_that_fails_costs_one_case(machine, tmp_path):
    machine.fails = ("MLP", "1000:highest")
    options = ["--out", str(tmp_path), "--only", "eager"]
    assert gpu_report.main(options) == 0
    assert keys(tmp_path) == [key for key in EVERYTHING if key[0] == "eager"]
    of_mlp = [words[2:] for words in machine.started if words[1] == "MLP"]
    assert of_mlp[0][:2] == ["100:highest", "1000:highest"] and of_mlp[1] == of_mlp[0][2:]
    text = (tmp_path / "gpu_report.md").read_text()
    assert "- MLP 1000 highest: exit code -11: Segmentation fault" in text
    assert "| MLP | 1000 | highest | - | - | - | - | - | - | - | - | - | - | - | - | - | - |" in text
    machine.started.clear()
    gpu_report.main(options)
    assert not machine.started


def test_a_process_that_measures_nothing_is_no_endless_loop(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_report, "run_child", lambda *args: Ended(0, 1.0, ""))
    assert gpu_report.main(["--out", str(tmp_path), "--only", "eager", "--nets", "MLP"]) == 0
    (left_out,) = kept(tmp_path)["left_out"]
    assert left_out.endswith("(the process did not measure it)")


def test_failing_tests_are_named_and_fail_the_report(machine, tmp_path):
    machine.tests = SuiteRun({"tests/a.py::b": "FAILED", "tests/a.py::c": "PASSED"}, 7.0, True)
    options = ["--out", str(tmp_path), "--only", "tests", "--tests", "tests/a.py"]
    assert gpu_report.main(options) == 2
    text = (tmp_path / "gpu_report.md").read_text()
    assert "Tests: 1 failed, 1 passed (7 s)" in text and "- FAILED tests/a.py::b" in text
    limit, before, paths = machine.tested[0]
    assert before is None and paths == ["tests/a.py"] and limit > 500
    # they are not run twice
    assert gpu_report.main(options) == 2 and len(machine.tested) == 1


def test_tests_that_did_not_finish_go_on_and_leave_time_for_the_rest(machine, tmp_path):
    machine.tests = SuiteRun({"tests/a.py::c": "PASSED"}, 7.0, False, "ended after 7 s")
    assert gpu_report.main(["--out", str(tmp_path), "--minutes", "2", "--nets", "MLP"]) == 0
    assert kept(tmp_path)["left_out"][0] == "tests: ended after 7 s" and machine.started
    assert gpu_report.main(["--out", str(tmp_path), "--minutes", "2", "--only", "tests"]) == 0
    assert machine.tested[1][1] == machine.tests
    assert machine.tested[0][0] < 60 < machine.tested[1][0]


@pytest.mark.parametrize("change", ["another card", "again", "broken file"])
def test_a_report_of_something_else_is_set_aside(machine, tmp_path, monkeypatch, change):
    options = ["--out", str(tmp_path), "--only", "eager", "--nets", "MLP", "--precisions", "tf32"]
    gpu_report.main(options)
    if change == "another card":
        monkeypatch.setattr(gpu_report, "machine", lambda: CARD | {"GPU": "NVIDIA Other"})
    elif change == "broken file":
        (tmp_path / "gpu_report.json").write_text("{")
    gpu_report.main([*options, *(["--again"] if change == "again" else [])])
    assert (tmp_path / "gpu_report.1.json").exists() and (tmp_path / "gpu_report.1.md").exists()
    assert len(keys(tmp_path)) == 2 and len(kept(tmp_path)["dates"]) == 1
    reasons = {
        "another card": "it is of another GPU",
        "again": "a new one was asked for",
        "broken file": "cannot be read",
    }
    assert reasons[change] in kept(tmp_path)["notes"][0]


def test_without_pytorch_or_cudnn_it_says_what_that_costs(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(torch_peer, "is_installed", lambda: False)
    missing = "cuDNN is not used: no cudnn; pip install 'xpdl[cudnn12]'"
    monkeypatch.setattr(gpu_report, "machine", lambda: CARD | {"cuDNN": missing})
    assert gpu_report.main(["--out", str(tmp_path), "--only", "eager", "--nets", "MLP"]) == 0
    notes = kept(tmp_path)["notes"]
    assert notes[0].startswith("PyTorch is not installed")
    assert "moves 660 MB of columns that cuDNN does not have" in notes[1] and notes[1].endswith(missing)


def test_what_is_kept_is_read_back_as_it_was(machine, tmp_path):
    gpu_report.main(["--out", str(tmp_path)])
    environment = kept(tmp_path)["environment"]
    report = load(tmp_path, environment)
    assert report.measurements[0] == measurement("eager", "TwoLayerNet", 100, "highest")
    assert report.tests == SuiteRun({"tests/a.py::b": "PASSED"}, 3.0, True)
    assert report.rates["tf32"] == Rates(1e9, 1e9) and report.reached == [Reached(0.99, 1.234, 5.0)]
    before = (tmp_path / "gpu_report.json").read_text()
    report.write()
    assert (tmp_path / "gpu_report.json").read_text() == before


def test_figures_of_an_emulated_device_are_marked(tmp_path):
    report = Report(tmp_path, CARD | {"GPU": "host (CuPy without a GPU)"})
    text = gpu_tables.markdown(report)
    assert text.count(gpu_tables.NOT_A_GPU) == 2 and "Please attach" not in text
    assert gpu_tables.NOT_A_GPU not in gpu_tables.markdown(Report(tmp_path, dict(CARD)))
    assert device_info.is_emulated("host (CuPy without a GPU)") and not device_info.is_emulated("NVIDIA H200")


def test_ratios_are_summed_up_against_their_goals():
    rates = {"highest": Rates(1e9, 1e9)}
    rows = [
        dataclasses.replace(measurement("eager", "A", 1, "highest", torch=1.0), utilization=0.83, notes=["a word"]),
        measurement("eager", "B", 1, "highest", torch=4.0),
        measurement("compiled", "A", 1, "highest", xpdl=2.5, **{"torch compiled": None}),
    ]
    lines = gpu_tables.steps(rows, rates)
    a = "| A | 1 | highest | 2.000 | 1.000 | 1.000 | 4.000 | - | 2.00 | 1.00 | - | - | 1.000 | 0.50 | 3 | 9.0 | 0.83 |"
    assert a in lines
    assert "- xpdl / torch: geometric mean 1.00; 1 of 2 rows above 1.0" in lines
    assert "- xpdl captured / torch: geometric mean 0.50; 0 of 2 rows above 1.0" in lines
    assert not [line for line in lines if "/ torch compiled: geometric" in line]
    assert lines[-1] == "- A 1 highest: a word"


class TestPredictions:
    def test_say_what_they_are_and_of_what_day(self):
        lines = gpu_predictions.comparison([])
        assert lines[0].startswith("Ratios of step times, predicted for an NVIDIA H200 on 2026-11-29, not measured")
        assert sum(line.endswith(" - |") for line in lines) == len(PREDICTIONS) == 15

    def test_stand_beside_what_was_measured(self):
        found = measurement("eager", "ResNet18", 128, "tf32", xpdl=5.0, torch=2.0)
        compiled = measurement("compiled", "MLP", 100, "highest", **{CAPTURED: 1.0, "torch compiled": 2.0})
        lines = gpu_predictions.comparison([found, compiled])
        assert "| ResNet18 | 128 | tf32 | xpdl / torch | 2.4 | 2.50 |" in lines
        assert "| MLP | 100 | highest | xpdl captured / torch compiled | 0.4 to 0.7 | 0.50 |" in lines

    def test_are_of_cases_that_are_measured(self):
        for p in nonempty(PREDICTIONS):
            assert p.batch_size in CASES[p.net][2] and p.precision in ALL_PRECISIONS and p.low <= p.high
            assert p.to in {name for peers in PEERS.values() for name in peers}


class TestAccuracy:
    def test_epochs_are_said_one_by_one_until_the_goal(self, capsys):
        train, test = load_mini_mnist()
        net = TwoLayerNet(784, 20, 10, seed=0)
        with use("numpy"):
            gpu_accuracy.epochs(net, tuple(a[:500] for a in train), test, goal=0.5)
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
        assert lines[-1]["accuracy"] >= 0.5 and all(line["accuracy"] < 0.5 for line in lines[:-1])

    def test_targets_are_reached_in_a_process_of_its_own(self):
        (reached,), note = gpu_accuracy.to_accuracy("numpy", 120, (0.5,), data="mini")
        assert not note and 0 < reached.seconds < reached.seconds_with_start

    def test_a_process_that_fails_is_a_note(self):
        reached, note = gpu_accuracy.to_accuracy("no_such_library", 60)
        assert [r.seconds for r in reached] == [None, None] and "no_such_library" in note


def test_former_name_still_runs_and_warns():
    done = subprocess.run([sys.executable, "-m", "xpdl.gpu_gate", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: python -m xpdl.bench.gpu" in done.stdout
    warning = "DeprecationWarning: gpu_gate: python -m xpdl.gpu_gate is deprecated; use python -m xpdl.bench.gpu"
    assert warning in done.stderr


def test_command_line_has_it_too(machine, tmp_path, capsys):
    assert cli.main(["bench", "--gpu-report", "--out", str(tmp_path), "--only", "eager", "--nets", "MLP"]) == 0
    assert {key[:2] for key in keys(tmp_path)} == {("eager", "MLP")}
    machine.tests = SuiteRun({"tests/a.py::b": "FAILED"}, 7.0, True)
    assert cli.main(["bench", "--gpu-report", "--out", str(tmp_path), "--only", "tests"]) == 2


@pytest.mark.needs("cupy")
class TestOnHostcuda:
    """The whole report as a user runs it, on the real CuPy, without a GPU."""

    def run(self, folder, *options):
        command = ["-m", "xpdl.bench.gpu", "--out", str(folder), "--nets", "TwoLayerNet", *options]
        done = hostcuda.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def test_it_runs_from_end_to_end_and_goes_on(self, tmp_path):
        options = ["--only", "tests", "eager", "accuracy", "--tests", "tests/ops/test_activations.py"]
        said = self.run(tmp_path, *options, "--precisions", "highest")
        assert said.startswith(f"# xpdl on a GPU\n\n{gpu_tables.NOT_A_GPU}\n\n- GPU: host (CuPy without a GPU)\n")
        assert said.rstrip().endswith(gpu_tables.NOT_A_GPU)
        found = kept(tmp_path)
        assert set(found["tests"]["outcomes"].values()) == {"PASSED"} and found["tests"]["finished"]
        assert not found["left_out"] and found["reached"][0]["seconds"] > 0
        assert set(found["rates"]) == {"highest", "tf32", "float16"}
        assert {kernel["name"] for kernel in found["measurements"][0]["kernels"]} >= {"gemm", "adam_step"}
        self.run(tmp_path, "--only", "eager", "--precisions", "bfloat16")
        assert keys(tmp_path) == [("eager", "TwoLayerNet", 2, p) for p in ("highest", "bfloat16")]
        assert kept(tmp_path)["tests"] == found["tests"]

    @pytest.mark.needs("torch")
    @pytest.mark.slow
    def test_it_compares_with_compiled_pytorch(self, tmp_path):
        self.run(tmp_path, "--only", "compiled", "--precisions", "highest")
        (found,) = kept(tmp_path)["measurements"]
        assert None not in found["milliseconds"].values() and not found["notes"]
