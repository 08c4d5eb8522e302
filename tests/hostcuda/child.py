"""Run a test in a process of its own, on the checkout's hostcuda, under settings from the environment."""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]

_PROGRAM = """
import importlib.util, json, sys
path, name, arguments = sys.argv[1:]
spec = importlib.util.spec_from_file_location("test_in_child", path)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
getattr(module, name).in_child(**json.loads(arguments))
"""


@functools.cache
def problem() -> str | None:
    """Return why hostcuda cannot run here, or None; by the checkout's own answer."""
    spec = importlib.util.spec_from_file_location("hostcuda_platform", FOLDER / "hostcuda" / "platforms.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reason: str | None = module.problem()
    return reason


def environment(**settings: str) -> dict[str, str]:
    """The environment of a child: no settings of hostcuda but those given."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HOSTCUDA_", "CUPY_ACCELERATORS"))}
    path = os.pathsep.join([str(FOLDER), str(ROOT)])
    return {**kept, "PYTHONPATH": path, "CUPY_ON_HOST": "1", **settings}


def run(*command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments; skip the test where hostcuda cannot run."""
    if reason := problem():
        pytest.skip(reason)
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", *command],
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def on_host(**settings: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run the decorated test in a child with these settings; its arguments must be JSON."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def in_parent(**arguments: Any) -> None:
            done = run("-c", _PROGRAM, test.__code__.co_filename, test.__name__, json.dumps(arguments), **settings)
            assert done.returncode == 0, done.stdout + done.stderr

        in_parent.in_child = test  # type: ignore[attr-defined]
        return in_parent

    return decorate
