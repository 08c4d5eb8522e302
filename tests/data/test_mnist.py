"""MNIST: the small set in the package, the whole one from files, and clear words where it is missing."""

import dataclasses
import gzip
import hashlib
import runpy
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.data.server import running
from tests.harness import nonempty
from xpdl import load_mini_mnist, load_mnist
from xpdl.data import mnist
from xpdl.io.paths import cache_dir


@pytest.mark.backends("values")
@pytest.mark.skip_backend("jit", reason="nothing to trace")
def test_small_set_on_every_backend(backend):
    with backend.use():
        (x_train, t_train), (x_test, t_test) = load_mini_mnist()
    assert x_train.shape == (6000, 784) and x_test.shape == (1000, 784)
    reference = load_mini_mnist()[1]
    backend.check(t_test, reference[1])
    backend.check(x_test, np.asarray(x_test_of(backend)), dtype=backend.float)
    assert backend.to_numpy(t_train).shape == (6000,)


def x_test_of(backend):
    with np.load(mnist.resources.files("xpdl.data") / "mini_mnist.npz") as content:
        return (content["x_test"].reshape(1000, 784) / np.dtype(backend.float).type(255)).astype(backend.float)


def test_small_set_is_balanced_and_real():
    (x_train, t_train), (x_test, t_test) = load_mini_mnist(normalize=False)
    assert np.bincount(t_train).tolist() == [600] * 10 and np.bincount(t_test).tolist() == [100] * 10
    assert x_train.dtype == np.uint8 and x_train.max() == 255
    # no image of the one set is in the other
    assert not {row.tobytes() for row in x_train} & {row.tobytes() for row in x_test}


