"""Downloads, from a server on this machine: the right content, or an error and no file."""

import gzip
import hashlib
import http.server
import os
import threading

import pytest

from xpdl.data import download

CONTENT = os.urandom(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def served():
    """A server, and the dict of what it serves."""
    files = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body, length = files.get(self.path, (None, 0))
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        whole = gzip.compress(CONTENT)
        files["/good"] = whole, len(whole)
        files["/cut"] = whole[:-5000], len(whole)
        files["/short"] = whole[:-5000], len(whole) - 5000
        files["/other"] = gzip.compress(b"other"), len(gzip.compress(b"other"))
        files["/plain"] = CONTENT, len(CONTENT)
        bomb = gzip.compress(bytes(10**7))
        files["/bomb"] = bomb, len(bomb)
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "mnist" / "file"


def fetch(urls, path):
    download.fetch_gzip("file", urls, path, len(CONTENT), SHA256)


def test_right_content_is_kept(served, path):
    fetch([f"{served}/good"], path)
    assert path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]
    assert download.has_hash(path, SHA256)


@pytest.mark.parametrize("name", ["missing", "cut", "short", "other", "plain", "bomb"])
def test_anything_else_leaves_no_file_and_the_next_mirror_is_tried(served, path, name):
    with pytest.raises(OSError, match=f"/{name}: "):
        fetch([f"{served}/{name}"], path)
    assert not path.exists()
    fetch([f"{served}/{name}", f"{served}/good"], path)
    assert path.read_bytes() == CONTENT


def test_each_mirror_says_why(served, path):
    with pytest.raises(OSError, match=r"/missing: .*404.*; .*/other: its content"):
        fetch([f"{served}/missing", f"{served}/other"], path)


def test_no_server_is_an_oserror(path):
    with pytest.raises(OSError, match="refused"):
        fetch(["http://127.0.0.1:9/file"], path)


def test_two_at_once_both_end_with_the_right_file(served, path):
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
    assert not failures and path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]


def test_cache_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XPDL_CACHE", str(tmp_path / "mine"))
    assert download.cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("XPDL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert download.cache_dir() == tmp_path / "xpdl"
