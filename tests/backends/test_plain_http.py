"""Answers however they are cut up and ended, whole or not at all; connections are kept where that is safe."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from command import free_port
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcap.backends.served.plain_http import (
    Connections,
    MalformedError,
    NotConnectedError,
    TooLongError,
)

REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


class Raw:
    """Sends exactly the bytes it is told, in the pieces it is told, to whoever asks."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.pause = 0.0
        self.stays = True
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            try:
                while connection.recv(65_536).endswith(b"\r\n\r\n"):
                    stays = self.stays  # of this answer; the test may tell the next before it is all sent
                    for piece in self.pieces:
                        connection.sendall(piece)
                        time.sleep(self.pause)
                    if not stays:
                        return
            except OSError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(scope="module")
def raw() -> Iterator[Raw]:
    server = Raw()
    yield server
    server.close()


@pytest.fixture(scope="module")
def connections(raw: Raw) -> Iterator[Connections]:
    made = Connections("127.0.0.1", raw.port, keep=4)
    yield made
    made.close()


def ask(connections: Connections, seconds: float = 120.0, max_bytes: int = 100) -> tuple[int, dict[str, str], bytes]:
    return connections.ask(REQUEST, connect_seconds=60, seconds=seconds, max_bytes=max_bytes)


def tell(raw: Raw, *pieces: bytes, stays: bool = True, pause: float = 0.0) -> None:
    raw.pieces, raw.stays, raw.pause = list(pieces), stays, pause


WHOLE = [
    OK + b"Content-Length: 5\r\nX: 1\r\nx: 2\r\n\r\nhello",
    OK + CHUNKED + b"2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length:5\r\n\r\nhello",
]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(WHOLE), st.lists(st.integers(1, 90), max_size=4))
def test_an_answer_may_come_in_any_pieces(raw: Raw, connections: Connections, whole: bytes, cuts: list[int]) -> None:
    at = sorted({cut for cut in cuts if cut < len(whole)})
    tell(raw, *(whole[i:j] for i, j in zip([0, *at], [*at, len(whole)], strict=True)))
    status, headers, body = ask(connections)
    assert (status, body) == (200, b"hello")
    assert headers.get("x", "2") == "2"


def test_connections_are_kept_until_the_server_closes(raw: Raw) -> None:
    made = Connections("127.0.0.1", raw.port, keep=1)
    before = raw.connections
    tell(raw, WHOLE[0])
    for _ in range(5):
        ask(made)
    assert raw.connections == before + 1
    tell(raw, WHOLE[0], stays=False)
    ask(made)  # the server closes after it, without having said so
    assert select.select(made._idle, [], [], 120)[0], "the end of the connection never came"
    tell(raw, WHOLE[0])
    assert ask(made)[2] == b"hello"
    assert raw.connections == before + 2
    made.close()
    assert ask(made)[2] == b"hello"
    assert raw.connections == before + 3
    made.close()


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ],
)
def test_a_connection_that_may_hold_something_else_is_not_used_again(raw: Raw, answer: bytes) -> None:
    made = Connections("127.0.0.1", raw.port, keep=4)
    tell(raw, answer)
    before = raw.connections
    assert [ask(made)[2] for _ in range(3)] == [b"hello"] * 3
    assert raw.connections == before + 3


def test_an_answer_without_a_length_ends_with_the_connection(raw: Raw, connections: Connections) -> None:
    tell(raw, OK + b"\r\nhel", b"lo", stays=False)
    assert ask(connections)[2] == b"hello"
    tell(raw, b"HTTP/1.1 204 No Content\r\n\r\n")
    assert ask(connections)[::2] == (204, b"")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        OK + b"Content-Length: 6\r\n\r\nhello",
        OK + b"Content-Length: -5\r\n\r\nhello",
        OK + b"Content-Length: five\r\n\r\nhello",
        OK + CHUNKED + b"5\r\nhel",
        OK + CHUNKED + b"5\r\nhello",
        OK + CHUNKED + b"5\r\nhello\r\n",
        OK + CHUNKED + b"4\r\nhello\r\n0\r\n\r\n",
        OK + CHUNKED + b"-1\r\n\r\n",
        OK + CHUNKED + b"zz\r\n\r\n",
        OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/9.9 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
        OK + CHUNKED + b"0" * 100_000,
    ],
)
def test_half_an_answer_is_none(raw: Raw, connections: Connections, answer: bytes) -> None:
    tell(raw, answer, stays=False)
    with pytest.raises((MalformedError, ConnectionResetError)):
        ask(connections)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 101\r\n\r\n" + b"x" * 101,
        OK + b"Content-Length: 999999999999\r\n\r\n",
        OK + CHUNKED + b"40\r\n" + b"x" * 64 + b"\r\n40\r\n" + b"x" * 64 + b"\r\n0\r\n\r\n",
        OK + CHUNKED + b"fffffffffff\r\n",
        OK + b"\r\n" + b"x" * 101,
    ],
)
def test_an_answer_that_is_too_long_is_not_read(raw: Raw, connections: Connections, answer: bytes) -> None:
    tell(raw, answer, stays=False)
    with pytest.raises(TooLongError):
        ask(connections)


@pytest.mark.parametrize("drips", [WHOLE[0], WHOLE[1], b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200])
def test_an_answer_that_drips_ends_in_time(raw: Raw, connections: Connections, drips: bytes) -> None:
    tell(raw, *(drips[at : at + 1] for at in range(len(drips))), pause=0.05)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        ask(connections, seconds=0.4)
    assert time.monotonic() - began < 5
    tell(raw, WHOLE[0])
    assert ask(connections)[2] == b"hello"


@pytest.mark.parametrize("host", [lambda: ("127.0.0.1", free_port()), lambda: ("no-such-host.invalid", 80)])
def test_nobody_there(host: Callable[[], tuple[str, int]]) -> None:
    with pytest.raises(NotConnectedError):
        ask(Connections(*host(), keep=1))
