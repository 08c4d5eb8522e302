"""Steps of xpdl on CuPy and of PyTorch on the host are timed in turns; nothing looks at how long they take."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from xpdl.backends import make_backend
from xpdl.backends.cupy import capture
from xpdl.bench import gpu_steps, torch_peer
from xpdl.bench.gpu_steps import ALL_PRECISIONS, CAPTURED, SHORT, Measurement
from xpdl.bench.step_cost import Cost
from xpdl.models import DeepConvNet, TwoLayerNet

pytestmark = [pytest.mark.backends("cupy"), pytest.mark.backends("current")]


@pytest.fixture
def device(backend, monkeypatch):
    """CuPy, and small nets."""
    nets = {
        "TwoLayerNet": (lambda: TwoLayerNet(6, 5, 10), (6,), (3, 7)),
        "DeepConvNet": (lambda: DeepConvNet(input_dim=(1, 8, 8), hidden_size=5, seed=0), (1, 8, 8), (2,)),
    }
    monkeypatch.setattr(gpu_steps, "CASES", nets)
    return make_backend("cupy", backend.device)


def measure(backend, part="eager", net="TwoLayerNet", size=3, precision="highest", **options):
    options = {"to_device": lambda module, precision, compiled: module, "effort": SHORT} | options
    return gpu_steps.measure(part, net, size, precision, backend=backend, synchronize=lambda: None, **options)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("precision", [p for p in ALL_PRECISIONS if p != "bfloat16"])
def test_every_kind_is_timed(device, precision):
    with gpu_steps.computing(precision):
        found = measure(device, precision=precision)
    missing = {name for name, value in found.milliseconds.items() if value is None}
    assert set(found.milliseconds) == {"xpdl", CAPTURED, "torch", "torch channels_last"}
    # rows are no images
    assert missing == {"torch channels_last"} and not found.notes
    assert all(value > 0 for value in found.milliseconds.values() if value is not None)
    assert found.key == ("eager", "TwoLayerNet", 3, precision)
    names = [kernel["name"] for kernel in found.kernels]
    assert {"gemm", "adam_step"} <= set(names) and len(set(names)) == len(names)


@pytest.mark.needs("torch")
def test_images_are_timed_in_both_layouts_of_pytorch(device):
    found = measure(device, net="DeepConvNet", size=2)
    assert None not in found.milliseconds.values() and set(found.milliseconds) > {"torch channels_last"}


@pytest.mark.needs("torch")
def test_compiled_part_has_compiled_pytorch_and_no_second_roofline(device):
    asked = []
    found = measure(device, "compiled", to_device=lambda module, p, compiled: asked.append((p, compiled)) or module)
    assert set(found.milliseconds) == {"xpdl", CAPTURED, "torch compiled"} and None not in found.milliseconds.values()
    assert asked == [("highest", True)] and not found.kernels and found.utilization is None


def test_utilization_is_of_steps(device):
    found = measure(device, utilization=lambda call: [call(), 0.75][1])
    assert found.utilization == 0.75


@pytest.mark.needs("torch")
def test_a_peer_that_fails_is_a_note(device):
    def broken(module, precision, compiled):
        raise RuntimeError("no compiler\nmore words")

    found = measure(device, "compiled", to_device=broken)
    assert found.notes == ["torch compiled: RuntimeError: no compiler"] and found.milliseconds["torch compiled"] is None
    assert found.ratio("torch compiled") is None and found.milliseconds["xpdl"] > 0


def test_without_pytorch_the_rest_is_timed(device, monkeypatch):
    monkeypatch.setattr(torch_peer, "is_installed", lambda: False)
    found = measure(device)
    assert found.milliseconds["xpdl"] > 0 and found.milliseconds["torch"] is None and not found.notes


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
@pytest.mark.filterwarnings("ignore:Trainer. compile=True. a step cannot be compiled")
def test_a_step_that_cannot_be_captured_is_a_note(device, monkeypatch, error):
    class Fails(TwoLayerNet):
        def gradient(self, x, t):
            if capture.is_recording():
                raise error("not in a graph")
            return super().gradient(x, t)

    monkeypatch.setattr(gpu_steps, "CASES", {"Fails": (lambda: Fails(6, 5, 10), (6,), (3,))})
    monkeypatch.setattr(torch_peer, "is_installed", lambda: False)
    found = measure(device, net="Fails")
    assert found.milliseconds[CAPTURED] is None and found.milliseconds["xpdl"] > 0
    (note,) = found.notes
    assert note.startswith("captured: ") and note.endswith("not in a graph")


def test_process_prints_a_line_for_each_measurement(device, monkeypatch, capsys):
    monkeypatch.setattr(torch_peer, "is_installed", lambda: False)
    monkeypatch.setattr(gpu_steps, "make_backend", lambda name: device)
    freed = []
    monkeypatch.setattr(gpu_steps, "free_cached_memory", lambda: freed.append(1))
    gpu_steps.main(["--short", "eager", "TwoLayerNet", "3:highest", "7:tf32"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["batch_size"], line["precision"]) for line in lines] == [(3, "highest"), (7, "tf32")]
    assert freed == [1, 1]
    gpu_steps.main(["--short", "rates", "highest", "float16"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["precision"] for line in lines] == ["highest", "float16"]
    assert all(line["flop_per_second"] > 0 and line["bytes_per_second"] > 0 for line in lines)


def test_ratios_are_of_times_of_one_measurement():
    found = Measurement("eager", "A", 1, "highest", {"xpdl": 2.0, CAPTURED: 1.5, "torch": 1.0}, Cost(1.0, 1.0))
    assert found.ratio("torch") == 2.0 and found.ratio("torch", of=CAPTURED) == 1.5 and found.ratio("none") is None


def test_resnet18_is_the_one_of_the_paper():
    build, shape, _ = gpu_steps.CASES["ResNet18"]
    net = build()
    assert net.build(shape) == (10,)
    # torchvision's has 11,181,642 with ten classes; its entrance is for large images, its shortcuts have batch norm
    entrance, shortcuts = 64 * 3 * (9 - 49), -2 * (128 + 256 + 512)
    assert sum(int(np.prod(p.shape)) for p in net.params.values()) == 11_181_642 + entrance + shortcuts


@pytest.mark.needs("torch")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_steps_of_pytorch_train(dtype):
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(4, 3))
    before = module[0].weight.detach().clone()
    rng = np.random.default_rng(0)
    step = torch_peer.stepper(module, rng.normal(size=(5, 4)).astype("f"), rng.integers(0, 3, 5), half=dtype)
    for _ in range(3):
        step()
    assert module[0].weight.dtype == torch.float32 and not torch.equal(module[0].weight, before)


@pytest.mark.needs("torch")
def test_peer_goes_where_pytorch_computes(monkeypatch):
    import torch

    moved = SimpleNamespace(to=lambda device: device)
    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert torch_peer.to_device(moved, "highest", compiled=False) == device