@pytest.mark.parametrize("flatten, shape", [(True, (1000, 784)), (False, (1000, 1, 28, 28))])
def test_forms(flatten, shape):
    _, (x, t) = load_mini_mnist(flatten=flatten, one_hot_label=True)
    assert x.shape == shape and x.dtype == np.float32 and x.min() >= 0 and x.max() == 1
    assert t.shape == (1000, 10) and t.dtype == np.float32 and (t.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(t.argmax(axis=1), load_mini_mnist()[1][1])


@pytest.mark.parametrize("place", [0, 5, 28, 61, 600_000, -8, -50, -52, -238])
def test_damaged_package_file_is_an_error(monkeypatch, tmp_path, place):
    source = mnist.resources.files("xpdl.data") / "mini_mnist.npz"
    damaged = bytearray(source.read_bytes())
    damaged[place] ^= 1
    (tmp_path / "mini_mnist.npz").write_bytes(damaged)
    monkeypatch.setattr(mnist.resources, "files", lambda _: tmp_path)
    with pytest.raises(ValueError, match=r"mini_mnist\.npz: is damaged"):
        load_mini_mnist()


def write_set(folder, suffix="", rows=(5, 3), name="{part}-{kind}-idx{rank}-ubyte", size=(4, 3)):
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for part, n in zip(("train", "t10k"), rows, strict=True):
        for kind, array in (("images", rng.integers(0, 256, (n, *size))), ("labels", np.arange(n) % 10)):
            data = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            data += array.astype(np.uint8).tobytes()
            file = folder / (name.format(part=part, kind=kind, rank=array.ndim) + suffix)
            file.write_bytes(gzip.compress(data) if suffix else data)


class TestWholeSet:
    @pytest.mark.parametrize("subfolder", ["", "mnist"])
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    @pytest.mark.parametrize("name", ["{part}-{kind}-idx{rank}-ubyte", "{part}-{kind}.idx{rank}-ubyte"])
    def test_is_read_from_xpdl_data(self, monkeypatch, tmp_path, subfolder, suffix, name):
        write_set(tmp_path / subfolder, suffix, name=name)
        monkeypatch.setenv("XPDL_DATA", str(tmp_path))
        (x_train, t_train), (x_test, _t_test) = load_mnist(verify=False)
        assert x_train.shape == (5, 12) and x_test.shape == (3, 12) and t_train.tolist() == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_files_of_another_set_are_refused(self, monkeypatch, tmp_path, suffix):
        write_set(tmp_path, suffix)
        monkeypatch.setenv("XPDL_DATA", str(tmp_path))
        with pytest.raises(ValueError, match=r"is not MNIST's train-images-idx3-ubyte, by its SHA-256; .*verify=False"):
            load_mnist()

    def test_one_changed_pixel_is_found(self, monkeypatch, mnist_dir, tmp_path):
        for file in mnist_dir.glob("*ubyte*"):
            content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            (tmp_path / file.name.removesuffix(".gz")).write_bytes(content)
        monkeypatch.setenv("XPDL_DATA", str(tmp_path))
        assert load_mnist(normalize=False)[0][0].shape == (60000, 784)
        with (tmp_path / "t10k-images-idx3-ubyte").open("r+b") as file:
            file.seek(5000)
            byte = file.read(1)[0]
            file.seek(5000)
            file.write(bytes([byte ^ 1]))
        with pytest.raises(ValueError, match="is not MNIST's t10k-images"):
            load_mnist()

    def test_is_the_real_one(self, monkeypatch, mnist_dir):
        monkeypatch.setenv("XPDL_DATA", str(mnist_dir))
        (x_train, t_train), (x_test, t_test) = load_mnist(normalize=False, flatten=False)
        assert x_train.flags.writeable and x_train.shape == (60000, 1, 28, 28) and x_test.shape == (10000, 1, 28, 28)
        assert np.bincount(t_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        assert t_train[:5].tolist() == [5, 0, 4, 1, 9]

    def test_script_draws_the_small_set_again(self, monkeypatch, mnist_dir):
        monkeypatch.setenv("XPDL_DATA", str(mnist_dir))
        script = Path(__file__).parents[2] / "scripts" / "make_mini_mnist.py"
        again = runpy.run_path(str(script))["mini_set"]()
        with np.load(mnist.resources.files("xpdl.data") / "mini_mnist.npz") as shipped:
            assert sorted(shipped) == sorted(again)
            for name, array in again.items():
                np.testing.assert_array_equal(shipped[name], array, strict=True)

    def test_small_set_is_part_of_the_real_one(self, monkeypatch, mnist_dir):
        monkeypatch.setenv("XPDL_DATA", str(mnist_dir))
        whole, small = load_mnist(normalize=False), load_mini_mnist(normalize=False)
        for (all_x, all_t), (x, t) in nonempty(zip(whole, small, strict=True)):
            known = {row.tobytes(): label for row, label in zip(all_x, all_t, strict=True)}
            assert all(known[row.tobytes()] == label for row, label in zip(x, t, strict=True))

    def test_missing_and_offline_says_which_files_to_put_where(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XPDL_DATA", str(tmp_path / "nothing"))
        monkeypatch.setenv("XPDL_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(mnist, "MNIST", dataclasses.replace(mnist.MNIST, mirrors=("http://127.0.0.1:9/",)))
        with pytest.raises(OSError) as error:
            load_mnist()
        for part in (
            *(f"{name}.gz" for name in mnist.MNIST.files),
            "XPDL_DATA",
            "nothing",
            "refused",
            "load_mini_mnist()",
        ):
            assert part in str(error.value)

    def test_is_kept_in_the_cache_and_replaced_when_damaged(self, monkeypatch, tmp_path):
        monkeypatch.delenv("XPDL_DATA", raising=False)
        monkeypatch.setenv("XPDL_CACHE", str(tmp_path / "cache"))
        write_set(tmp_path / "plain")
        files = {file.name: file.read_bytes() for file in (tmp_path / "plain").iterdir()}
        hashes = {name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}
        assert hashes.keys() == mnist.MNIST.files.keys()
        with running() as server:
            for name, data in files.items():
                server.offer(f"/{name}.gz", gzip.compress(data))
            served = dataclasses.replace(mnist.MNIST, mirrors=(f"{server.url}/",), files=hashes)
            monkeypatch.setattr(mnist, "MNIST", served)
            load_mnist()
            assert sorted(server.asked) == sorted(server.files)
            load_mnist()
            assert len(server.asked) == 4
            (cache_dir() / "mnist" / "t10k-labels-idx1-ubyte").write_bytes(b"damaged")
            load_mnist()
            assert server.asked[4:] == ["/t10k-labels-idx1-ubyte.gz"]

    def test_files_that_do_not_go_together_are_named(self, monkeypatch, tmp_path):
        write_set(tmp_path, rows=(5, 3))
        (tmp_path / "t10k-labels-idx1-ubyte").write_bytes((tmp_path / "train-labels-idx1-ubyte").read_bytes())
        monkeypatch.setenv("XPDL_DATA", str(tmp_path))
        with pytest.raises(ValueError, match=r"t10k-images.*does not go with labels of shape \(5,\)"):
            load_mnist()

    def test_labels_beyond_nine_are_named(self, monkeypatch, tmp_path):
        write_set(tmp_path)
        data = bytearray((tmp_path / "train-labels-idx1-ubyte").read_bytes())
        data[-1] = 10
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(data)
        monkeypatch.setenv("XPDL_DATA", str(tmp_path))
        with pytest.raises(ValueError, match=r"train-labels.*label 10"):
            load_mnist()
