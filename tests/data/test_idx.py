"""IDX files: read whole, or refused by name."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest

from tests.harness import nonempty
from xpdl.data.idx import read_idx

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def content(array=PIXELS):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture(params=["plain", "gzip"])
def write(request, tmp_path):
    def to_file(data):
        path = tmp_path / "images"
        path.write_bytes(gzip.compress(data) if request.param == "gzip" else data)
        return path

    return to_file


@pytest.mark.parametrize("array", [PIXELS, PIXELS.ravel(), PIXELS[None], PIXELS[:0]], ids=lambda a: str(a.shape))
def test_reads_what_is_there(write, array):
    found = read_idx(write(content(array)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)
    assert found.flags.writeable


def test_every_truncation_is_refused(write):
    whole = content()
    for size in nonempty(range(len(whole))):
        with pytest.raises(ValueError, match="images: is not a whole IDX file"):
            read_idx(write(whole[:size]))


@pytest.mark.parametrize(
    "data",
    [
        content() + b"x",
        b"\0\0\x0d\x01" + content()[4:],  # floats
        b"\0\0\x08\x00",
        b"\0\0\x08\x09" + bytes(100),
        b"\0\0\x08\x03" + b"\xff" * 12,  # asks for 2^96 bytes
        b"\0\0\x08\x01" + struct.pack(">I", 2**31) + b"few",
        b"PK\x03\x04 something else",
    ],
)
def test_other_content_is_refused(write, data):
    with pytest.raises(ValueError, match="images: is not a whole IDX file"):
        read_idx(write(data))


def test_damaged_gzip_is_refused_wherever_a_byte_changes(tmp_path):
    path = tmp_path / "images.gz"
    whole = gzip.compress(content(), mtime=0)
    # but for the time, flags and system of the writer, which are no content
    for place in (*range(4), *range(10, len(whole))):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"images\.gz"):
            read_idx(path)


def test_gzip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(content() + bytes(10**7)))
    with pytest.raises(ValueError, match="does not fit its length"):
        read_idx(path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_header_that_lies_claims_no_memory(tmp_path, suffix):
    path = tmp_path / f"images{suffix}"
    data = b"\0\0\x08\x01" + struct.pack(">I", 2**28) + np.random.default_rng(0).bytes(300_000)
    path.write_bytes(gzip.compress(data) if suffix else data)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"images.*is not a whole IDX file"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


def test_more_than_a_set_of_images_can_have_is_refused(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(b"\0\0\x08\x01" + struct.pack(">I", 2**30 + 1))
    with pytest.raises(ValueError, match="asks for 1073741825 bytes"):
        read_idx(path)


def test_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")
