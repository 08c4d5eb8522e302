"""Files of arrays: whole or absent, unchanged or refused."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.files import ARRAYS, assert_same
from tests.harness import nonempty
from xpdl.io import tensors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"PK\x03\x04", "a zip archive, such as a .pth"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY", "an array in NumPy's format"),
        (b"\x1f\x8b", "compressed by gzip"),
    ],
)
def test_whole_files_of_other_libraries_are_not_called_damaged(path, start, says):
    path.write_bytes(start + bytes(100))
    with pytest.raises(ValueError, match=rf"model\.safetensors: is {says}.*; convert it where it was made") as caught:
        tensors.load_arrays(path)
    assert "damaged" not in str(caught.value)


@pytest.mark.needs("torch")
def test_files_of_torch_save_are_named(path):
    import torch

    torch.save({"W": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"such as a \.pth of PyTorch.*the safetensors package saves a state dict"):
        tensors.load_arrays(path)


class TestTensors:
    def test_come_back_as_written(self, path):
        tensors.write_tensors(path, ARRAYS, {"model": "Net"})
        arrays, metadata = tensors.load_arrays(path)
        assert_same(arrays, ARRAYS)
        assert metadata["model"] == "Net" and metadata["format"] == "xpdl"

    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i2", "i4", "i8", "u4"])
    def test_of_either_byte_order_come_back(self, path, dtype):
        there = {order: np.arange(6).reshape(2, 3).astype(order + dtype) for order in "<>"}
        tensors.write_tensors(path, there)
        assert_same(tensors.load_arrays(path)[0], {order: a.astype("=" + dtype) for order, a in there.items()})
        tensors.write_plain_tensors(path, there, {})
        assert_same(tensors.load_arrays(path)[0], {order: a.astype("=" + dtype) for order, a in there.items()})

    @pytest.mark.parametrize("a", [np.ones(2, np.longdouble), np.ones(2, complex), np.array(["a"]), np.array([None])])
    def test_of_other_dtypes_are_named_and_no_file_is_written(self, path, a):
        for write in (tensors.write_tensors, tensors.write_plain_tensors):
            with pytest.raises(TypeError, match=rf"model\.safetensors: W is {a.dtype}.*cast it"):
                write(path, {"W": a}, {})
        assert not path.exists()

    @pytest.mark.parametrize("write", [tensors.write_tensors, tensors.write_plain_tensors])
    @pytest.mark.parametrize("old_writer", [pytest.param(False, marks=pytest.mark.exhaustive), True])
    def test_header_that_no_reader_takes_is_refused_before_the_file_is_written(
        self, path, write, old_writer, monkeypatch
    ):
        path.write_bytes(b"old")
        if old_writer:
            monkeypatch.setattr(tensors, "_MOST_HEADER", 1000)
        with pytest.raises(ValueError, match=r"model\.safetensors: .*; names, and what describes .* must be smaller"):
            write(path, {"W": np.ones(2)}, {"vocabulary": "x" * (1001 if old_writer else 100_000_000)})
        assert path.read_bytes() == b"old"

    @pytest.mark.parametrize("write", [tensors.write_tensors, tensors.write_plain_tensors])
    def test_array_with_the_name_of_the_description_is_refused(self, path, write):
        with pytest.raises(ValueError, match=r"model\.safetensors: __metadata__ cannot be the name of an array"):
            write(path, {"__metadata__": np.ones(2)}, {})
        assert not path.exists()

    @pytest.mark.parametrize(
        "bit", [3, *(pytest.param(k, marks=pytest.mark.exhaustive) for k in (0, 1, 2, 4, 5, 6, 7))]
    )
    def test_any_flipped_bit_is_noticed(self, path, bit):
        tensors.write_tensors(path, {"W": np.arange(3.0)}, {"model": "Net"})
        whole = path.read_bytes()
        for place in nonempty(range(len(whole))):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"damaged|not a readable"):
                tensors.load_arrays(path)

    def test_any_truncation_is_noticed(self, path):
        tensors.write_tensors(path, {"W": np.arange(3.0)})
        whole = path.read_bytes()
        for size in nonempty(range(len(whole))):
            path.write_bytes(whole[:size])
            with pytest.raises(ValueError, match="not a readable"):
                tensors.load_arrays(path)

    def test_of_other_writers_are_read_without_a_checksum(self, path):
        save_file({"W": ARRAYS["W1"]}, path)
        arrays, metadata = tensors.load_arrays(path)
        assert_same(arrays, {"W": ARRAYS["W1"]})
        assert "format" not in metadata

    def test_header_of_640_bytes_is_not_taken_for_a_pickle(self, path):
        def written(filler):
            save_file({"W": ARRAYS["W1"]}, path, {"note": "x" * filler})
            return path.read_bytes()[:2]

        assert any(written(filler) == b"\x80\x02" for filler in range(700))
        assert_same(tensors.load_arrays(path)[0], {"W": ARRAYS["W1"]})

    def test_later_format_is_refused_with_the_version_to_install(self, path, monkeypatch):
        monkeypatch.setattr(tensors, "FORMAT_VERSION", 2)
        tensors.write_tensors(path, ARRAYS)
        monkeypatch.setattr(tensors, "FORMAT_VERSION", 1)
        with pytest.raises(ValueError, match=r"format 2.*install a newer"):
            tensors.load_arrays(path)


def test_other_files_are_refused_by_name(path):
    for content in (b"", b"x", b"{}", b"not arrays at all", bytes(100)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors: is not a readable"):
            tensors.load_arrays(path)


def test_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        tensors.load_arrays(tmp_path / "none")
    with pytest.raises(OSError):
        tensors.load_arrays(tmp_path)


class TestBfloat16:
    def test_of_other_writers_becomes_float32(self, path):
        values = np.asarray([1.0, -2.5, 3.140625], np.float32)
        header = (
            b'{"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]},'
            b'"b":{"dtype":"F32","shape":[1],"data_offsets":[6,10]}}'
        )
        header += b" " * (-len(header) % 8)
        halves = (values.view(np.uint32) >> 16).astype("<u2")
        path.write_bytes(len(header).to_bytes(8, "little") + header + halves.tobytes() + np.float32(7).tobytes())
        arrays, _ = tensors.load_arrays(path)
        assert_same(arrays, {"a": values, "b": np.asarray([7], np.float32)})

    def test_dtype_that_nobody_here_has_is_refused(self, path):
        header = b'{"a":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[0,3]}}'
        header += b" " * (-len(header) % 8)
        path.write_bytes(len(header).to_bytes(8, "little") + header + b"abc")
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            tensors.load_arrays(path)


@pytest.mark.parametrize("version", [None, "", "one", "1" * 5000, "-1"])
def test_format_that_is_no_number_is_refused(path, version):
    header = {"format": "xpdl"} if version is None else {"format": "xpdl", "format_version": version}
    header["sha256"] = tensors._checksum({"W": ARRAYS["W1"]}, header)
    tensors.write_plain_tensors(path, {"W": ARRAYS["W1"]}, header)
    with pytest.raises(ValueError, match=r"its format is '.*', which is no number"):
        tensors.load_arrays(path)
