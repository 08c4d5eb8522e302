"""Locks: one at a time, in threads and processes, and none that outlives its holder."""

import errno
import os
import subprocess
import sys
import threading

import pytest

from xpdl.io.file_lock import locked


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


def test_leaves_nothing_behind(path):
    with locked(path):
        assert path.exists()
    assert not path.exists()
    with pytest.raises(KeyError), locked(path, "in use"):
        raise KeyError
    assert not path.exists()


def test_another_gets_the_message_or_waits(path):
    entered = threading.Event()

    def enter():
        with locked(path):
            entered.set()

    with locked(path):
        with pytest.raises(BlockingIOError, match="somebody has it"), locked(path, "somebody has it"):
            pass
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.05)
    thread.join()
    assert entered.is_set() and not path.exists()


def test_of_many_there_is_never_more_than_one(path):
    """Each removes the file that others wait at."""
    inside, most, done = [], [], []

    def enter(number):
        for _ in range(30):
            with locked(path):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)
                done.append(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(done) == 120 and not path.exists()


@pytest.mark.exhaustive
def test_is_given_back_by_a_process_that_is_killed(path):
    program = (
        "import sys, time; from pathlib import Path; from xpdl.io.file_lock import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError), locked(path, "in use"):
            pass
        process.kill()
    assert path.exists()
    with locked(path, "in use"):
        assert path.exists()
    assert not path.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
class TestForks:
    @pytest.mark.exhaustive
    def test_a_child_does_not_hold_it_when_its_parent_has_ended(self, path):
        program = (
            "import os, sys, time; from pathlib import Path; from xpdl.io.file_lock import locked\n"
            "with locked(Path(sys.argv[1])):\n"
            "    begun, child_begun = os.pipe(); child = os.fork()\n"
            "    if not child: os.write(child_begun, b'x'); time.sleep(600)\n"
            "    os.read(begun, 1); print(child, flush=True); os.kill(os.getpid(), 9)"
        )
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
            child = int(process.stdout.readline())
            assert process.wait(60) == -9
            try:
                os.kill(child, 0)  # it is still there
                with locked(path, "in use"):
                    assert path.exists()
            finally:
                os.kill(child, 9)
        assert not path.exists()

    @pytest.mark.exhaustive
    def test_a_child_that_leaves_it_takes_it_from_nobody(self, path):
        program = (
            "import os, sys; from pathlib import Path; from xpdl.io.file_lock import locked\n"
            "path = Path(sys.argv[1])\n"
            "with locked(path):\n"
            "    child = os.fork()\n"
            "    if child:\n"
            "        assert os.waitpid(child, 0)[1] == 0 and path.exists()\n"
            "        print('held', flush=True); input()\n"
            "if not child:\n"
            "    try:\n"
            "        with locked(path, 'in use'): sys.exit(1)\n"
            "    except BlockingIOError: sys.exit(0)"
        )
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", program, str(path)], **options) as process:
            assert process.stdout.readline() == b"held\n"
            with pytest.raises(BlockingIOError), locked(path, "in use"):
                pass
            process.communicate(b"\n", timeout=60)
        assert process.returncode == 0 and not path.exists()


def test_of_a_file_that_was_taken_away_removes_no_other(path):
    with locked(path):
        path.rename(path.with_name("moved"))
        path.write_bytes(b"of another")
    assert path.read_bytes() == b"of another"


@pytest.mark.skipif(sys.platform == "win32", reason="locks of Unix")
class TestFileSystems:
    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
    def test_without_locks_are_a_warning(self, path, monkeypatch, number):
        self.refuse(monkeypatch, number)
        with pytest.warns(UserWarning, match="lock: this file system has no locks"), locked(path, "in use"):
            pass
        assert not path.exists()

    def test_that_fail_are_an_error(self, path, monkeypatch):
        self.refuse(monkeypatch, errno.EIO)
        opened = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        with pytest.raises(OSError, match=os.strerror(errno.EIO)), locked(path, "in use"):
            pass
        assert not opened or len(os.listdir("/proc/self/fd")) == opened

    def refuse(self, monkeypatch, number):
        def flock(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("fcntl.flock", flock)
