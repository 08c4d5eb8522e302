"""The web server of the demo: bound to this machine, with a limit for everything that a request can ask for."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xpdl.demo.network import SIDE, Recognizer

HOST = "127.0.0.1"
_SECONDS = 10.0  # of a whole request
_CONNECTIONS = 32  # at a time
#: files of onnxruntime-web that a browser needs, of its folder dist
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".json": "application/json",
}
_POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' data:; frame-ancestors 'none'"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class DemoServer(ThreadingHTTPServer):
    """Serves the page, and answers for drawings.

    All files are read when it is made: no request reaches the disk.

    Parameters
    ----------
    recognizer : Recognizer
    port : int
        0 takes one that is free.
    runtime : Path, optional
        The folder ``dist`` of onnxruntime-web; without it, drawings are recognised here.

    Raises
    ------
    ValueError
        If `runtime` lacks files.
    OSError
        If the port is taken.
    """

    daemon_threads = True
    request_queue_size = _CONNECTIONS

    def __init__(self, recognizer: Recognizer, port: int = 0, runtime: Path | None = None) -> None:
        self.recognizer = recognizer
        self.files = _files(recognizer, runtime)
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__((HOST, port), _Handler)
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.server_port}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own; refuse where too many others are busy."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a request, and end its connection when its time is over."""
        timer = threading.Timer(_SECONDS, _cut, [request])
        timer.daemon = True
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Let a connection that broke end in silence."""


def _cut(request: socket.socket) -> None:
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def _files(recognizer: Recognizer, runtime: Path | None) -> dict[str, bytes]:
    """Return the content of each path."""
    page = resources.files("xpdl.demo") / "page"
    files = {f"/{one.name}": one.read_bytes() for one in page.iterdir() if Path(one.name).suffix in _TYPES}
    files["/"] = files["/index.html"]
    outputs: dict[str, str] = {}
    if runtime is not None:
        if missing := [name for name in RUNTIME if not (runtime / name).is_file()]:
            raise ValueError(
                f"--runtime {runtime}: has no {', '.join(missing)}; name the folder dist of the npm package onnxruntime-web"
            )
        files["/net.onnx"], outputs = recognizer.onnx_file()
        files |= {f"/runtime/{name}": (runtime / name).read_bytes() for name in RUNTIME}
    config = {
        "classes": recognizer.class_names,
        "shape": [1, *(recognizer.net.input_shape or ())],
        "activation": type(recognizer.net.last_layer).__name__,
        "outputs": outputs,
        "runtime": runtime is not None,
    }
    files["/config.json"] = json.dumps(config).encode()
    return files


class _Handler(BaseHTTPRequestHandler):
    """One request, on one connection."""

    server: DemoServer
    server_version, sys_version = "xpdl", ""
    timeout = _SECONDS  # of one read

    def do_GET(self) -> None:
        if self._refused():
            return
        path = self.path.partition("?")[0]
        if path not in self.server.files:
            self._say(HTTPStatus.NOT_FOUND)
            return
        suffix = Path(path).suffix or ".html"
        self._send(HTTPStatus.OK, self.server.files[path], _TYPES[suffix])

    def do_POST(self) -> None:
        if self._refused():
            return
        if self.path != "/recognise":
            self._say(HTTPStatus.NOT_FOUND)
            return
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not length.isascii() or not length.isdigit():
            self._say(HTTPStatus.LENGTH_REQUIRED)
            return
        if len(length) > 9 or int(length) > SIDE * SIDE:
            self._say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        body = self.rfile.read(int(length))
        if len(body) != SIDE * SIDE:
            self._say(HTTPStatus.BAD_REQUEST)
            return
        self._send(HTTPStatus.OK, json.dumps(self.server.recognizer.answer(body)).encode(), _TYPES[".json"])

    def _refused(self) -> bool:
        """Refuse pages of other hosts, which a browser may be made to take for this one, and say so."""
        origin = self.headers.get("Origin")
        own_page = origin is None or (urlsplit(origin).scheme, urlsplit(origin).netloc) in {
            ("http", host) for host in self.server.hosts
        }
        named = self.headers.get_all("Host") or []
        if len(named) == 1 and named[0] in self.server.hosts and own_page:
            return False
        self._say(HTTPStatus.FORBIDDEN)
        return True

    def _say(self, status: HTTPStatus) -> None:
        self._send(status, f"{status.value} {status.phrase}\n".encode(), "text/plain; charset=utf-8")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing of a request."""
