"""Fashion-MNIST and CIFAR-10: small files of their forms, from a folder and from a server, and what is wrong with them."""

import dataclasses
import gzip
import hashlib
import io
import tarfile
import tracemalloc

import numpy as np
import pytest

from tests.data.server import running
from tests.data.test_mnist import write_set
from tests.harness import nonempty
from xpdl import data, load_cifar10, load_fashion_mnist, load_mnist
from xpdl.data import cifar10, fashion_mnist

BINS = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]

#: the publisher's file of names, in the order of the labels
META = b"airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n"


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XPDL_DATA", str(tmp_path))
    monkeypatch.setenv("XPDL_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def server():
    with running() as server:
        yield server


def records(number, rows):
    """Labels (N,) and images (N, 3, 32, 32) of one file."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 10, rows, dtype=np.uint8), rng.integers(0, 256, (rows, 3, 32, 32), dtype=np.uint8)


def contents(rows=3):
    """Name -> content, written byte by byte as the publisher's page says: the label, then red, green and blue by rows."""
    files = {}
    for number, name in enumerate(BINS):
        body = bytearray()
        for label, image in zip(*records(number, rows), strict=True):
            body.append(label)
            for colour in range(3):
                for row in range(32):
                    body += bytes(image[colour, row].tolist())
        files[name] = bytes(body)
    return files


def archive(files, prefix="cifar-10-batches-bin/"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        folder = tarfile.TarInfo(prefix.rstrip("/"))
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        # the published archive is in no order, either
        for name, body in {"batches.meta.txt": META, "readme.html": b"<html>", **dict(reversed(files.items()))}.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return buffer.getvalue()


class TestFashionMnist:
    def test_is_read_from_a_subfolder_of_its_own(self, folder):
        write_set(folder, rows=(2, 2))  # MNIST's files have the same names
        write_set(folder / "fashion-mnist", ".gz")
        (x_train, t_train), (x_test, _) = load_fashion_mnist(flatten=False, verify=False)
        assert x_train.shape == (5, 1, 4, 3) and x_test.shape == (3, 1, 4, 3) and t_train.tolist() == [0, 1, 2, 3, 4]
        assert load_mnist(verify=False)[0][0].shape == (2, 12)

    def test_files_of_mnist_are_not_taken_for_it(self, folder, monkeypatch):
        write_set(folder)
        offline = dataclasses.replace(fashion_mnist.FASHION_MNIST, mirrors=("http://127.0.0.1:9/",))
        monkeypatch.setattr(fashion_mnist, "FASHION_MNIST", offline)
        with pytest.raises(OSError, match=r"Fashion-MNIST: train-images.*refused.*folder fashion-mnist of a folder"):
            load_fashion_mnist()

    def test_is_downloaded_as_it_is_published(self, folder, monkeypatch, server):
        write_set(folder / "published", ".gz")
        files = {path.name: path.read_bytes() for path in (folder / "published").iterdir()}
        hashes = {name: (len(body), hashlib.sha256(body).hexdigest()) for name, body in files.items()}
        assert hashes.keys() == fashion_mnist.FASHION_MNIST.files.keys()
        for name, body in files.items():
            server.offer(f"/{name}", body)
        served = dataclasses.replace(fashion_mnist.FASHION_MNIST, mirrors=(f"{server.url}/",), files=hashes)
        monkeypatch.setattr(fashion_mnist, "FASHION_MNIST", served)
        (x, t), _ = load_fashion_mnist(normalize=False)
        np.testing.assert_array_equal(x.ravel(), np.random.default_rng(0).integers(0, 256, (5, 4, 3)).ravel())
        assert t.tolist() == [0, 1, 2, 3, 4]
        cached = folder / "cache" / "fashion-mnist" / "train-images-idx3-ubyte.gz"
        assert cached.read_bytes() == files[cached.name]
        damaged = bytearray(files[cached.name])
        damaged[-1] ^= 1
        cached.write_bytes(damaged)
        load_fashion_mnist()
        assert server.asked[4:] == [f"/{cached.name}"] and cached.read_bytes() == files[cached.name]

    def test_repacked_files_are_refused(self, folder, monkeypatch, server):
        write_set(folder / "published", ".gz")
        for path in (folder / "published").iterdir():
            server.offer(f"/{path.name}", gzip.compress(gzip.decompress(path.read_bytes()), 1))
        monkeypatch.setattr(
            fashion_mnist,
            "FASHION_MNIST",
            dataclasses.replace(fashion_mnist.FASHION_MNIST, mirrors=(f"{server.url}/",)),
        )
        with pytest.raises(OSError, match="its content is not what it should be"):
            load_fashion_mnist()


class TestCifar10:
    @pytest.mark.parametrize("subfolder", ["", "cifar-10"])
    @pytest.mark.parametrize("packed", [False, True])
    def test_is_read_from_xpdl_data(self, folder, subfolder, packed):
        (folder / subfolder / "cifar-10-batches-bin").mkdir(parents=True)
        if packed:
            (folder / subfolder / "cifar-10-binary.tar.gz").write_bytes(archive(contents()))
        else:
            for name, body in contents().items():
                (folder / subfolder / "cifar-10-batches-bin" / name).write_bytes(body)
        (x_train, t_train), (x_test, t_test) = load_cifar10(normalize=False, flatten=False, verify=False)
        labels, images = zip(*(records(number, 3) for number in range(6)), strict=True)
        np.testing.assert_array_equal(x_train, np.concatenate(images[:5]), strict=True)
        np.testing.assert_array_equal(x_test, images[5], strict=True)
        np.testing.assert_array_equal(t_train, np.concatenate(labels[:5]).astype(np.int64), strict=True)
        np.testing.assert_array_equal(t_test, labels[5].astype(np.int64), strict=True)
        (x, t), _ = load_cifar10(one_hot_label=True, verify=False)
        assert x.dtype == t.dtype == np.float32 and t.shape == (15, 10)
        np.testing.assert_array_equal(x, (np.concatenate(images[:5]) / np.float32(255)).reshape(15, 3072), strict=True)

    def test_is_kept_in_the_cache_and_replaced_when_damaged(self, folder, monkeypatch, server):
        body = archive(contents())
        server.offer("/cifar-10-binary.tar.gz", body)
        monkeypatch.setattr(cifar10, "_MIRRORS", ("http://127.0.0.1:9/", f"{server.url}/"))
        monkeypatch.setattr(cifar10, "_SIZE", len(body))
        monkeypatch.setattr(cifar10, "_SHA256", hashlib.sha256(body).hexdigest())
        assert load_cifar10()[0][0].shape == (15, 3072)
        load_cifar10()
        assert len(server.asked) == 1
        cached = folder / "cache" / "cifar-10" / "cifar-10-binary.tar.gz"
        assert cached.read_bytes() == body
        cached.write_bytes(body[:-1])
        load_cifar10()
        assert len(server.asked) == 2 and cached.read_bytes() == body

    def test_another_archive_is_refused(self, folder, monkeypatch, server):
        server.offer("/cifar-10-binary.tar.gz", archive(contents()))
        monkeypatch.setattr(cifar10, "_MIRRORS", (f"{server.url}/",))
        with pytest.raises(OSError, match=r"not what it should be.*Put cifar-10-binary\.tar\.gz into a folder"):
            load_cifar10()

    @pytest.mark.parametrize(
        "body, message",
        [
            (b"", "is not the whole archive"),
            (b"not gzip", "is not the whole archive"),
            (archive(contents())[:-2000], "is not the whole archive"),
            (archive({}), r"has no file data_batch_1\.bin"),
            (archive({**contents(), "test_batch.bin": bytes(3072)}), r"test_batch\.bin has 3072 bytes"),
            (archive({**contents(), "test_batch.bin": b""}), r"test_batch\.bin has 0 bytes"),
            (
                archive({**contents(), "data_batch_2.bin": b"\x0a" + bytes(3072)}),
                "has the label 10; the last class is 9",
            ),
        ],
    )
    def test_damaged_archive_is_named(self, folder, body, message):
        (folder / "cifar-10-binary.tar.gz").write_bytes(body)
        with pytest.raises(ValueError, match=rf"cifar-10-binary\.tar\.gz: {message}"):
            load_cifar10()

    def test_cut_anywhere_is_an_error(self, folder):
        body = archive(contents(1))
        for length in (*range(0, len(body), len(body) // 40), len(body) - 1):
            (folder / "cifar-10-binary.tar.gz").write_bytes(body[:length])
            with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz: "):
                load_cifar10()

    def test_flipped_bit_is_an_error(self, folder):
        body = archive(contents(1))
        for place in nonempty(range(11, len(body), len(body) // 40)):
            damaged = bytearray(body)
            damaged[place] ^= 4
            (folder / "cifar-10-binary.tar.gz").write_bytes(damaged)
            with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz: "):
                load_cifar10()

    def test_names_that_climb_out_are_read_and_never_written(self, folder):
        (folder / "cifar-10-binary.tar.gz").write_bytes(archive(contents(), prefix="../../"))
        before = sorted(folder.rglob("*"))
        assert load_cifar10(verify=False)[0][0].shape == (15, 3072)
        assert sorted(folder.rglob("*")) == before

    def test_links_are_not_followed(self, folder):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            member = tarfile.TarInfo("data_batch_1.bin")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(member)
        (folder / "cifar-10-binary.tar.gz").write_bytes(buffer.getvalue())
        with pytest.raises(ValueError, match=r"has no file data_batch_1\.bin"):
            load_cifar10()

    def test_file_that_claims_to_be_enormous_is_not_read(self, folder):
        with tarfile.open(folder / "cifar-10-binary.tar.gz", mode="w:gz") as tar:
            member = tarfile.TarInfo("data_batch_1.bin")
            member.size = 2**40
            tar.addfile(member)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=r"data_batch_1\.bin claims 1099511627776 bytes"):
                load_cifar10()
            assert tracemalloc.get_traced_memory()[1] < 10**7
        finally:
            tracemalloc.stop()

    @pytest.mark.exhaustive
    def test_small_archive_does_not_unpack_to_much(self, folder, monkeypatch):
        """Neither as a file nor as a header, whose size only the header itself says."""
        monkeypatch.setattr("xpdl.data.cifar10._MOST_BYTES", 10**6)
        for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
            with tarfile.open(folder / "cifar-10-binary.tar.gz", mode="w:gz") as tar:
                member = tarfile.TarInfo("other.bin")
                member.size, member.type = 10**8, kind
                tar.addfile(member, io.BytesIO(bytes(member.size)))
            tracemalloc.start()
            try:
                with pytest.raises(ValueError, match="it unpacks to more than 1000000 bytes"):
                    load_cifar10()
                assert tracemalloc.get_traced_memory()[1] < 10**7
            finally:
                tracemalloc.stop()

    def test_missing_file_of_the_folder_is_named(self, folder):
        (folder / "cifar-10-batches-bin").mkdir()
        for name, body in contents().items():
            if name != "data_batch_4.bin":
                (folder / "cifar-10-batches-bin" / name).write_bytes(body)
        with pytest.raises(ValueError, match=r"cifar-10-batches-bin: has no file data_batch_4\.bin"):
            load_cifar10()


def test_classes_are_in_the_order_of_the_labels():
    assert tuple(META.decode().split()) == data.CIFAR10_CLASSES


def test_classes_have_names():
    for names in (data.CIFAR10_CLASSES, data.FASHION_MNIST_CLASSES):
        assert len(set(names)) == 10
