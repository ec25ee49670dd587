"""One HTTP request to a model server: bounded in time and size, no redirects, the key in no error.

What goes wrong is told apart by whose fault it may be, because that decides what becomes of the item (`Fault`).
"""

from __future__ import annotations

import enum
import ipaddress
import json
import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

from vidcap.backends.served.plain_http import Connections, NotConnectedError, TooLongError
from vidcap.errors import BackendError

if TYPE_CHECKING:
    import urllib3

CONNECT_SECONDS = 10.0
"""A server that takes longer to accept a connection counts as down."""
CHUNK_BYTES = 65_536
QUOTED = 300
"""Characters of a server's own words that an error repeats at most."""
_USABLE_KEY = re.compile(r"[\x21-\x7e]{1,4096}")


class Fault(enum.Enum):
    """Why there is no answer."""

    DOWN = "down"  # nobody listens, or a gateway says so: the server's fault for sure
    BUSY = "busy"  # the server says that it is, and perhaps for how long
    BROKEN = "broken"  # the connection ended in the middle of an answer
    SLOW = "slow"  # no whole answer in time
    ERROR = "error"  # the server failed on this request
    WRONG = "wrong"  # no such model, no such address, the key is refused: a mistake in the pipeline
    REFUSED = "refused"  # the server does not take this request (too long …)
    HUGE = "huge"  # the answer is over the limit


_OF_STATUS = {
    401: Fault.WRONG, 403: Fault.WRONG, 404: Fault.WRONG, 405: Fault.WRONG,
    408: Fault.BUSY, 425: Fault.BUSY, 429: Fault.BUSY, 502: Fault.DOWN, 503: Fault.DOWN, 504: Fault.DOWN,
}  # fmt: skip


class ExchangeError(Exception):
    """No usable answer. `wait`: seconds the server asks to wait, or None."""

    def __init__(self, fault: Fault, detail: str, wait: float | None = None) -> None:
        super().__init__(detail)
        self.fault = fault
        self.detail = detail
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


@dataclass(frozen=True, slots=True)
class _Plain:
    """A server that is reached without TLS and proxies, and what is asked for there."""

    connections: Connections
    target: str
    host: str


