"""`vidcap inspect --serve`: a local page over shards of any size. It only reads, and only for who sits at this machine.

Nothing in an address is ever part of a path: shards are numbers, keys are looked up in the index. A request whose Host
is not ours is refused, because a web site may point its own name at the loopback address (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import re
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler

from vidcap.errors import ShardError, UsageError
from vidcap.inspector.document import document, policy
from vidcap.inspector.entries import Borders, Entry, border_data, sample_entry, stopped_entry
from vidcap.inspector.export import page_data, pictures_of
from vidcap.inspector.index import ORDERS, SCORES, Query, ShardIndex
from vidcap.inspector.pictures import Picture, targets
from vidcap.shards.reader import RawSample

PAGE_LIMIT = 200
BLOCK = 1 << 18
CACHED_CLIPS = 512
"""Clips whose pictures stay in memory: some 20 MB."""

Value = TypeVar("Value")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Library:
    """What the handlers share: the index, the borders, the page, and the pictures made last."""

    def __init__(self, index: ShardIndex, *, title: str, borders: Borders) -> None:
        self.index, self.borders = index, borders
        self.stopped = borders.stopped
        # Decoding takes longer than reading; a second thread keeps pages coming while pictures are made.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="inspect")
        self._pictures: dict[tuple[int, str], asyncio.Task[list[Picture]]] = {}
        data = page_data(index, title=title, borders=borders, served=True)
        located = index.locate(borders.kept)
        data["near"] = [entry for entry in (self.entry(*place) for place in located.values()) if entry is not None]
        data["borders"] = [
            border_data(border, [self._stopped(clip.key) for clip in border.stopped]) for border in borders.borders
        ]
        self.page = document(data)

    async def apart(self, work: Callable[[], Value]) -> Value:
        """Run something that reads files in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def entry(self, number: int, sample: RawSample) -> Entry | None:
        """None for a sample whose record is damaged."""
        try:
            record = sample.record()
        except ShardError:
            return None
        entry = sample_entry(sample, record)
        entry["clip"] = f"clip/{number}/{sample.key}.mp4" if "mp4" in sample.members else ""
        entry["pictures"] = _addresses(f"picture/{number}/{sample.key}", record.seconds)
        return entry

    def _stopped(self, key: str) -> Entry:
        entry = stopped_entry(self.stopped[key])
        entry["pictures"] = _addresses(f"stopped/{key}", entry["seconds"])
        return entry

    def sample_pictures(self, number: int, key: str) -> list[Picture]:
        """Raises `KeyError` for a sample that is not there."""
        sample = self.index.sample(number, key)
        try:
            return pictures_of(sample, sample.record().seconds)
        except ShardError:
            return []

    async def pictures(self, number: int, key: str) -> list[Picture]:
        """The pictures of a sample, or of a stopped clip where `number` is −1; made once for all who ask meanwhile."""
        place = (number, key)
        task = self._pictures.pop(place, None)
        if task is None or task.cancelled() or (task.done() and task.exception() is not None):
            make = partial(self.borders.pictures, key) if number < 0 else partial(self.sample_pictures, number, key)
            task = asyncio.ensure_future(self.apart(make))
        self._pictures[place] = task
        while len(self._pictures) > CACHED_CLIPS:
            del self._pictures[next(iter(self._pictures))]
        return await asyncio.shield(task)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _addresses(stem: str, seconds: float) -> list[dict[str, Any]]:
    """Addresses of pictures that are yet to be made, with the times that they will be nearest to."""
    return [{"time": time, "src": f"{stem}/{at}.jpg"} for at, time in enumerate(targets(seconds))]


