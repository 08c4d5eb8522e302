"""Downloads, from a server on this machine: the right content, or an error and no file."""

import gzip
import hashlib
import os
import random
import socket
import subprocess
import sys
import threading
import tracemalloc
import urllib.error
from pathlib import Path

import pytest

from tests.data.server import running
from xpdl.data import download
from xpdl.data._files import in_xpdl_data
from xpdl.io.paths import cache_dir

CONTENT = random.Random(0).randbytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with running() as server:
        files = server.files
        whole = gzip.compress(CONTENT)
        files["/slow"] = whole, len(whole)
        files["/endless"] = whole, 10**12
        server.offer("/good", whole)
        files["/cut"] = whole[:-5000], len(whole)
        files["/short"] = whole[:-5000], len(whole) - 5000
        server.offer("/other", gzip.compress(b"other"))
        server.offer("/plain", CONTENT)
        server.offer("/more", gzip.compress(CONTENT + b"x"))
        yield server


@pytest.fixture
def served(server):
    return server.url


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "mnist" / "file"


@pytest.fixture(autouse=True)
def slept(monkeypatch):
    """The pauses, which are not made."""
    pauses = []
    monkeypatch.setattr(download.time, "sleep", lambda seconds: pauses.append(seconds) if seconds else None)
    return pauses


def fetch(urls, path):
    download.fetch_gzip("file", urls, path, len(CONTENT), SHA256)


def test_file_is_kept_as_it_is_published(server, path):
    content, _ = server.files["/good"]
    urls = [f"{server.url}/{name}" for name in ("other", "endless", "short", "cut", "missing", "good")]
    download.fetch_file("file", urls, path, len(content), hashlib.sha256(content).hexdigest())
    assert path.read_bytes() == content and kept(path) == [path]
    assert [server.url + asked for asked in server.asked] == urls
    with pytest.raises(OSError, match="/other: its content is not what it should be"):
        download.fetch_file("file", urls[:1], path, len(content), SHA256)