class Exchange:
    """A client of model servers that keeps its connections; safe in threads.

    `api_key_env` names the environment variable that holds the key; it is read here, so that a key given later needs no
    new pipeline. Raises `BackendError` where the variable is not set.
    """

    def __init__(self, *, api_key_env: str, connections: int, timeout_seconds: float, max_bytes: int) -> None:
        self._key = _key(api_key_env)
        self._connections = connections
        self._timeout = timeout_seconds
        self._max_bytes = max_bytes
        self._managers: dict[str, urllib3.PoolManager] = {}
        self._plain: dict[tuple[str, int], Connections] = {}
        self._ways: dict[str, _Plain | urllib3.PoolManager] = {}
        self._looking = threading.Lock()

    def post(self, url: str, payload: Any) -> Any:
        """The JSON that answers JSON. Raises `ExchangeError`."""
        reply = self._send("POST", url, json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace"))
        if reply.status != 200:
            raise self._problem(reply)
        try:
            return json.loads(reply.body)
        except (ValueError, RecursionError):
            raise ExchangeError(Fault.WRONG, f"the answer is no JSON: {self._words(reply.body)}") from None

    def get(self, url: str, *, timeout_seconds: float) -> Reply:
        """Any answer, whatever its status. Raises `ExchangeError` where there is none."""
        return self._send("GET", url, None, timeout_seconds)

    def close(self) -> None:
        with self._looking:
            for connections in self._plain.values():
                connections.close()
            for manager in self._managers.values():
                manager.clear()

    def _send(self, method: str, url: str, body: bytes | None, timeout_seconds: float | None = None) -> Reply:
        limit = self._timeout if timeout_seconds is None else timeout_seconds
        way = self._ways.get(url)
        if way is None:
            # Of two threads that look for the way at the same time both get the same connections.
            way = self._ways.setdefault(url, self._way(url))
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "vidcap"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        if isinstance(way, _Plain):
            return self._send_plain(way, method, headers, body or b"", limit)
        return self._send_any(way, method, url, headers, body, limit)

    def _send_plain(self, way: _Plain, method: str, headers: Mapping[str, str], body: bytes, limit: float) -> Reply:
        lines = [f"{method} {way.target} HTTP/1.1", f"Host: {way.host}", *map(": ".join, headers.items())]
        if method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        request = "\r\n".join([*lines, "\r\n"]).encode("ascii") + body
        try:
            status, found, data = way.connections.ask(
                request,
                connect_seconds=min(CONNECT_SECONDS, limit),
                seconds=limit,
                max_bytes=self._max_bytes,
            )
        except TimeoutError:
            raise ExchangeError(Fault.SLOW, f"no answer within {limit:g} s") from None
        except NotConnectedError as error:
            raise ExchangeError(Fault.DOWN, self._words(f"no connection: {error}")) from None
        except TooLongError:
            raise self._too_long() from None
        except OSError as error:
            raise ExchangeError(Fault.BROKEN, self._words(f"the connection broke: {error.strerror or error}")) from None
        return Reply(status, found, data)

    def _send_any(
        self,
        manager: urllib3.PoolManager,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        limit: float,
    ) -> Reply:
        """Over TLS or through a proxy."""
        import urllib3
        from urllib3 import exceptions

        ends = time.monotonic() + limit
        try:
            response = manager.request(
                method,
                url,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=min(CONNECT_SECONDS, limit), read=limit),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            try:
                data = self._read(response, ends)
            except BaseException:
                response.close()
                raise
            response.release_conn()
        except exceptions.ReadTimeoutError:
            raise ExchangeError(Fault.SLOW, f"no answer within {limit:g} s") from None
        except (exceptions.NewConnectionError, exceptions.ConnectTimeoutError, exceptions.ProxyError) as error:
            raise ExchangeError(Fault.DOWN, self._words(f"no connection: {_cause(error)}")) from None
        except exceptions.SSLError as error:
            raise ExchangeError(Fault.DOWN, self._words(f"no trusted connection: {_cause(error)}")) from None
        except (exceptions.HTTPError, OSError) as error:
            raise ExchangeError(Fault.BROKEN, self._words(f"the connection broke: {_cause(error)}")) from None
        return Reply(response.status, {name.lower(): value for name, value in response.headers.items()}, data)

    def _read(self, response: urllib3.BaseHTTPResponse, ends: float) -> bytes:
        """The whole body as it was sent; a server that drips byte by byte is cut off at the same time as a mute one."""
        chunks, size = [], 0
        while chunk := response.read1(CHUNK_BYTES, decode_content=False):
            size += len(chunk)
            if size > self._max_bytes:
                raise self._too_long()
            if time.monotonic() > ends:
                raise ExchangeError(Fault.SLOW, "the answer did not end in time")
            chunks.append(chunk)
        return b"".join(chunks)

    def _too_long(self) -> ExchangeError:
        return ExchangeError(Fault.HUGE, f"the answer is longer than {self._max_bytes} bytes")

    def _way(self, url: str) -> _Plain | urllib3.PoolManager:
        """How an address is reached: taking it apart each time would cost more than asking."""
        import urllib3

        proxy, parts = _proxy(url), urlsplit(url)
        try:
            named = parts.netloc.encode("idna").decode()
        except UnicodeError:
            raise ExchangeError(Fault.DOWN, "no connection: the host has no proper name") from None
        with self._looking:
            if parts.scheme != "http" or proxy:
                if proxy not in self._managers:
                    size = self._connections
                    made = urllib3.ProxyManager(proxy, maxsize=size) if proxy else urllib3.PoolManager(maxsize=size)
                    self._managers[proxy] = made
                return self._managers[proxy]
            host, port = parts.hostname or "", parts.port or 80
            if (host, port) not in self._plain:
                self._plain[host, port] = Connections(host, port, keep=self._connections)
            # Whatever characters an address holds, its request stays one line.
            target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
            return _Plain(self._plain[host, port], target, named)

    def _problem(self, reply: Reply) -> ExchangeError:
        status = reply.status
        fault = _OF_STATUS.get(status)
        if fault is None:
            fault = Fault.ERROR if status >= 500 else Fault.REFUSED if 400 <= status < 500 else Fault.WRONG
        said = self._words(reply.body)
        return ExchangeError(fault, f"HTTP {status}{f': {said}' if said else ''}", _wait(reply.headers))

    def _words(self, said: bytes | str) -> str:
        """A server's message as one short line without the key, which some servers repeat."""
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        try:
            found = json.loads(text)
            inner = found.get("error", found)
            text = str(inner.get("message", text) if isinstance(inner, dict) else inner)
        except (ValueError, AttributeError, RecursionError):
            pass
        if self._key:
            text = text.replace(self._key, "•••")
        line = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
        return line if len(line) <= QUOTED else f"{line[:QUOTED]} …"


def _key(variable: str) -> str:
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise BackendError(
            f"the environment variable `{variable}` is not set",
            hint="put the key of the server into it, on workers too",
        )
    if not _USABLE_KEY.fullmatch(key):
        # Said here, because the library that sends it would repeat it in its error.
        raise BackendError(f"the environment variable `{variable}` holds no usable key", hint="a key is one plain word")
    return key


def _proxy(url: str) -> str:
    """The proxy of the environment for an address, or ""; never one for this machine itself."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _loopback(host) or proxy_bypass(parts.netloc):
        return ""
    return getproxies().get(parts.scheme, "")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds of `Retry-After`; a date is taken relative to the server's own clock."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value[:9])
    try:
        later = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError):
        return None
    return max(0.0, later.total_seconds())


def _cause(error: BaseException) -> str:
    """The words at the root of an error, without the addresses of objects."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return getattr(error, "strerror", None) or type(error).__name__
