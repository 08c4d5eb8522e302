"""A web server on this machine, for downloads."""

import contextlib
import http.server
import threading


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, path -> (content, length that it claims); of ``/slow`` a half, and the rest when
    `go_on` is set; after ``/endless`` zeros until then. `failures`, path -> what is answered before: a status, or None
    for no answer at all."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files, self.failures, self.asked = {}, {}, []
        self.halfway, self.go_on = threading.Event(), threading.Event()

    def offer(self, path, body):
        self.files[path] = body, len(body)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.server.failures.get(self.path):
            failure = self.server.failures[self.path].pop(0)
            if failure is not None:
                self.send_error(failure)
            return
        body, length = self.server.files.get(self.path, (None, 0))
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        half = len(body) // 2
        with contextlib.suppress(ConnectionError):  # the client may be gone by now
            self.wfile.write(body[:half])
            if self.path == "/slow":
                self.server.halfway.set()
                self.server.go_on.wait(60)
            self.wfile.write(body[half:])
            while self.path == "/endless" and not self.server.go_on.is_set():
                self.wfile.write(bytes(1 << 16))

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def running():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()
