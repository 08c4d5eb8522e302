"""Files of arrays: whole or absent, unchanged or refused, and pickles that can do nothing."""

import collections
import errno
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from xpdl import storage

ARRAYS = {
    "W1": np.arange(6.0).reshape(2, 3).astype(np.float32),
    "b1": np.arange(3.0),
    "empty": np.zeros((0, 4), np.float32),
    "count": np.asarray(7),
    "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "strided": np.arange(10.0)[::3],
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


class TestTensors:
    def test_come_back_as_written(self, path):
        storage.write_tensors(path, ARRAYS, {"model": "Net"})
        arrays, metadata = storage.load_arrays(path)
        assert_same(arrays, ARRAYS)
        assert metadata["model"] == "Net" and metadata["format"] == "xpdl"

    def test_any_flipped_bit_is_noticed(self, path):
        storage.write_tensors(path, {"W": np.arange(3.0)}, {"model": "Net"})
        whole = path.read_bytes()
        for place in range(len(whole)):
            for bit in range(8):
                damaged = bytearray(whole)
                damaged[place] ^= 1 << bit
                path.write_bytes(damaged)
                with pytest.raises(ValueError, match=r"damaged|not a readable"):
                    storage.load_arrays(path)

    def test_any_truncation_is_noticed(self, path):
        storage.write_tensors(path, {"W": np.arange(3.0)})
        whole = path.read_bytes()
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            with pytest.raises(ValueError, match="not a readable"):
                storage.load_arrays(path)

    def test_of_other_writers_are_read_without_a_checksum(self, path):
        save_file({"W": ARRAYS["W1"]}, path)
        arrays, metadata = storage.load_arrays(path)
        assert_same(arrays, {"W": ARRAYS["W1"]})
        assert "format" not in metadata

    def test_header_of_640_bytes_is_not_taken_for_a_pickle(self, path):
        for filler in range(700):
            save_file({"W": ARRAYS["W1"]}, path, {"note": "x" * filler})
            if path.read_bytes()[:2] == b"\x80\x02":
                break
        else:
            pytest.fail("no such header was made")
        assert_same(storage.load_arrays(path)[0], {"W": ARRAYS["W1"]})

    def test_later_format_is_refused_with_the_version_to_install(self, path, monkeypatch):
        monkeypatch.setattr(storage, "FORMAT_VERSION", 2)
        storage.write_tensors(path, ARRAYS)
        monkeypatch.setattr(storage, "FORMAT_VERSION", 1)
        with pytest.raises(ValueError, match=r"format 2.*install a newer"):
            storage.load_arrays(path)


class TestAtomicWriting:
    def test_replaces_the_old_file(self, path):
        path.write_bytes(b"old")
        storage.write_atomically(path, b"new")
        assert path.read_bytes() == b"new"

    @pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_failure_leaves_the_old_file_and_nothing_else(self, path, monkeypatch, failure):
        path.write_bytes(b"old")

        def fail(_):
            raise failure

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(type(failure)):
            storage.write_atomically(path, b"new")
        assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]

    def test_full_disk_names_the_file_and_its_cause(self, path, monkeypatch):
        def fail(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=rf"No space left on device: '.*{path.name}'$") as failed:
            storage.write_atomically(path, b"new")
        assert failed.value.errno == errno.ENOSPC

    def test_missing_folder_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
            storage.write_atomically(tmp_path / "nowhere" / "a", b"")

    def test_has_the_rights_of_an_ordinary_file(self, path):
        storage.write_atomically(path, b"")
        (path.parent / "ordinary").touch()
        assert path.stat().st_mode == (path.parent / "ordinary").stat().st_mode

    def test_follows_a_link_to_its_file(self, path):
        path.write_bytes(b"old")
        link = path.parent / "link"
        link.symlink_to(path)
        storage.write_atomically(link, b"new")
        assert link.is_symlink() and path.read_bytes() == b"new"


