"""A process of its own with a time limit, whose output is taken as it comes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Ended(NamedTuple):
    """Exit code, None where the time was over; seconds that it ran; and its standard error."""

    code: int | None
    seconds: float
    errors: str

    @property
    def reason(self) -> str:
        """Return the reason of a failure in a line; empty for a success."""
        if self.code is None:
            return f"ended after {self.seconds:.0f} s, when its time was over"
        last = self.errors.splitlines()[-1] if self.errors else "no message"
        return "" if self.code == 0 else f"exit code {self.code}: {last}"


def run_child(
    command: Sequence[str],
    limit: float,
    on_line: Callable[[str], Any],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run `command` for at most `limit` seconds; after that it and all it started are killed.

    Parameters
    ----------
    command : sequence of str
    limit : float
    on_line : function of str
        Called with each line of its standard output when it comes, the last one also where it was not finished.
    folder : path, optional
        To run in.
    environment : mapping, optional
        Variables in addition to those of this process.
    """
    begin = time.monotonic()
    late = threading.Event()
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
            cwd=folder,
            env=os.environ | dict(environment or {}),
            start_new_session=True,
        )

        def end() -> None:
            late.set()
            _kill(process)

        timer = threading.Timer(limit, end)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                on_line(line.rstrip("\n"))
            process.wait()
        finally:
            timer.cancel()
            _kill(process)
            process.communicate()
        errors.seek(0)
        return Ended(None if late.is_set() else process.returncode, time.monotonic() - begin, errors.read().strip())


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill the process and its own: workers of pytest, compilers of PyTorch."""
    if not hasattr(os, "killpg"):
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):  # none of them is left
        os.killpg(process.pid, signal.SIGKILL)
