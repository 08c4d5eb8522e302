"""Files that fuzzing found, each as it was."""

import zlib

import pytest

from xpdl.data.images import load_digit
from xpdl.io import tensors

resource = pytest.importorskip("resource", reason="limits are those of Unix")

FRAME = b"\x80\x05}\x94\x8c\x01x\x94\x8c\x13numpy._core.numeric\x94\x8c\x0b_frombuffer\x94\x93\x94("


@pytest.fixture
def little_memory():
    """One gigabyte more than there is now may be asked for."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_bytearray_that_a_pickle_claims_to_hold(tmp_path, little_memory):
    """Python's own unpickler reserves and clears the 4 GiB before it looks whether they are there."""
    path = tmp_path / "weights.pkl"
    path.write_bytes(FRAME + b"\x96" + (0xF03F0000).to_bytes(8, "little") + bytes(79))
    with pytest.raises(ValueError, match=r"not a readable pickle .*\((?!MemoryError)"):
        tensors.load_arrays(path)


def test_chunk_that_a_png_claims_to_hold(tmp_path, little_memory):
    """A file object reserves as much as is asked for, more than the file has."""
    from PIL import Image as image

    path = tmp_path / "digit.png"
    image.new("RGB", (34, 30)).save(path)
    whole = path.read_bytes()
    data = whole.index(b"IDAT")
    path.write_bytes(whole[: data - 4] + (2**31 - 1).to_bytes(4, "big") + whole[data : data + 12])
    with pytest.raises(ValueError, match="not a readable picture"):
        load_digit(path)


def test_profile_of_a_png_that_ends_after_its_name(tmp_path):
    """Pillow looks for the byte that comes next."""
    from PIL import Image as image

    path = tmp_path / "digit.png"
    image.new("RGB", (34, 30)).save(path)
    whole = path.read_bytes()
    chunk = b"iCCP" + b"name\0"
    end = whole.index(b"IEND") - 4
    profile = (5).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    path.write_bytes(whole[:end] + profile + whole[end:])
    with pytest.raises(ValueError, match="not a readable picture"):
        load_digit(path)
