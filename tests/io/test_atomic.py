"""Atomic writing: the old file or the new one, whatever fails in between."""

import contextlib
import errno
import os
import stat

import pytest

from xpdl.io.atomic import remove_partial, write_atomically


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


class TestAtomicWriting:
    def test_replaces_the_old_file(self, path):
        path.write_bytes(b"old")
        write_atomically(path, b"new")
        assert path.read_bytes() == b"new"

    @pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_failure_leaves_the_old_file_and_nothing_else(self, path, monkeypatch, failure):
        path.write_bytes(b"old")

        def fail(_):
            raise failure

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(type(failure)):
            write_atomically(path, b"new")
        assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]

    def test_full_disk_names_the_file_and_its_cause(self, path, monkeypatch):
        def fail(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=rf"No space left on device: '.*{path.name}'$") as failed:
            write_atomically(path, b"new")
        assert failed.value.errno == errno.ENOSPC

    def test_missing_folder_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
            write_atomically(tmp_path / "nowhere" / "a", b"")

    def test_has_the_rights_of_an_ordinary_file(self, path):
        write_atomically(path, b"")
        (path.parent / "ordinary").touch()
        assert path.stat().st_mode == (path.parent / "ordinary").stat().st_mode

    @pytest.mark.parametrize(("before", "after"), [(0o600, 0o600), (0o640, 0o640), (0o444, 0o644), (0o000, 0o600)])
    def test_gives_others_no_more_rights_than_the_file_it_replaces(self, path, before, after):
        path.write_bytes(b"old")
        path.chmod(before)
        write_atomically(path, b"new")
        (path.parent / "ordinary").touch()
        assert stat.S_IMODE(path.stat().st_mode) == after & (path.parent / "ordinary").stat().st_mode

    def test_leaves_the_mask_of_the_process_alone(self, path, monkeypatch):
        """It is one for all threads: files that others make meanwhile would be open to everyone."""

        changes = []
        monkeypatch.setattr(os, "umask", changes.append)
        write_atomically(path, b"new")
        assert not changes

    def test_interrupted_when_the_file_is_in_place_it_says_so(self, path, monkeypatch):
        replace = os.replace

        def interrupted(*paths):
            replace(*paths)
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(path, b"new")
        assert path.read_bytes() == b"new" and list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EIO])
    def test_file_system_without_fsync_of_folders_will_do(self, path, monkeypatch, number):
        fsync = os.fsync

        def of_files(handle):
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(number, os.strerror(number))
            fsync(handle)

        monkeypatch.setattr(os, "fsync", of_files)
        with pytest.raises(OSError) if number == errno.EIO else contextlib.nullcontext():
            write_atomically(path, b"new")
        assert path.read_bytes() == b"new"

    def test_folder_that_may_be_written_but_not_read(self, path, monkeypatch):
        opened = os.open

        def not_a_folder(name, flags, *rest):
            if flags & os.O_DIRECTORY:
                raise PermissionError(errno.EACCES, "Permission denied", str(name))
            return opened(name, flags, *rest)

        monkeypatch.setattr(os, "open", not_a_folder)
        write_atomically(path, b"new")
        assert path.read_bytes() == b"new"

    def test_what_a_killed_one_left_is_removed_before_the_next(self, path):
        for name in (".model.safetensors.a1b2c3d4.part", ".model.safetensors.0123456789abcdef.part", ".model.x.part"):
            (path.parent / name).touch()
        remove_partial(path)
        assert [file.name for file in path.parent.iterdir()] == [".model.x.part"]

    def test_follows_a_link_to_its_file(self, path):
        path.write_bytes(b"old")
        link = path.parent / "link"
        link.symlink_to(path)
        write_atomically(link, b"new")
        assert link.is_symlink() and path.read_bytes() == b"new"