class TestPickles:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_of_arrays_are_read(self, path, protocol):
        path.write_bytes(pickle.dumps(ARRAYS, protocol))
        arrays, metadata = storage.load_arrays(path)
        assert_same(arrays, ARRAYS)
        assert metadata == {}

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_of_numbers_and_foreign_byte_order_are_read(self, path, protocol):
        content = {"a": np.float32(0.5), "b": 3, "c": 2.5, "d": np.arange(3, dtype=">f8"), "e": ARRAYS["W1"]}
        path.write_bytes(pickle.dumps({**content, "again": content["e"]}, protocol))
        arrays, _ = storage.load_arrays(path)
        assert arrays["a"].dtype == np.float32 and arrays["a"] == 0.5 and arrays["b"] == 3 and arrays["c"] == 2.5
        assert arrays["d"].dtype == np.float64 and arrays["d"].tolist() == [0, 1, 2]
        np.testing.assert_array_equal(arrays["again"], ARRAYS["W1"])

    def test_written_under_old_module_names_are_read(self, path):
        path.write_bytes(pickle.dumps(ARRAYS, 3).replace(b"numpy._core.", b"numpy.core."))
        assert_same(storage.load_arrays(path)[0], ARRAYS)

    @pytest.mark.parametrize(
        "content",
        [
            os.system,
            object(),
            [ARRAYS["W1"]],
            {"f": os.getcwd},
            {"a": np.array([object()])},
            {1: ARRAYS["W1"]},
            {"a": "text"},
            {"a": np.array(["text"])},
            {"a": collections.OrderedDict()},
            {"a": {"b": ARRAYS["W1"]}},
        ],
        ids=repr,
    )
    def test_of_anything_else_are_refused(self, path, content):
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError, match="not a readable pickle of a dict of arrays"):
            storage.load_arrays(path)

    def test_cannot_run_code(self, path):
        class Command:
            def __reduce__(self):
                return os.mkdir, (str(path.parent / "made"),)

        path.write_bytes(pickle.dumps({"a": Command()}))
        with pytest.raises(ValueError, match=r"asks for (posix|nt)\.mkdir"):
            storage.load_arrays(path)
        assert not (path.parent / "made").exists()

    @pytest.mark.parametrize(
        "attack",
        [
            b"\x80\x04\x8e\x00\x00\x00\x00\x00\x01\x00\x00.",  # bytes of 1 TiB
            b"\x80\x04Nr\xff\xff\xff\x7f.",  # the memo's entry number 2^31
            b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ftR.",  # an array of 2^62 elements
            b"\x80\x02" + b"(" * 100_000 + b".",
        ],
    )
    def test_small_file_claims_little_memory(self, path, attack):
        path.write_bytes(attack)
        code = (
            "import resource, sys; from xpdl import storage\n"
            "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
            "try: storage.load_arrays(sys.argv[1])\n"
            "except ValueError as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        assert "not a readable pickle" in done.stdout

    def test_truncated_or_altered_never_end_in_another_error(self, path):
        rng = np.random.default_rng(0)
        whole = pickle.dumps({"W": np.arange(4.0), "n": 3}, 2)
        for size in range(2, len(whole)):
            path.write_bytes(whole[:size])
            with pytest.raises(ValueError):
                storage.load_arrays(path)
        for _ in range(500):
            altered = bytearray(whole)
            for place in rng.integers(0, len(whole), 3):
                altered[place] = rng.integers(256)
            path.write_bytes(altered)
            try:
                arrays, _ = storage.load_arrays(path)
            except ValueError:
                continue
            assert all(array.dtype.kind in "biuf" for array in arrays.values())


def test_other_files_are_refused_by_name(path):
    for content in (b"", b"x", b"{}", b"not arrays at all", bytes(100)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors: is not a readable"):
            storage.load_arrays(path)


def test_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        storage.load_arrays(tmp_path / "none")
    with pytest.raises(OSError):
        storage.load_arrays(tmp_path)
