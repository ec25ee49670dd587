"""As much of the Hugging Face hub as its client asks for when it fetches a model, on this machine only."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TAG = "fedcba9876543210fedcba9876543210fedcba98"
LARGE = (".safetensors", ".bin", ".pt")
"""Files that the hub keeps in its large-file storage, and announces by their sha256."""


@dataclass
class Hub:
    """`models`: name → files. What is in `swapped` is served instead of what was announced."""

    address: str = ""
    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    swapped: dict[str, bytes] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def fetched(self) -> list[str]:
        """Files whose content was sent."""
        return sorted(line.rpartition("/")[2] for line in self.asked if line.startswith("GET") and "/resolve/" in line)


def _entry(name: str, data: bytes) -> dict[str, object]:
    """A file as the list of a model's files has it."""
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry: dict[str, object] = {"rfilename": name, "path": name, "type": "file", "size": len(data)}
    entry |= {"blobId": git, "oid": git}
    if name.endswith(LARGE):
        sha256 = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"sha256": sha256, "oid": sha256, "size": len(data), "pointerSize": 134}
    return entry


@contextmanager
def serve() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            """The test's output is not for this."""

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            path = urlsplit(self.path).path
            hub.asked.append(f"{self.command} {path}")
            hub.tokens.append(self.headers.get("Authorization", ""))
            status, headers, body = self._found(path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def _found(self, path: str) -> tuple[int, dict[str, str], bytes]:
            api = path.startswith("/api/models/")
            parts = path.removeprefix("/api/models/").strip("/").split("/")
            name, rest = "/".join(parts[:2]), parts[2:]
            files = hub.models.get(name)
            if files is None:
                return 404, {"X-Error-Code": "RepoNotFound"}, b""
            if name in hub.gated:
                return 403, {"X-Error-Code": "GatedRepo"}, b""
            revision = rest[1] if len(rest) > 1 else "main"
            commit = {"main": COMMIT, COMMIT: COMMIT, "v1": TAG, TAG: TAG}.get(revision)
            if commit is None:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            if api:
                entries = [_entry(file, data) for file, data in files.items()]
                answer: object = entries
                if not rest or rest[0] != "tree":
                    card = {"license": hub.licences[name]} if name in hub.licences else {}
                    answer = {"id": name, "modelId": name, "sha": commit, "siblings": entries, "cardData": card}
                return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()
            file = "/".join(rest[2:])
            entry = _entry(file, files[file])
            large = entry.get("lfs")
            etag = large["sha256"] if isinstance(large, dict) else entry["oid"]
            return 200, {"X-Repo-Commit": commit, "ETag": f'"{etag}"'}, hub.swapped.get(file, files[file])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
