"""A real HTTP server of the tests, which answers as it is told to."""

import json
import socket
import sys
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from preftrace.evaluate import remote


class Half(Exception):
    """Raised by an answerer: only half of this body is sent, and the connection is closed."""


class Late(Exception):
    """Raised by an answerer: nothing is sent for as long as the client waits, be the machine slow or fast."""


class Server(ThreadingHTTPServer):
    """A server on a free local port. A client that hung up is what tests are about: nothing to be told on stderr.

    None of its threads outlives `running`, so that no other test reads what one of them says.
    """

    daemon_threads = False  # or `server_close` would not wait for them

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.connections = []

    def process_request(self, request, client_address):
        self.connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @contextmanager
    def running(self):
        """Serve until the end of the block; gives the URL."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{self.server_address[1]}"
        finally:
            self.shutdown()
            thread.join()
            for connection in self.connections:
                with suppress(OSError):  # the client has hung up before
                    connection.shutdown(socket.SHUT_RDWR)  # or a thread would wait for the next request
            self.server_close()


@contextmanager
def serving(answer):
    """Serve at a local URL; `answer(path, body, headers)` gives (status, headers, bytes or JSON value)."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            half = False
            try:
                status, headers, value = answer(self.path, body, self.headers)
            except Half as cut:
                status, headers, value, half = 200, {}, cut.args[0], True
            except Late:
                self.rfile.read(1)  # until the client has hung up: it sends no more
                self.close_connection = True
                return
            sent = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            for name, said in {"Content-Length": str(len(sent)), **headers}.items():
                self.send_header(name, said)
            self.end_headers()
            self.wfile.write(sent[: len(sent) // 2] if half else sent)
            self.close_connection = half

        def log_message(self, *_):
            pass

    with Server(Handler).running() as url:
        yield url


@pytest.fixture
def hasty(monkeypatch):
    """Nothing is waited for between two tries. One try has its usual time, which a busy machine may need."""
    monkeypatch.setattr(remote, "BACKOFF", 0.001)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "PREFTRACE_HTTP_KEY"):
        monkeypatch.delenv(name, raising=False)


def impatient(monkeypatch, when):
    """The scorers' client gives up soon on each request whose body `when` picks, and has its usual time for others."""
    plain = requests.Session.request

    def request(self, *words, json, timeout, **more):
        assert timeout == remote.TIMEOUT
        return plain(self, *words, json=json, timeout=(timeout, 0.05) if when(json) else timeout, **more)

    monkeypatch.setattr(requests.Session, "request", request)


def perspective(value, attribute="TOXICITY"):
    """An answer as Perspective gives it."""
    return {"attributeScores": {attribute: {"summaryScore": {"value": value, "type": "PROBABILITY"}}}}


def moderation(*scores, model="moderator-1"):
    """An answer as OpenAI gives it: one mapping of category scores for each text."""
    return {"id": "m", "model": model, "results": [{"flagged": False, "category_scores": each} for each in scores]}