class Handler(RequestHandler):  # type: ignore[misc]  # mypy is told to skip tornado
    """Refuses foreign hosts and every method but GET and HEAD; sends the headers that keep pages to themselves."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    def initialize(self, library: Library, allowed: Callable[[str], bool]) -> None:
        self.library, self.allowed = library, allowed

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Content-Security-Policy", policy(served=True) + "; frame-ancestors 'none'")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")

    def prepare(self) -> None:
        if not self.allowed(self.request.headers.get("Host", "")):
            raise HTTPError(403, reason="Host not allowed")

    def write_error(self, status_code: int, **_: Any) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code}\n")

    def log_exception(self, *details: Any) -> None:
        # What was asked wrongly is the asker's to know; only our own failures are worth a line.
        if not isinstance(details[1], HTTPError | StreamClosedError):
            super().log_exception(*details)


class Page(Handler):
    def get(self) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.write(self.library.page)

    head = get


class Samples(Handler):
    """`api/samples?text=&language=&license=&score=&low=&high=&order=&offset=&limit=`: a page of entries."""

    async def get(self) -> None:
        query = self._query()
        offset, limit = self._whole("offset", 0, 2**31 - 1), self._whole("limit", 48, PAGE_LIMIT)
        found = await self.library.apart(partial(self._found, query, offset, limit))
        self.set_header("Content-Type", "application/json")
        self.write(json.dumps(found, ensure_ascii=True, allow_nan=False))

    head = get

    def _found(self, query: Query, offset: int, limit: int) -> dict[str, Any]:
        total, samples = self.library.index.page(query, offset, limit)
        entries = [self.library.entry(number, sample) for number, sample in samples]
        return {"total": total, "entries": [entry for entry in entries if entry is not None]}

    def _query(self) -> Query:
        order = self.get_query_argument("order", "key")
        score = self.get_query_argument("score", "primary")
        if order not in ORDERS or score not in SCORES:
            raise HTTPError(400)
        return Query(
            text=self.get_query_argument("text", "")[:1000],
            language=self.get_query_argument("language", None),
            license=self.get_query_argument("license", None),
            score=score,
            low=self._bound("low"),
            high=self._bound("high"),
            order=order,
        )

    def _bound(self, name: str) -> float | None:
        text = self.get_query_argument(name, None)
        try:
            value = None if text is None else float(text)
        except ValueError:
            raise HTTPError(400) from None
        if value is not None and not math.isfinite(value):
            raise HTTPError(400)
        return value

    def _whole(self, name: str, default: int, most: int) -> int:
        text = self.get_query_argument(name, str(default))
        if not re.fullmatch(r"[0-9]{1,10}", text):
            raise HTTPError(400)
        return min(int(text), most)


class Pictures(Handler):
    async def get(self, number: str, key: str, at: str) -> None:
        try:
            found = await self.library.pictures(int(number), key)
            jpeg = found[int(at)].jpeg
        except (KeyError, IndexError):
            raise HTTPError(404) from None
        self.set_header("Content-Type", "image/jpeg")
        self.set_header("Cache-Control", "private, max-age=3600")
        self.write(jpeg)

    head = get


class StoppedPictures(Pictures):
    async def get(self, key: str, at: str) -> None:  # type: ignore[override]  # its addresses have no shard
        if key not in self.library.stopped:
            raise HTTPError(404)
        await super().get("-1", key, at)

    head = get  # type: ignore[assignment]  # as get


class Clip(Handler):
    """The `.mp4` of a sample, read out of its tar; byte ranges, so that players seek."""

    async def get(self, number: str, key: str) -> None:
        try:
            sample = await self.library.apart(partial(self.library.index.sample, int(number), key))
            size = sample.members["mp4"].size
        except KeyError:
            raise HTTPError(404) from None
        self.set_header("Content-Type", "video/mp4")
        self.set_header("Accept-Ranges", "bytes")
        first, last = 0, size - 1
        asked = byte_range(self.request.headers.get("Range", ""), size)
        if asked is not None:
            first, last = asked
            if first > last:
                self.set_status(416)
                self.set_header("Content-Range", f"bytes */{size}")
                return
            self.set_status(206)
            self.set_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.set_header("Content-Length", str(last - first + 1))
        if self.request.method == "HEAD":
            return
        with sample.open("mp4") as file:
            file.seek(first)
            left = last - first + 1
            while left > 0:
                block = await self.library.apart(partial(file.read, min(BLOCK, left)))
                if not block:
                    raise HTTPError(500)
                left -= len(block)
                self.write(block)
                try:
                    await self.flush()
                except StreamClosedError:
                    return  # the player has what it wanted

    head = get


class Nothing(Handler):
    def get(self) -> None:
        raise HTTPError(404)

    head = get


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a Range header; None where the whole is meant (no, a malformed or a multiple range).

    A range that holds nothing of the file gives `first > last`.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size - 1 if int(match[2]) else -1
    first, last = int(match[1]), int(match[2]) if match[2] else size - 1
    if match[2] and last < first:
        return None
    return (first, min(last, size - 1)) if first < size else (1, 0)


def host_rule(bound: str, port: int) -> Callable[[str], bool]:
    """Which Host headers are ours: loopback names for a loopback address, else the address as it was given.

    A wildcard address takes any numeric host: rebinding needs a name.
    """
    literal = _address(bound)

    def allowed(header: str) -> bool:
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?", header)
        if match is None or int(match[2] or 80) != port:
            return False
        name = match[1].strip("[]").lower()
        address = _address(name)
        if literal is None:
            return name == bound.lower() or (bound.lower() == "localhost" and bool(address and address.is_loopback))
        if literal.is_unspecified:
            return address is not None or name == "localhost"
        if literal.is_loopback:
            return name == "localhost" or bool(address and address.is_loopback)
        return address == literal

    return allowed


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def application(library: Library, allowed: Callable[[str], bool]) -> Application:
    shared = {"library": library, "allowed": allowed}
    key = r"([A-Za-z0-9_-]{1,64}_[0-9]{8}_[0-9]{8})"
    routes: list[Any] = [
        (r"/", Page, shared),
        (r"/api/samples", Samples, shared),
        (rf"/picture/([0-9]{{1,9}})/{key}/([0-9]{{1,2}})\.jpg", Pictures, shared),
        (rf"/stopped/{key}/([0-9]{{1,2}})\.jpg", StoppedPictures, shared),
        (rf"/clip/([0-9]{{1,9}})/{key}\.mp4", Clip, shared),
    ]
    return Application(routes, default_handler_class=Nothing, default_handler_args=shared, log_function=_quiet)


def _quiet(_: RequestHandler) -> None:
    """No line per request."""


async def serve(
    index: ShardIndex,
    *,
    title: str,
    host: str = "127.0.0.1",
    port: int = 0,
    borders: Borders | None = None,
    ready: Callable[[str], None] = lambda _: None,
    until: Awaitable[Any] | None = None,
) -> None:
    """Serve until `until` is done (or for good); `ready` is told the address. Port 0 takes a free one.

    Raises `UsageError` where the address cannot be had.
    """
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(where[:2], family=family)
    except OSError as error:
        raise UsageError(f"cannot listen on `{host}:{port}`: {error.strerror}", hint="name another --port") from error
    listening.setblocking(False)
    port = listening.getsockname()[1]
    library = Library(index, title=title, borders=borders or Borders())
    server = HTTPServer(application(library, host_rule(host, port)), max_header_size=65536, max_body_size=0)
    server.add_socket(listening)
    ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/")
    try:
        await (until or asyncio.Event().wait())
    finally:
        server.stop()
        await server.close_all_connections()
        library.close()
