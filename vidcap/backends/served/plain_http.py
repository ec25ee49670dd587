"""Requests over kept connections to one server, plain HTTP/1.1: a third of a general client's work per request.

Beside a small model on the same processor, or a thousand requests in flight, that work is what answers wait for. It
holds what a model server's answer needs and nothing else: no redirects, no cookies, no compression.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
import weakref

MAX_HEAD = 65_536
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: |\Z)")
_SIZE = re.compile(rb"[0-9]{1,15}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;.*)?")

Headers = dict[str, str]


class NotConnectedError(OSError):
    """Nobody accepts a connection."""


class TooLongError(Exception):
    """The answer is longer than allowed."""


class MalformedError(OSError):
    """What came is no whole HTTP answer."""


class Connections:
    """To one host and port; safe in threads. `keep`: how many are kept open for the next request."""

    def __init__(self, host: str, port: int, *, keep: int) -> None:
        self._address = (host, port)
        self._keep = keep
        # `append` and `pop` of a list are atomic.
        self._idle: list[socket.socket] = []
        self._close = weakref.finalize(self, _close_all, self._idle)

    def close(self) -> None:
        """Those that wait for a request; one that is in use is closed after it, or kept for the next."""
        _close_all(self._idle)

    def ask(
        self, request: bytes, *, connect_seconds: float, seconds: float, max_bytes: int
    ) -> tuple[int, Headers, bytes]:
        """Status, headers (names in lower case, a repeated one as it stands last) and body that answer a request.

        Raises `NotConnectedError`, `TimeoutError` where the whole answer is not there in time, `TooLongError`, and
        another `OSError` where the connection breaks.
        """
        ends = time.monotonic() + seconds
        connection = self._kept() or self._connect(connect_seconds)
        reusable = False
        try:
            connection.settimeout(max(0.001, ends - time.monotonic()))
            # A server may refuse what is too long before it has read all of it, and say so.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
            answer = _Answer(connection, ends, max_bytes)
            found = answer.read()
            reusable = answer.reusable
            return found
        finally:
            if reusable and len(self._idle) < self._keep:
                self._idle.append(connection)
            else:
                connection.close()

    def _kept(self) -> socket.socket | None:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            # A connection with something to read before anything was asked was closed by the server.
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            if not poll.poll(0):
                return connection
            connection.close()
        return None

    def _connect(self, seconds: float) -> socket.socket:
        try:
            connection = socket.create_connection(self._address, timeout=seconds)
        except TimeoutError as error:
            raise NotConnectedError(f"no connection within {seconds:g} s") from error
        except (OSError, UnicodeError) as error:
            raise NotConnectedError(getattr(error, "strerror", None) or type(error).__name__) from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def _close_all(connections: list[socket.socket]) -> None:
    while connections:
        try:
            connections.pop().close()
        except IndexError:
            return


class _Answer:
    """Reads one answer. `reusable`: it ended where it said, and the server keeps the connection."""

    def __init__(self, connection: socket.socket, ends: float, max_bytes: int) -> None:
        self._connection = connection
        self._ends = ends
        self._max_bytes = max_bytes
        self._read = bytearray()
        self.reusable = False

    def read(self) -> tuple[int, Headers, bytes]:
        status, version, headers = self._head()
        while status < 200:  # `100 Continue` and its like come before the answer
            status, version, headers = self._head()
        coding = headers.get("transfer-encoding", "").strip().lower()
        length = headers.get("content-length", "").strip().encode()
        keeps = version == 1 and "close" not in headers.get("connection", "").lower()
        if status in (204, 304):
            body = b""
        elif coding:
            if coding != "chunked":
                raise MalformedError(f"the answer comes as {coding[:40]}")
            body = self._chunks()
        elif length:
            if not _SIZE.fullmatch(length):
                raise MalformedError("the answer has no proper length")
            body = self._take(int(length))
        else:
            keeps, body = False, self._rest()
        self.reusable = keeps and not self._read
        return status, headers, body

    def _head(self) -> tuple[int, int, Headers]:
        while (end := self._read.find(b"\r\n\r\n")) < 0:
            if len(self._read) > MAX_HEAD:
                raise MalformedError("the head of the answer does not end")
            if not self._more():
                raise MalformedError("the connection was closed without an answer" if not self._read else "cut off")
        first, *lines = bytes(self._read[:end]).split(b"\r\n")
        del self._read[: end + 4]
        found = _STATUS.match(first)
        if found is None:
            raise MalformedError("the answer is not HTTP")
        headers = {}
        for line in lines:
            name, _, value = line.partition(b":")
            headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        return int(found[2]), int(found[1]), headers

    def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            found = _CHUNK_SIZE.fullmatch(self._line())
            if found is None:
                raise MalformedError("a piece of the answer has no proper length")
            size = int(found[1], 16)
            if not size:
                break
            if len(body) + size > self._max_bytes:
                raise TooLongError
            body += self._take(size)
            if self._line():
                raise MalformedError("a piece of the answer is longer than it says")
        while self._line():
            pass  # headers after the body say nothing that is wanted
        return bytes(body)

    def _line(self) -> bytes:
        while (end := self._read.find(b"\r\n")) < 0:
            if len(self._read) > MAX_HEAD:
                raise MalformedError("a line of the answer does not end")
            if not self._more():
                raise MalformedError("cut off")
        line = bytes(self._read[:end])
        del self._read[: end + 2]
        return line

    def _take(self, size: int) -> bytes:
        if size > self._max_bytes:
            raise TooLongError
        while len(self._read) < size:
            if not self._more():
                raise MalformedError("cut off")
        taken = bytes(self._read[:size])
        del self._read[:size]
        return taken

    def _rest(self) -> bytes:
        while len(self._read) <= self._max_bytes:
            if not self._more():
                break
        else:
            raise TooLongError
        taken = bytes(self._read)
        self._read.clear()
        return taken

    def _more(self) -> bool:
        """Wait for more; False where the server has closed. A server that drips is cut off as a mute one is."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        found = self._connection.recv(65_536)
        self._read += found
        return bool(found)
