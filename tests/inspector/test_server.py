"""The local page: ranges, what is not there, and everything that tries to get in from outside."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hostile_run
import pytest
import shard_factory as factory
from local_page import local_page

from vidcap.errors import UsageError
from vidcap.inspector.server import byte_range, host_rule, serve
from vidcap.shards.schema import SampleJson

CLIP = factory.tiny_mp4(frames=hostile_run.SECONDS * factory.FPS)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[SampleJson]]:
    folder = tmp_path_factory.mktemp("served")
    return folder, hostile_run.write_hostile(folder / "shards")


@pytest.fixture(scope="module")
def address(records: tuple[Path, list[SampleJson]]) -> Iterator[str]:
    folder, samples = records
    with local_page(folder, borders=hostile_run.hostile_borders(samples, JPEG)) as found:
        yield found


JPEG = b"\xff\xd8\xff\xe0 as good as a picture here"


class Answer:
    def __init__(self, address: str, path: str, method: str = "GET", **headers: str) -> None:
        parts = urlsplit(address)
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=120)
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        reply = connection.getresponse()
        self.code, self.headers, self.body = reply.status, reply.headers, reply.read()
        connection.close()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def clip_path(records: tuple[Path, list[SampleJson]], number: int = 4) -> str:
    return f"/clip/{number // 3}/{records[1][number].key}.mp4"


def test_the_page_is_whole_and_its_policy_strict(address: str) -> None:
    page = Answer(address, "/")
    assert page.code == 200 and page.body.startswith(b"<!doctype html>")
    rules = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in rules and "frame-ancestors 'none'" in rules and "unsafe" not in rules
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Server" not in page.headers


def test_samples_come_in_pages_with_addresses_not_bytes(address: str, records: Any) -> None:
    found = Answer(address, "/api/samples?offset=2&limit=2").json
    assert found["total"] == 6
    assert [entry["key"] for entry in found["entries"]] == [record.key for record in records[1][2:4]]
    assert found["entries"][0]["clip"] == clip_path(records, 2)[1:]
    assert Answer(address, "/api/samples?text=n3+hums&language=fr&low=0.3&high=0.3").json["total"] == 1
    assert [e["key"] for e in Answer(address, "/api/samples?order=highest&limit=1").json["entries"]] == [
        records[1][5].key
    ]


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=x", "offset=1e3", "low=nan", "low=x", "order=__class__", "score=key", "high=inf"]
)
def test_odd_questions_are_refused(address: str, query: str) -> None:
    assert Answer(address, f"/api/samples?{query}").code == 400


def test_a_clip_comes_whole(address: str, records: Any) -> None:
    whole = Answer(address, clip_path(records))
    assert (whole.code, whole.body) == (200, CLIP)
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert whole.headers["Content-Type"] == "video/mp4"
    head = Answer(address, clip_path(records), "HEAD")
    assert (head.code, head.body, int(head.headers["Content-Length"])) == (200, b"", len(CLIP))


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, len(CLIP) - 1),
        ("bytes=-50", len(CLIP) - 50, len(CLIP) - 1),
        (f"bytes=10-{len(CLIP) + 999}", 10, len(CLIP) - 1),
        (f"bytes=-{len(CLIP) + 5}", 0, len(CLIP) - 1),
    ],
)
def test_ranges(address: str, records: Any, asked: str, first: int, last: int) -> None:
    part = Answer(address, clip_path(records), Range=asked)
    assert (part.code, part.body) == (206, CLIP[first : last + 1])
    assert part.headers["Content-Range"] == f"bytes {first}-{last}/{len(CLIP)}"


def test_ranges_that_hold_nothing_and_ranges_that_are_none(address: str, records: Any) -> None:
    for asked in (f"bytes={len(CLIP)}-", "bytes=-0"):
        none = Answer(address, clip_path(records), Range=asked)
        assert (none.code, none.body, none.headers["Content-Range"]) == (416, b"", f"bytes */{len(CLIP)}")
    for asked in ("bytes=5-2", "bytes=a-b", "bytes=0-1,5-6", "lines=1-2", "bytes=-"):
        assert Answer(address, clip_path(records), Range=asked).code == 200
    assert byte_range("bytes=0-0", 1) == (0, 0)


def test_what_is_not_there_is_404(address: str, records: Any) -> None:
    key = records[1][4].key
    gone = "f" * 16 + "_00000000_00000009"
    for path in (
        f"/clip/1/{gone}.mp4",
        f"/clip/0/{key}.mp4",  # it lies in the other shard
        f"/clip/7/{key}.mp4",
        f"/clip/-1/{key}.mp4",
        f"/picture/1/{gone}/0.jpg",
        f"/picture/1/{key}/6.jpg",
        f"/stopped/{key}/0.jpg",
        f"/clip/1/{key}.json",
        "/nothing",
    ):
        assert Answer(address, path).code == 404, path


def test_pictures_of_samples_and_stopped_clips(address: str, records: Any) -> None:
    picture = Answer(address, f"/picture/1/{records[1][4].key}/2.jpg")
    assert picture.code == 200 and picture.body.startswith(b"\xff\xd8")
    assert Answer(address, "/stopped/9f2c4e1ab07d3355_00009000_00009039/0.jpg").body == JPEG
    assert Answer(address, "/stopped/9f2c4e1ab07d3355_00009000_00009039/1.jpg").code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/clip/0/../../../../etc/passwd",
        "/clip/0/..%2f..%2f..%2fetc%2fpasswd.mp4",
        "/clip/0/%2e%2e/%2e%2e/sizes.json",
        "/clip/%2e%2e/x.mp4",
        "/picture/0//etc/passwd/0.jpg",
        "/shards/sizes.json",
        "/page/page.js",
        "/static/page.css",
        "/clip/0/demo-000000-00.tar",
        "/clip/0/\x00.mp4".replace("\x00", "%00"),
        "//etc/passwd",
        "http://127.0.0.1/etc/passwd",
    ],
)
def test_paths_lead_nowhere(address: str, path: str) -> None:
    found = Answer(address, path)
    assert found.code in (400, 403, 404)
    assert b"root:" not in found.body and b"demo-000000" not in found.body


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example:{port}", "", "127.0.0.1:1"]
)
@pytest.mark.parametrize("path", ["/", "/api/samples", "/nothing", "clip"])
def test_foreign_hosts_are_refused(address: str, records: Any, host: str, path: str) -> None:
    port = urlsplit(address).port
    path = clip_path(records) if path == "clip" else path
    found = Answer(address, path, Host=host.format(port=port))
    assert found.code in (400, 403)
    assert b"bar" not in found.body and len(found.body) < 100


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "LOCALHOST"])
def test_this_machine_by_any_of_its_names(address: str, host: str) -> None:
    assert Answer(address, "/", Host=f"{host}:{urlsplit(address).port}").code == 200


@pytest.mark.parametrize(
    ("bound", "header", "wanted"),
    [
        ("127.0.0.1", "192.168.1.7:80", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("0.0.0.0", "192.168.1.7:80", True),
        ("0.0.0.0", "evil.example:80", False),
        ("192.168.1.7", "192.168.1.7:80", True),
        ("192.168.1.7", "localhost:80", False),
        ("::1", "[::1]:80", True),
        ("box.lan", "box.lan:80", True),
        ("box.lan", "evil.example:80", False),
        ("127.0.0.1", "127.0.0.1:80@evil.example", False),
    ],
)
def test_host_rule(bound: str, header: str, wanted: bool) -> None:
    assert host_rule(bound, 80)(header) is wanted


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_only_reads(address: str, method: str) -> None:
    assert Answer(address, "/", method).code == 405


def test_only_this_machine_is_listened_to(address: str) -> None:
    port = urlsplit(address).port
    assert urlsplit(address).hostname == "127.0.0.1"
    others = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for other in others - {"127.0.0.1"}:
        with pytest.raises(OSError), socket.create_connection((other, int(port or 0)), timeout=2):
            pass


def test_a_taken_port_is_said(address: str, records: Any) -> None:
    import asyncio

    from vidcap.inspector.index import ShardIndex

    port = urlsplit(address).port
    with pytest.raises(UsageError, match=f"cannot listen on `127.0.0.1:{port}`"):
        asyncio.run(serve(ShardIndex([records[0]]), title="x", port=int(port or 0)))
