"""What strangers' bytes meet first: each target takes bytes and may raise nothing but VidCap's own errors.

A target that lets another exception through, or takes longer than bytes of that size should, has found a fault.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

from vidcap.errors import VidcapError

Target = Callable[[bytes], None]
_FOLDER = Path(tempfile.mkdtemp(prefix="vidcap-fuzz-"))


def shard(data: bytes) -> None:
    """A tar as the shard reader scans and the validator checks it."""
    from vidcap.shards.reader import RawSample, scan
    from vidcap.shards.validate import validate

    path = _written("fuzzed-000000-00.tar", data)
    for item in scan(path):
        if isinstance(item, RawSample):
            for suffix, member in item.members.items():
                assert len(item.read(suffix)) == member.size
            with contextlib.suppress(VidcapError):
                item.record()
    with contextlib.suppress(VidcapError):
        validate([path])


def record(data: bytes) -> None:
    """The JSON of a sample."""
    from vidcap.shards.schema import SampleJson

    with contextlib.suppress(VidcapError, ValueError):
        SampleJson.model_validate_json(data)


def manifest(data: bytes) -> None:
    """The three forms of a manifest."""
    from vidcap.pipeline.manifest import read_manifest

    for suffix in (".csv", ".jsonl", ".parquet"):
        with contextlib.suppress(VidcapError):
            read_manifest(str(_written(f"fuzzed{suffix}", data)))


def config(data: bytes) -> None:
    """A pipeline YAML."""
    from vidcap.pipeline.config import load_config

    with contextlib.suppress(VidcapError):
        load_config(_written("fuzzed.yaml", data))


def prompt(data: bytes) -> None:
    """A prompt file."""
    from vidcap.prompts import parse

    with contextlib.suppress(VidcapError):
        parse(data, name="fuzzed", where="fuzzed.md").render({})


def boxes(data: bytes) -> None:
    """The top-level structure of MP4, Matroska and AVI, and what tells playlists."""
    from vidcap.media.sniff import ends_early, playlist_kind

    ends_early(io.BytesIO(data), len(data))
    playlist_kind(data[:4096])


def sidecar(data: bytes) -> None:
    """Subtitles, transcripts, descriptions and licences beside a video."""
    from vidcap.media.sidecars import by_video, gather, of_video

    names = [f"film.{suffix}" for suffix in ("vtt", "srt", "json", "info.json", "license")]
    for name in names:
        _written(name, data)
    gather(_FOLDER, of_video(by_video(names), "film.mp4"))


def media(data: bytes) -> None:
    """A whole decode pass. Slow: hundreds of bytes a second rather than millions."""
    from vidcap.media.decode import DecodeOptions, decode_source

    options = DecodeOptions(max_pixels=65_536, max_frames=200, max_bytes=1_000_000)
    with contextlib.suppress(VidcapError):
        decode_source(str(_written("fuzzed.mp4", data)), _FOLDER / "evidence", options, durable=False)


TARGETS: dict[str, Target] = {
    target.__name__: target for target in (shard, record, manifest, config, prompt, boxes, sidecar, media)
}


def seeds(name: str, repository: Path) -> list[bytes]:
    """Good inputs to start from."""
    demo = repository / "pipelines" / "demo" / "media"
    if name == "shard":
        found = sorted((repository / "shards" / "sample").glob("*.tar"))
        return [_lighter(path.read_bytes()) for path in found]
    if name == "record":
        return [member for tar in sorted((repository / "shards" / "sample").glob("*.tar")) for member in _records(tar)]
    if name == "manifest":
        return [
            b'uri,start,end,license,meta\na.mp4,0,3.5,CC0-1.0,\nb.mp4,,,,"{""a"": 1}"\n',
            b'{"uri": "a.mp4", "start": 1, "meta": {"a": [1, null]}}\n{"file": "b.mp4", "id": "b"}\n',
            _parquet(),
        ]
    if name == "config":
        return [(repository / "pipelines" / "demo.yaml").read_bytes()]
    if name == "prompt":
        return [path.read_bytes() for path in sorted((repository / "prompts").glob("*.md"))]
    if name == "sidecar":
        return [
            b"WEBVTT\n\n00:00.500 --> 00:02.000 align:start\n<v Ann>Hello</v>\n\n00:02.000 --> 00:03.000\nYes.\n",
            b"1\n00:00:00,500 --> 00:00:02,000\nHello\n\n2\n00:00:02,000 --> 00:00:03,000\nthere\n",
            b'{"language": "en", "segments": [{"start": 0.5, "end": 2, "text": "Hello"}, {"start": 2, "end": 3}]}',
            b'{"title": "A", "uploader": "B", "license": "CC0", "webpage_url": "https://example.org/a"}',
            b"SPDX-License-Identifier: CC-BY-4.0\n",
        ]
    smallest = sorted((path for path in demo.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    return [path.read_bytes()[:60_000] for path in smallest[:6]]


def _written(name: str, data: bytes) -> Path:
    path = _FOLDER / name
    path.write_bytes(data)
    return path


def _lighter(tar: bytes) -> bytes:
    """The members of a shard, without most of their media: mutations should hit structure."""
    import tarfile

    target = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(tar)) as given, tarfile.open(fileobj=target, mode="w") as made:
        for member in list(given)[:6]:
            content = given.extractfile(member).read()[:3000]  # type: ignore[union-attr]
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return target.getvalue()


def _records(tar: Path) -> list[bytes]:
    import tarfile

    with tarfile.open(tar) as given:
        return [given.extractfile(each).read() for each in given if each.name.endswith(".json")]  # type: ignore[union-attr]


def _parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = io.BytesIO()
    pq.write_table(pa.table({"uri": ["a.mp4", "b.mp4"], "start": [0.0, None], "license": ["", "CC0-1.0"]}), target)
    return target.getvalue()