def fetch_in_a_process(url, path):
    """The process, which has said that it is about to start."""
    code = (
        "import sys; from pathlib import Path; from xpdl.data import download; url, path, size, sha256 = sys.argv[1:];"
        "print('ready', flush=True); download.fetch_gzip('file', [url], Path(path), int(size), sha256)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, url, str(path), str(len(CONTENT)), SHA256],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout.readline().strip() == b"ready"
    return process


def kept(path):
    return list(path.parent.iterdir())


@pytest.mark.parametrize("name", ["good", "endless"])
def test_right_content_is_kept(served, path, name):
    fetch([f"{served}/{name}"], path)
    assert path.read_bytes() == CONTENT and kept(path) == [path]
    assert download.has_hash(path, SHA256)


@pytest.mark.parametrize("name", ["missing", "cut", "short", "other", "plain", "more"])
def test_anything_else_leaves_no_file_and_the_next_mirror_is_tried(served, path, name):
    with pytest.raises(OSError, match=f"/{name}: "):
        fetch([f"{served}/{name}"], path)
    assert not kept(path)
    fetch([f"{served}/{name}", f"{served}/good"], path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("failure", [None, 408, 429, 500, 503])
def test_what_may_pass_is_tried_again_after_longer_and_longer_pauses(server, path, slept, failure):
    server.failures["/good"] = [failure] * 2
    fetch([f"{server.url}/good"], path)
    assert path.read_bytes() == CONTENT and server.asked == ["/good"] * 3
    assert slept == [1.0, 4.0]


def test_other_mirrors_come_before_a_second_round(server, path, slept):
    server.failures["/slow"] = [503]
    fetch([f"{server.url}/slow", f"{server.url}/good"], path)
    assert server.asked == ["/slow", "/good"] and slept == []


@pytest.mark.parametrize("name", ["missing", "other", "plain", "more"])
def test_what_stays_wrong_is_asked_for_once(server, path, slept, name):
    with pytest.raises(OSError, match=f"/{name}"):
        fetch([f"{server.url}/{name}"], path)
    assert server.asked == [f"/{name}"] and slept == []


@pytest.mark.parametrize("name", ["cut", "short"])
def test_given_up_after_three_rounds(server, path, slept, name):
    with pytest.raises(OSError, match=f"/{name}"):
        fetch([f"{server.url}/{name}", f"{server.url}/missing"], path)
    assert server.asked == [f"/{name}", "/missing", f"/{name}", f"/{name}"] and slept == [1.0, 4.0]


@pytest.mark.exhaustive
def test_bomb_is_not_unpacked(server, path):
    bomb = gzip.compress(bytes(10**8))
    server.offer("/bomb", bomb)
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match="/bomb: "):
            fetch([f"{server.url}/bomb"], path)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def test_each_mirror_says_why(served, path):
    with pytest.raises(OSError, match=r"/missing: .*404.*; .*/other: its content"):
        fetch([f"{served}/missing", f"{served}/other"], path)


def test_no_server_is_an_oserror(path):
    with pytest.raises(OSError, match="refused"):
        fetch(["http://127.0.0.1:9/file"], path)


def test_offline_is_said_at_once(path, slept, monkeypatch):
    def offline(*_, **__):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with pytest.raises(OSError, match=r"https://one/file: .*name resolution.*; https://two/file: .*name resolution"):
        fetch(["https://one/file", "https://two/file"], path)
    assert slept == []


def test_silent_server_is_an_oserror(server, path, monkeypatch):
    monkeypatch.setattr(download, "_SECONDS", 0.1)
    with pytest.raises(OSError, match="/slow: timed out"):
        fetch([f"{server.url}/slow"], path)
    assert not kept(path)


def test_keyboard_interrupt_leaves_nothing(served, path, monkeypatch):
    def interrupted(_):
        assert kept(path)  # the temporary file is there by now
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch([f"{served}/good"], path)
    assert not kept(path)


@pytest.mark.exhaustive
def test_killed_midway_leaves_no_file_and_no_lock(server, path):
    with fetch_in_a_process(f"{server.url}/slow", path) as process:
        assert server.halfway.wait(60)
        process.kill()
    assert kept(path) == [path.with_name(f".{path.name}.lock")]
    fetch([f"{server.url}/good"], path)
    assert path.read_bytes() == CONTENT and kept(path) == [path]


@pytest.mark.exhaustive
def test_of_two_processes_at_once_one_downloads(server, path):
    with fetch_in_a_process(f"{server.url}/slow", path) as one:
        assert server.halfway.wait(60)
        with fetch_in_a_process(f"{server.url}/slow", path) as other:
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(0.3)  # for the first, which holds the lock
            server.go_on.set()
            assert one.wait(60) == 0 and other.wait(60) == 0
    assert path.read_bytes() == CONTENT and kept(path) == [path] and server.asked == ["/slow"]


def test_many_threads_at_once_end_with_the_right_file(served, path):
    failures = []

    def run():
        try:
            fetch([f"{served}/good"], path)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and path.read_bytes() == CONTENT and kept(path) == [path]


def test_cache_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XPDL_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("XPDL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_dir() == tmp_path / "xpdl"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "xpdl"


def test_a_tilde_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XPDL_CACHE", "~/cache")
    monkeypatch.setenv("XPDL_DATA", "~/data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"")
    assert cache_dir() == tmp_path / "cache"
    assert in_xpdl_data(("",), ["file"]) == tmp_path / "data" / "file"


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (urllib.error.URLError(ConnectionRefusedError()), False),
        (urllib.error.URLError(socket.gaierror()), False),
        (urllib.error.URLError(ConnectionResetError()), True),
        (TimeoutError(), True),
        (urllib.error.HTTPError("", 503, "", None, None), True),
        (urllib.error.HTTPError("", 404, "", None, None), False),
        (ValueError(), False),
    ],
    ids=repr,
)
def test_only_what_may_pass_is_asked_for_again(error, again):
    assert download._may_pass(error) is again
