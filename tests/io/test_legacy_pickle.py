"""Pickles of dicts of arrays: read, without doing anything that they ask for."""

import collections
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tests.files import ARRAYS, assert_same
from tests.harness import nonempty
from xpdl.io import tensors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pkl"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_of_arrays_are_read(path, protocol):
    path.write_bytes(pickle.dumps(ARRAYS, protocol))
    arrays, metadata = tensors.load_arrays(path)
    assert_same(arrays, ARRAYS)
    assert metadata == {}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_weights_of_the_size_of_a_net_are_read(path, protocol):
    weights = np.random.default_rng(0).standard_normal((784, 50))
    for dtype in ("float32", "float64"):
        path.write_bytes(pickle.dumps({"W1": weights.astype(dtype)}, protocol))
        np.testing.assert_array_equal(tensors.load_arrays(path)[0]["W1"], weights.astype(dtype))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_of_numbers_and_foreign_byte_order_are_read(path, protocol):
    content = {"a": np.float32(0.5), "b": 3, "c": 2.5, "d": np.arange(3, dtype=">f8"), "e": ARRAYS["W1"]}
    path.write_bytes(pickle.dumps({**content, "again": content["e"]}, protocol))
    arrays, _ = tensors.load_arrays(path)
    assert arrays["a"].dtype == np.float32 and arrays["a"] == 0.5 and arrays["b"] == 3 and arrays["c"] == 2.5
    assert arrays["d"].dtype == np.float64 and arrays["d"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(arrays["again"], ARRAYS["W1"])


def test_written_under_old_module_names_are_read(path):
    path.write_bytes(pickle.dumps(ARRAYS, 3).replace(b"numpy._core.", b"numpy.core."))
    assert_same(tensors.load_arrays(path)[0], ARRAYS)


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
def test_of_anything_else_are_refused(path, content):
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="not a readable pickle of a dict of arrays"):
        tensors.load_arrays(path)


def test_cannot_run_code(path):
    class Command:
        def __reduce__(self):
            return os.mkdir, (str(path.parent / "made"),)

    path.write_bytes(pickle.dumps({"a": Command()}))
    with pytest.raises(ValueError, match=r"asks for (posix|nt)\.mkdir"):
        tensors.load_arrays(path)
    assert not (path.parent / "made").exists()


ATTACKS = [
    b"\x80\x04\x8e\x00\x00\x00\x00\x00\x01\x00\x00.",  # bytes of 1 TiB
    b"\x80\x05\x96\x00\x00\x00\x00\x01\x00\x00\x00.",  # a bytearray of 4 GiB
    b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
    b"\x80\x04Nr\xff\xff\xff\x7f.",  # the memo's entry number 2^31
    b"\x80\x02cnumpy\nndarray\n(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ftR.",  # an array of 2^62 elements
    b"\x80\x02" + b"(" * 100_000 + b".",
]


def test_small_files_claim_little_memory(tmp_path):
    paths = [tmp_path / str(k) for k in range(len(ATTACKS))]
    for path, attack in zip(paths, ATTACKS, strict=True):
        path.write_bytes(attack)
    code = (
        "import resource, sys; from xpdl.io import tensors\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "for path in sys.argv[1:]:\n"
        "    try: tensors.load_arrays(path)\n"
        "    except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    refused = done.stdout.splitlines()
    assert [
        str(path) in line and "not a readable pickle" in line for path, line in zip(paths, refused, strict=True)
    ] == ([True] * len(ATTACKS))


def test_truncated_is_refused(path):
    whole = pickle.dumps({"W": np.arange(4.0), "n": 3}, 2)
    for size in nonempty(range(2, len(whole))):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError):
            tensors.load_arrays(path)


def test_altered_never_ends_in_another_error(path):
    rng = np.random.default_rng(0)
    whole = pickle.dumps({"W": np.arange(4.0), "n": 3}, 2)
    kinds = set()
    for _ in range(500):
        altered = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            altered[place] = rng.integers(256)
        path.write_bytes(altered)
        try:
            arrays, _ = tensors.load_arrays(path)
        except ValueError:
            continue
        kinds |= {array.dtype.kind for array in arrays.values()}
    assert kinds and kinds <= set("biuf")


def repeated(head, step, tail, times):
    return b"\x80\x02" + head + step * times + tail


MEGABYTE = b"X" + (10**6).to_bytes(4, "little") + b"a" * 10**6 + b"q\x00"
ENCODED = b"c_codecs\nencode\nq\x01h\x00X\x06\0\0\0latin1q\x02\x86R"


@pytest.mark.parametrize(
    "attack",
    [
        # a text of one megabyte made into bytes a million times
        repeated(MEGABYTE, b"h\x01h\x00h\x02\x86R", b".", 10**5).replace(b"q\x00", b"q\x00" + ENCODED, 1),
        # a tuple of tuples, as the key of a dict: hashing it takes 2^60 steps
        repeated(b"}(K\x01K\x02\x86", b"2\x86", b"K\x01u.", 60),
        repeated(b"}K\x01K\x02\x86", b"2\x86", b"K\x01s.", 60),
        repeated(b"(K\x01K\x02\x86", b"2\x86", b"K\x01d.", 60),
        # the same in a set, and as what is encoded
        repeated(b"\x8f(K\x01K\x02\x86", b"2\x86", b"\x90.", 60),
        repeated(b"c_codecs\nencode\n]", b"2\x86", b"X\x06\0\0\0latin1\x86R.", 60),
    ],
    ids=["bytes", "setitems", "setitem", "dict", "set", "encode"],
)
def test_small_file_takes_neither_long_nor_much(path, attack):
    path.write_bytes(attack)
    with pytest.raises(ValueError, match="not a readable pickle"):
        tensors.load_arrays(path)


def test_one_array_many_times_is_one_array(path):
    path.write_bytes(pickle.dumps({str(k): ARRAYS["W1"] for k in range(100)}))
    arrays, _ = tensors.load_arrays(path)
    assert len({id(array) for array in arrays.values()}) == 1


def test_bytes_of_one_array_are_not_taken_for_many(path):
    data = bytes(10**4)

    class Again:
        def __reduce__(self):
            return np._core.numeric._frombuffer, (data, np.dtype("u1"), (10**4,), "C")

    path.write_bytes(pickle.dumps({"a": Again()}))
    assert_same(tensors.load_arrays(path)[0], {"a": np.zeros(10**4, np.uint8)})
    path.write_bytes(pickle.dumps({str(k): Again() for k in range(100)}))
    with pytest.raises(ValueError, match="its arrays are larger than the file"):
        tensors.load_arrays(path)
