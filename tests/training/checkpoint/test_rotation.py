"""The newest checkpoint and those before it: a bad one is passed over, a failed write costs nothing."""

import json
import os
import signal

import numpy as np
import pytest

from tests.training.checkpoint.test_format import Once, Stop, assert_same_run, trainer
from xpdl.backends import asnumpy
from xpdl.io import tensors
from xpdl.training.checkpoint.rotation import CheckpointFiles

resource = pytest.importorskip("resource", reason="limits on files are set where there is the module resource")


@pytest.fixture
def path(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder" / "run"


def names(path):
    return sorted(os.listdir(path.parent))


def epoch_of(path):
    return json.loads(tensors.load_arrays(path)[1]["position"])["epoch"]


class TestRotation:
    @pytest.mark.parametrize("keep", [1, 2, 3])
    def test_keeps_those_before_the_newest(self, path, keep):
        trainer(checkpoint=path, max_checkpoints=keep).train()
        assert names(path) == ["run", "run.1", "run.2"][:keep]
        assert [epoch_of(path.parent / name) for name in names(path)] == [4, 3, 2][:keep]

    @pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "other"])
    def test_bad_newest_is_passed_over_with_a_warning(self, path, harm):
        with pytest.raises(Stop):
            trainer(checkpoint=path, checkpoint_every=2, callbacks=[Once(7, Stop())]).train()
        good = bytearray(path.read_bytes())
        bad = {
            "cut": good[:-20],
            "empty": b"",
            "other": b"something else",
            "flipped": good[:-1] + bytes([good[-1] ^ 1]),
        }
        path.write_bytes(bad[harm])
        whole, resumed = trainer(), trainer(checkpoint=path, checkpoint_every=2)
        whole.train()
        with pytest.warns(UserWarning, match=rf"run: is .*; going on from {path}\.1$") as said:
            resumed.train()
        assert len(said) == 1 and "\n" not in str(said[0].message)
        assert_same_run(whole, resumed)

    def test_bad_newest_never_takes_the_place_of_the_one_before(self, path, monkeypatch):
        trainer(checkpoint=path, epochs=2).train()
        path.write_bytes(b"bad")
        run = trainer(checkpoint=path, epochs=3)
        replace, found = os.replace, []

        def watched(one, other):
            replace(one, other)
            found.append([name for name in names(path) if is_whole(path.parent / name)])

        monkeypatch.setattr(os, "replace", watched)
        with pytest.warns(UserWarning, match="going on from"):
            run.train()
        assert all(found) and [epoch_of(path), epoch_of(path.with_name("run.1"))] == [3, 2]

    def test_the_newest_of_the_run_before_is_kept_too(self, path):
        trainer(checkpoint=path, epochs=2).train()
        trainer(checkpoint=path, epochs=3).train()
        assert [epoch_of(path), epoch_of(path.with_name("run.1"))] == [3, 2]

    def test_what_was_neither_written_nor_read_is_written_over(self, path):
        path.write_bytes(b"bad")
        assert write(CheckpointFiles(path, 2), trainer())
        assert names(path) == ["run"] and epoch_of(path) == 0

    def test_the_third_is_there_when_two_are_bad(self, path):
        trainer(checkpoint=path, max_checkpoints=3).train()
        for name in ("run", "run.1"):
            (path.parent / name).write_bytes(b"bad")
        whole, resumed = trainer(), trainer(checkpoint=path, max_checkpoints=3)
        whole.train()
        with pytest.warns(UserWarning, match=rf"going on from {path}\.2$") as said:
            resumed.train()
        assert [str(one.message).split(":")[0] for one in said] == [str(path), f"{path}.1"]
        assert_same_run(whole, resumed)

    def test_all_of_them_are_removed(self, path):
        trainer(checkpoint=path, max_checkpoints=4).train()
        files = CheckpointFiles(path, 4)
        assert len(names(path)) == 4 and files.exist()
        files.remove()
        assert names(path) == [] and not files.exist()

    def test_all_of_them_are_set_aside_in_the_place_of_earlier_ones(self, path):
        files = CheckpointFiles(path, 3)
        assert files.set_aside() is None
        for name in ("run.old", "run.old.1"):
            (path.parent / name).write_bytes(b"earlier")
        trainer(checkpoint=path, max_checkpoints=3).train()
        assert files.set_aside() == path.with_name("run.old")
        assert names(path) == ["run.old", "run.old.1", "run.old.2"]
        assert [epoch_of(path.parent / name) for name in names(path)] == [4, 3, 2]
        path.with_name("run.1").write_bytes(b"the newest one is missing")
        assert files.set_aside() == path.with_name("run.old") and names(path) == ["run.old.1"]

    def test_lock_is_reentrant_for_its_holder_and_excludes_others(self, path):
        files, others = CheckpointFiles(path, 2), CheckpointFiles(path, 2)
        with files.locked():
            with files.locked():
                pass
            with pytest.raises(BlockingIOError, match="another run is training with this checkpoint"), others.locked():
                pass
        with others.locked():
            pass

    def test_killed_while_rotating_goes_on_from_the_one_before(self, path):
        trainer(checkpoint=path, epochs=2).train()
        path.rename(path.with_name("run.1"))
        whole, resumed = trainer(), trainer(checkpoint=path)
        whole.train()
        resumed.train()
        assert_same_run(whole, resumed)

    def test_all_bad_is_an_error_and_nothing_is_written_over(self, path):
        for name in ("run", "run.1"):
            (path.parent / name).write_bytes(b"bad")
        with pytest.raises(ValueError, match=r"run: is not a readable"):
            trainer(checkpoint=path).train()
        assert path.read_bytes() == b"bad"

    @pytest.mark.parametrize("other", ["run", "format", "model"])
    def test_one_that_is_whole_but_not_of_this_run_is_not_passed_over(self, path, other, monkeypatch):
        trainer(checkpoint=path, epochs=2).train()
        if other == "run":
            trainer(checkpoint=path.with_name("other"), epochs=1, seed=1).train()
            path.with_name("other").replace(path)
        elif other == "format":
            monkeypatch.setattr(tensors, "FORMAT_VERSION", tensors.FORMAT_VERSION + 1)
            trainer(checkpoint=path.with_name("newer"), epochs=1).train()
            monkeypatch.undo()
            path.with_name("newer").replace(path)
        else:
            trainer().network.save_params(path)
        before = path.read_bytes()
        says = {"run": "belongs to another run", "format": "install a newer one", "model": "is not a checkpoint"}[other]
        with pytest.raises(ValueError, match=says):
            trainer(checkpoint=path).train()
        assert path.read_bytes() == before

    def test_files_left_behind_by_a_killed_run_are_removed(self, path):
        (path.parent / ".run.abc_1234.part").write_bytes(b"half")
        (path.parent / ".run.other.abc_1234.part").write_bytes(b"of another run")
        trainer(checkpoint=path, epochs=1).train()
        assert names(path) == [".run.other.abc_1234.part", "run"]


