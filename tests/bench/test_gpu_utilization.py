"""GPU utilization is what the driver says of the time of the steps."""

import sys
from types import SimpleNamespace

import pytest

from xpdl.backends import make_backend
from xpdl.bench import gpu_utilization

pytestmark = pytest.mark.exhaustive

BACKEND = SimpleNamespace(device=SimpleNamespace(pci_bus_id="0000:17:00.0"))


def test_is_what_the_driver_says_of_the_time_of_the_steps(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    lines = "print(*[0] * 10, *[80, 90] * 5, '[N/A]', sep='\\n', flush=True)"
    asked = f"import sys, time; open({str(tmp_path / 'asked')!r}, 'w').write(' '.join(sys.argv))"
    program.write_text(f"#!{sys.executable}\n{asked}; {lines}; time.sleep(60)\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu_utilization, "_SETTLED", 0.3)
    steps, waits = [], []
    found = gpu_utilization.gpu_utilization(lambda: steps.append(1), lambda: waits.append(1), BACKEND, seconds=0.3)
    assert found == 0.85 and len(steps) > len(waits) > 1
    assert "-i 0000:17:00.0" in (tmp_path / "asked").read_text()


def test_program_that_does_not_end_when_asked_is_killed(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    stays = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    program.write_text(f"#!{sys.executable}\n{stays}; print(70, flush=True); time.sleep(600)\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu_utilization, "_SETTLED", 1.0)
    monkeypatch.setattr(gpu_utilization, "_TO_END", 0.1)
    assert gpu_utilization.gpu_utilization(lambda: None, lambda: None, BACKEND, seconds=1.0) == 0.7


def test_without_the_program_or_an_address_it_is_not_known(tmp_path, monkeypatch):
    assert gpu_utilization.gpu_utilization(lambda: None, lambda: None, make_backend("numpy")) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_utilization.gpu_utilization(lambda: None, lambda: None, BACKEND) is None
