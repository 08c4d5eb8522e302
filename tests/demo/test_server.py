"""The web server of the demo: what it serves, and what it refuses."""

from __future__ import annotations

import base64
import contextlib
import http.client
import importlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpdl
from tests.harness import nonempty
from xpdl import layers as L
from xpdl.demo import network, server


def small_net(shape: tuple[int, ...] = (1, 28, 28), classes: int = 10) -> Any:
    layers = [L.Convolution(filters=2, size=5, stride=4), L.Relu()] if len(shape) == 3 else []
    net = xpdl.Sequential(*layers, L.Affine(units=classes), loss=L.SoftmaxWithLoss, seed=0)
    net.build(shape)
    return net


@contextlib.contextmanager
def serving(runtime: Path | None = None, net: Any = None) -> Iterator[server.DemoServer]:
    with server.DemoServer(network.Recognizer(net or small_net()), runtime=runtime) as demo:
        thread = threading.Thread(target=demo.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield demo
        finally:
            demo.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def demo() -> Iterator[server.DemoServer]:
    with serving() as made:
        yield made


def ask(demo: server.DemoServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, bytes]:
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection(server.HOST, demo.server_port, timeout=60)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        sized = {} if body is None or "Content-Length" in headers else {"Content-Length": str(len(body))}
        for name, value in {**headers, **sized}.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def raw(demo: server.DemoServer, text: bytes) -> bytes:
    """All that the server sends before it closes the connection."""
    with socket.create_connection((server.HOST, demo.server_port), timeout=60) as connection:
        connection.sendall(text)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_is_bound_to_this_machine(demo: server.DemoServer) -> None:
    assert demo.server_address[0] == "127.0.0.1" and demo.socket.family == socket.AF_INET


FILES = [
    ("/", "text/html; charset=utf-8", b"<!doctype html>"),
    ("/index.html?a=b", "text/html; charset=utf-8", b"<!doctype html>"),
    ("/app.js", "text/javascript; charset=utf-8", b"onnxruntime-web"),
    ("/style.css", "text/css; charset=utf-8", b"prefers-color-scheme: dark"),
    ("/icon.svg", "image/svg+xml", b"<svg"),
    ("/config.json", "application/json", b'"runtime": false'),
]


@pytest.mark.parametrize(("path", "kind", "text"), FILES)
def test_files_of_the_page(path: str, kind: str, text: bytes, demo: server.DemoServer) -> None:
    status, headers, body = ask(demo, "GET", path)
    assert (status, headers["Content-Type"]) == (200, kind) and text in body
    assert headers["X-Content-Type-Options"] == "nosniff" and "default-src 'self'" in headers["Content-Security-Policy"]
    assert not [name for name in headers if name.lower().startswith("access-control")]
    assert headers["Server"].strip() == "xpdl"


def test_the_page_loads_nothing_from_elsewhere(demo: server.DemoServer) -> None:
    for path, body in nonempty(list(demo.files.items())):
        text = body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text and "https:" not in text and "//" not in text.partition("<")[0].replace("// ", ""), (
            path
        )


ELSEWHERE = [
    *("/../pyproject.toml", "/..%2fpyproject.toml", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/etc/passwd", "/.."),
    *(
        "/runtime/",
        "/runtime/../server.py",
        "/page/index.html",
        "/server.py",
        "\\..\\server.py",
        "/app.js/",
        "/net.onnx",
    ),
    *("/index.html%00", "http://example.com/", "*", "/" + "a" * 5000),
]


@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: path[:30])
def test_nothing_else_is_served(path: str, demo: server.DemoServer) -> None:
    answer = raw(demo, f"GET {path} HTTP/1.1\r\nHost: {server.HOST}:{demo.server_port}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.0 404 ")


def test_headers_and_lines_have_a_limit(demo: server.DemoServer) -> None:
    host = f"Host: {server.HOST}:{demo.server_port}\r\n"
    many = "".join(f"a{i}: b\r\n" for i in range(200))
    for text, status in (
        (f"GET /{'a' * 70_000} HTTP/1.1\r\n{host}\r\n", b"HTTP/1.0 414 "),
        (f"GET / HTTP/1.1\r\n{host}{many}\r\n", b"HTTP/1.0 431 "),
        (f"GET / HTTP/7.1.1\r\n{host}\r\n", b"400"),
        ("nonsense\r\n\r\n", b"400"),
    ):
        assert status in raw(demo, text.encode())


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"])
def test_other_methods_are_refused(method: str, demo: server.DemoServer) -> None:
    assert ask(demo, method, "/")[0] == 501


HEADERS: list[tuple[dict[str, str], int]] = [
    ({}, 200),
    ({"Host": "localhost:{port}"}, 200),
    ({"Host": "127.0.0.1"}, 403),
    ({"Host": "127.0.0.1:1"}, 403),
    ({"Host": "example.com:{port}"}, 403),
    ({"Host": "127.0.0.1.example.com:{port}"}, 403),
    ({"Host": "127.0.0.1:{port}", "host": "example.com"}, 403),
    ({"Host": ""}, 403),
    ({"Origin": "http://127.0.0.1:{port}"}, 200),
    ({"Origin": "http://localhost:{port}"}, 200),
    ({"Origin": "http://example.com"}, 403),
    ({"Origin": "https://127.0.0.1:{port}"}, 403),
    ({"Origin": "null"}, 403),
]


@pytest.mark.parametrize(("headers", "status"), HEADERS)
def test_pages_of_other_hosts_are_refused(headers: dict[str, str], status: int, demo: server.DemoServer) -> None:
    given = {name: value.format(port=demo.server_port) for name, value in headers.items()}
    assert ask(demo, "GET", "/", **given)[0] == status
    assert ask(demo, "POST", "/recognise", bytes(784), **given)[0] == status


def test_a_host_must_be_named(demo: server.DemoServer) -> None:
    assert raw(demo, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 403 ")


BODIES: list[tuple[bytes | None, dict[str, str], int]] = [
    (bytes(784), {}, 200),
    (bytes(783), {}, 400),
    (bytes(785), {}, 413),
    (b"", {}, 400),
    (None, {"Content-Length": str(2**40)}, 413),
    (None, {"Content-Length": "9" * 5000}, 413),
    (None, {"Content-Length": "-1"}, 411),
    (None, {"Content-Length": "1e3"}, 411),
    (None, {"Content-Length": "²"}, 411),
    (None, {}, 411),
    (None, {"Transfer-Encoding": "chunked"}, 411),
]


@pytest.mark.parametrize(("body", "headers", "status"), BODIES)
def test_bodies_are_of_one_size(
    body: bytes | None, headers: dict[str, str], status: int, demo: server.DemoServer
) -> None:
    lines = {
        "Host": f"{server.HOST}:{demo.server_port}",
        **({} if body is None else {"Content-Length": str(len(body))}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in {**lines, **headers}.items())
    answer = raw(demo, f"POST /recognise HTTP/1.1\r\n{head}\r\n".encode("latin-1") + (body or b""))
    assert answer.startswith(f"HTTP/1.0 {status} ".encode())


def test_other_paths_take_no_body(demo: server.DemoServer) -> None:
    assert ask(demo, "POST", "/", bytes(784))[0] == 404


def test_answers_are_those_of_the_network(demo: server.DemoServer) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, 784, dtype=np.uint8)
    status, _, body = ask(demo, "POST", "/recognise", pixels.tobytes())
    answer = json.loads(body)
    net, x = demo.recognizer.net, (pixels / np.float32(255)).reshape(1, 1, 28, 28).astype("float32")
    np.testing.assert_allclose(answer["probabilities"], xpdl.softmax(net.predict(x))[0], rtol=1e-6)
    assert status == 200 and [layer["name"] for layer in answer["layers"]] == list(net.layers)
    for layer, given in zip(net.layers.values(), answer["layers"], strict=True):
        x = layer.forward(x)
        values = np.frombuffer(base64.b64decode(given["values"]), "<f4").reshape(given["shape"])
        np.testing.assert_array_equal(values, x[0])


def test_many_at_once(demo: server.DemoServer) -> None:
    """Each has its own answer: the network is asked for one after the other."""
    rng = np.random.default_rng(0)
    drawings = [rng.integers(0, 256, 784, dtype=np.uint8).tobytes() for _ in range(12)]
    expected = [demo.recognizer.answer(drawing)["probabilities"] for drawing in drawings]
    found: dict[int, Any] = {}

    def one(k: int) -> None:
        found[k] = json.loads(ask(demo, "POST", "/recognise", drawings[k])[2])["probabilities"]

    threads = [threading.Thread(target=one, args=(k,)) for k in range(len(drawings))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[k] for k in range(len(drawings))] == expected


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost:", b"POST /recognise HTTP/1.1\r\n"])
def test_slow_requests_are_cut(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that sends a byte now and then, so that no read waits for long."""
    monkeypatch.setattr(server, "_SECONDS", 0.3)
    with serving() as demo, socket.create_connection((server.HOST, demo.server_port), timeout=60) as connection:
        connection.sendall(start)
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 600:
                connection.sendall(b"a")
                time.sleep(0.05)
                sent += 1
        assert sent < 600
        assert ask(demo, "GET", "/")[0] == 200


def test_connections_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_CONNECTIONS", 2)
    with serving() as demo:
        address = (server.HOST, demo.server_port)
        idle = [socket.create_connection(address, timeout=60) for _ in range(2)]
        with socket.create_connection(address, timeout=60) as third:
            assert third.recv(1) == b""  # closed at once
        for connection in idle:
            connection.close()
        answered = 0
        for _ in range(600):  # until the server has noticed
            with contextlib.suppress(OSError, http.client.HTTPException):
                answered = ask(demo, "GET", "/")[0]
                break
            time.sleep(0.05)
        assert answered == 200


@pytest.mark.needs("onnx", "onnxruntime")
def test_browsers_get_the_network_with_the_output_of_each_layer(tmp_path: Path) -> None:
    for name in server.RUNTIME:
        (tmp_path / name).write_text(name)
    (tmp_path / "secret.mjs").write_text("secret")
    with serving(tmp_path) as demo:
        config = json.loads(ask(demo, "GET", "/config.json")[2])
        for name in server.RUNTIME:
            status, headers, body = ask(demo, "GET", f"/runtime/{name}")
            assert (status, body.decode()) == (200, name)
            assert headers["Content-Type"] == (
                "application/wasm" if "wasm" in name[-4:] else "text/javascript; charset=utf-8"
            )
        assert ask(demo, "GET", "/runtime/secret.mjs")[0] == 404
        file = ask(demo, "GET", "/net.onnx")[2]
        session = importlib.import_module("onnxruntime").InferenceSession(file, providers=["CPUExecutionProvider"])
        pixels = np.random.default_rng(0).integers(0, 256, 784, dtype=np.uint8)
        answer = demo.recognizer.answer(pixels.tobytes())
        x = (pixels / np.float32(255)).reshape(config["shape"]).astype("float32")
        names = ["y", *config["outputs"]]
        scores, *layers = session.run(names, {"x": x})
        np.testing.assert_allclose(xpdl.softmax(scores)[0], answer["probabilities"], atol=1e-6)
        assert config["runtime"] and list(config["outputs"].values()) == list(demo.recognizer.net.layers)
        for values, given in zip(layers, answer["layers"], strict=True):
            expected = np.frombuffer(base64.b64decode(given["values"]), "<f4").reshape(given["shape"])
            np.testing.assert_allclose(values[0], expected, atol=1e-5)


@pytest.mark.needs("onnx")
def test_a_folder_without_the_runtime_is_an_error(tmp_path: Path) -> None:
    (tmp_path / server.RUNTIME[0]).write_text("")
    with pytest.raises(ValueError, match=r"has no ort-wasm-simd-threaded.mjs, .*; name the folder dist of the npm"):
        server.DemoServer(network.Recognizer(small_net()), runtime=tmp_path)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: small_net((3, 28, 28)), r"takes rows of shape \(3, 28, 28\), a drawing has \(1, 28, 28\)"),
        (lambda: small_net(classes=1), "gives rows of shape \\(1,\\), expected scores of at least 2 classes"),
        (
            lambda: xpdl.Graph(x := xpdl.Input((784,)), xpdl.Affine(units=2)(x)),
            "layers of a Sequential .*, got a Graph",
        ),
        (lambda: named(small_net(), ["a"]), "the network has 10 scores and 1 names of classes"),
    ],
)
def test_networks_that_take_no_drawing(net: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network.Recognizer(net())


def named(net: Any, names: list[str]) -> Any:
    net.class_names = names
    return net


def test_networks_of_rows_and_other_classes() -> None:
    recognizer = network.Recognizer(named(small_net((784,), 3), ["ä", "b", "c"]))
    assert recognizer.class_names == ["ä", "b", "c"] and len(recognizer.answer(bytes(784))["probabilities"]) == 3


def test_the_network_is_trained_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("XPDL_CACHE", str(tmp_path))
    trainings = []

    def trained() -> Any:
        trainings.append(1)
        return small_net()

    monkeypatch.setattr(network, "trained", trained)
    first = network.recognizer(None)
    again = network.recognizer(None)
    assert len(trainings) == 1 and capsys.readouterr().out.count("training a network on 6,000 digits") == 1
    assert again.answer(bytes(784)) == first.answer(bytes(784))
    (kept,) = (tmp_path / "demo").iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    network.recognizer(None)
    assert len(trainings) == 2
    small_net().save(tmp_path / "own.safetensors")
    assert network.recognizer(tmp_path / "own.safetensors").class_names == [str(k) for k in range(10)]


@pytest.mark.exhaustive
def test_the_network_recognises_digits() -> None:
    net = network.trained(epochs=1)
    _, (x, t) = xpdl.load_mini_mnist(flatten=False)
    assert net.accuracy(x, t) > 0.85


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from xpdl import cli

    monkeypatch.chdir(tmp_path)
    small_net().save("net.safetensors")
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)

    def interrupted(self: Any, poll_interval: float = 0.5) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server.DemoServer, "serve_forever", interrupted)
    assert cli.main(["demo", "--model", "net.safetensors"]) == 0
    out = capsys.readouterr().out
    assert opened and f"draw at {opened[0]} (recognised here; ctrl-C ends it)" in out
    assert cli.main(["demo", "--model", "net.safetensors", "--no-browser"]) == 0 and len(opened) == 1
    capsys.readouterr()
    for args, message in (
        (["--port", "70000"], "--port must be a number from 0 to 65535, got 70000"),
        (["--model", "missing.safetensors"], "missing.safetensors"),
    ):
        assert cli.main(["demo", "--no-browser", *args]) == 2
        err = capsys.readouterr().err
        assert err.startswith("xpdl demo: error: ") and message in err and err.count("\n") == 1