def is_whole(path):
    try:
        tensors.load_arrays(path)
    except ValueError:
        return False
    return True


class TestWhereNothingCanBeWritten:
    @pytest.mark.parametrize("where", ["missing folder", "folder", "below a file"])
    def test_is_an_error_before_the_training_begins(self, path, where):
        (path.parent / "file").touch()
        place = {
            "missing folder": path.parent / "none" / "run",
            "folder": path.parent,
            "below a file": path.parent / "file" / "run",
        }[where]
        run = trainer(checkpoint=place)
        with pytest.raises(OSError, match=r"no such folder|is a folder") as said:
            run.train()
        assert "\n" not in str(said.value) and run.current_iter == 0 and names(path) == ["file"]

    def test_full_disk_is_a_warning_and_the_last_one_stays(self, path):
        trainer(checkpoint=path, epochs=2).train()
        before = {name: (path.parent / name).read_bytes() for name in names(path)}
        run, whole = trainer(checkpoint=path), trainer()
        whole.train()
        with files_of_at_most(100), pytest.warns(UserWarning, match=r"after step \d+: .*File too large.*run") as said:
            run.train()
        assert [str(one.message).split(":")[0].split()[-1] for one in said] == ["9", "12"]
        assert not any("\n" in str(one.message) for one in said)
        assert_same_run(whole, run)
        assert {name: (path.parent / name).read_bytes() for name in names(path)} == before
        resumed = trainer(checkpoint=path)
        resumed.train()
        assert_same_run(whole, resumed)

    def test_folder_that_goes_away_is_a_warning(self, path):
        class Removes:
            def on_epoch_end(self, trainer, epoch):
                if epoch == 2:
                    path.parent.rename(path.parent.with_name("moved"))
                if epoch == 4:
                    path.parent.with_name("moved").rename(path.parent)

        with pytest.warns(UserWarning, match=r"no such folder") as said:
            trainer(checkpoint=path, callbacks=[Removes()]).train()
        assert len(said) == 2 and [epoch_of(path), epoch_of(path.with_name("run.1"))] == [4, 1]


class files_of_at_most:
    """A limit on the size of files, which stands for a full disk: a write fails after some bytes."""

    def __init__(self, size):
        self.size = size

    def __enter__(self):
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.limits[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)
        signal.signal(signal.SIGXFSZ, self.handler)


def test_saving_moves_nothing_and_changes_nothing(path):
    run = trainer(checkpoint=path)
    run.train()
    before = {name: (owner, key, owner[key]) for name, owner, key in slots(run)}
    saved = {kind: dict(getattr(run.optimizer, kind)) for kind in run.optimizer.state_names}
    bits = {
        name: asnumpy(value).tobytes() if hasattr(value, "shape") else value for name, (*_, value) in before.items()
    }
    position = run.current_epoch, run.current_iter, run.batches.epoch, run.batches.first_batch
    random = np.random.get_state()[1].copy()
    assert write(run.checkpointer.files, run)
    for name, (owner, key, value) in before.items():
        assert owner[key] is value
        assert (asnumpy(value).tobytes() if hasattr(value, "shape") else value) == bits[name]
    for kind, arrays in saved.items():
        assert all(getattr(run.optimizer, kind)[name] is array for name, array in arrays.items())
    assert position == (run.current_epoch, run.current_iter, run.batches.epoch, run.batches.first_batch)
    np.testing.assert_array_equal(random, np.random.get_state()[1])


def write(files, run):
    return files.write(run.as_run(), run.state)


def slots(run):
    return [*run.network.named_params(), *run.network.named_state()]


def test_a_write_that_fails_is_answered_so(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(UserWarning, match="no checkpoint was written after step 0: .*No space left on device"):
        assert not write(CheckpointFiles(path, 2), trainer())
