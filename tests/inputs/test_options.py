"""Every documented option changes something, or is refused: none is dropped, replaced or overwritten."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

import xpdl
from tests.inputs.arguments import CALLS
from tests.inputs.options import WATCHED, Watched, faults, options_of
from xpdl import cli
from xpdl.bench import command

FUNCTIONS = {call.name: call.function for call in CALLS}


def test_every_option_of_every_public_name_is_in_the_table() -> None:
    table: dict[str, set[str]] = {name: set() for name in FUNCTIONS}
    for watched in WATCHED:
        table[watched.function.__name__] |= {*watched.others, *watched.unseen}
    assert table == {name: options_of(function) for name, function in FUNCTIONS.items()}


@pytest.mark.parametrize("watched", WATCHED, ids=lambda watched: watched.function.__name__)
def test_options_change_something_or_are_refused(watched: Watched) -> None:
    assert not (found := faults(watched)), "\n".join(found)


#: `xpdl bench`: options of one way to measure -> those that it does not look at
UNUSED = {
    (): {"--gpu": ["H200"]},
    ("--profile",): {"--task": ["predict"], "--against": ["torch"], "--rounds": ["3"], "--gpu": ["H200"]},
    ("--distributed",): {"--task": ["predict"], "--against": ["torch"], "--gpu": ["H200"]},
    ("--explain", "MLP"): {
        "--model": ["MLP"],
        "--task": ["predict"],
        "--against": ["torch"],
        "--rounds": ["3"],
        "--gpu": ["H200"],
    },
    ("--memory",): {"--backend": ["torch"], "--task": ["predict"], "--rounds": ["3"], "--gpu": ["H200"]},
    ("--epoch",): {"--task": ["predict"], "--rounds": ["3"], "--gpu": ["H200"]},
    ("--scaling",): {
        "--model": ["MLP"],
        "--batch-size": ["5"],
        "--task": ["predict"],
        "--against": ["torch"],
        "--rounds": ["3"],
        "--gpu": ["H200"],
    },
    ("--roofline", "MLP"): {
        "--model": ["MLP"],
        "--backend": ["torch"],
        "--task": ["predict"],
        "--against": ["torch"],
        "--rounds": ["3"],
    },
    ("--gpu-report",): {
        "--model": ["MLP"],
        "--backend": ["torch"],
        "--batch-size": ["5"],
        "--task": ["predict"],
        "--against": ["torch"],
        "--rounds": ["3"],
        "--gpu": ["H200"],
        "--json": ["file"],
    },
}


@pytest.mark.parametrize(
    ("way", "option", "value"),
    [(list(way), option, value) for way, options in UNUSED.items() for option, value in options.items()],
)
def test_bench_refuses_what_a_way_to_measure_does_not_use(
    way: list[str], option: str, value: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", option, *value, *way]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"xpdl bench: error: {option} changes nothing with") and said.count("\n") == 1


def test_each_option_of_the_bench_is_used_or_refused() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    ways = {way[0] for way in UNUSED if way}
    options = {action.option_strings[0] for action in parser._actions} - {"-h", *ways}
    used = {"--json", *(f"--{name.replace('_', '-')}" for names in command.USED.values() for name in names)}
    assert used == options and set(command.USED) == {None, *(way[2:].replace("-", "_") for way in ways)}


@pytest.mark.parametrize("way", ["--profile", "--epoch", "--scaling", "--distributed"])
def test_bench_measures_one_backend_where_it_cannot_compare(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--backend", "numpy", "torch", way]) == 2
    assert f"{way} measures one backend, got numpy, torch" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_no_verify_is_refused_where_nothing_is_verified(
    name: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "net.safetensors"
    xpdl.TwoLayerNet(784, 2, 10, seed=0).save_params(file)
    arguments = {"train": ["--out", str(tmp_path)], "evaluate": [str(file)]}[name]
    assert cli.main([name, *arguments, "--no-verify"]) == 2
    assert "--no-verify is for files in XPDL_DATA" in capsys.readouterr().err
