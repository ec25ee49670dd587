"""A model server on loopback that misbehaves as told: answers are functions, everything asked is kept."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from vidcap.backends.roles import Request

FAST = {"backoff_seconds": 0.01, "max_backoff_seconds": 0.1, "outage_seconds": 240.0, "timeout_seconds": 60.0}
"""Options of a backend that shall not wait long."""


@dataclass
class Reply:
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """Before it is sent."""
    broken: bool = False
    """Half of it is sent."""
    drip: float = 0.0
    """Seconds between bytes."""


def chat(text: Any, **choice: Any) -> Reply:
    message = {"role": "assistant", "content": text}
    return Reply(body=json.dumps({"choices": [{"message": message, "finish_reason": "stop", **choice}]}).encode())


def completion(text: Any, **choice: Any) -> Reply:
    return Reply(body=json.dumps({"choices": [{"text": text, "finish_reason": "stop", **choice}]}).encode())


def error(status: int, message: str = "no", **headers: str) -> Reply:
    return Reply(status, json.dumps({"error": {"message": message}}).encode(), headers)


def question(payload: dict[str, Any]) -> str:
    return payload["prompt"] if "prompt" in payload else payload["messages"][0]["content"]


Answer = Callable[[dict[str, Any], int], Reply]


class ModelServer:
    """`answer(payload, number)` says what the request of that number (from 0) gets; `health_of` that of /health."""

    def __init__(self, answer: Answer | None = None, port: int = 0) -> None:
        self.answer = answer or (lambda payload, number: chat(f"Answer to {question(payload)}"))
        self.health_of: Callable[[], int] = lambda: self.health
        self.health = 200
        self.models: tuple[str, ...] = ("m",)
        self.models_status = 200
        self.payloads: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.gets: list[str] = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._start(port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _start(self, port: int) -> None:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                owner._connections.add(self.connection)

            def finish(self) -> None:
                owner._connections.discard(self.connection)
                super().finish()

            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                owner.gets.append(self.path)
                if self.path.endswith("/health"):
                    self.reply(Reply(owner.health_of(), b""))
                else:
                    listed = {"data": [{"id": name} for name in owner.models]}
                    self.reply(Reply(owner.models_status, json.dumps(listed).encode()))

            def do_POST(self) -> None:
                payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with owner._lock:
                    number = len(owner.payloads)
                    owner.payloads.append(payload)
                    owner.headers.append(dict(self.headers))
                    owner.paths.append(self.path)
                    owner._now += 1
                    owner.most = max(owner.most, owner._now)
                try:
                    reply = owner.answer(payload, number)
                    time.sleep(reply.seconds)
                finally:
                    # Before it is sent: a client that has its answer may ask again at once.
                    with owner._lock:
                        owner._now -= 1
                self.reply(reply)

            def reply(self, reply: Reply) -> None:
                try:
                    self.send_response(reply.status)
                    for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                    if reply.broken:
                        self.wfile.write(reply.body[: len(reply.body) // 2])
                        self.close_connection = True
                        return
                    pieces = [reply.body[at : at + 1] for at in range(len(reply.body))] if reply.drip else [reply.body]
                    for piece in pieces:
                        self.wfile.write(piece)
                        time.sleep(reply.drip)
                except OSError:
                    self.close_connection = True

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a killed connection is what the test wants

        self._server = Server(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def kill(self) -> None:
        """As a killed process: nobody listens any more, open connections break."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def restart(self) -> None:
        """On the same port."""
        self._start(self.port)


class Strike:
    """Kills a server while it answers the request of number `at`, and starts it again a little later."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.reached, self.killed = threading.Event(), threading.Event()

    def around(self, answer: Callable[[dict[str, Any]], Reply]) -> Answer:
        def struck(payload: dict[str, Any], number: int) -> Reply:
            if number == self.at:
                self.reached.set()
                self.killed.wait(120)
            return answer(payload)

        return struck

    @contextmanager
    def on(self, server: ModelServer) -> Iterator[None]:
        def strike() -> None:
            if self.reached.wait(120):
                server.kill()
                self.killed.set()
                time.sleep(0.2)
                server.restart()

        thread = threading.Thread(target=strike)
        thread.start()
        yield
        thread.join()


def asked(count: int) -> list[Request]:
    return [Request(f"clip{n}", "avs", f"question {n}") for n in range(count)]


def complete(backend: Any, count: int = 1) -> list[Any]:
    found: list[Any] = backend.complete(asked(count), seeds=range(count))
    return found


def expected(count: int) -> list[str]:
    return [f"Answer to question {n}" for n in range(count)]
