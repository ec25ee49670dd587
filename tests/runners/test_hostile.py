"""A folder of broken, odd and evil files is run like any other: each ends with its own outcome, and nothing is opened
that was not listed."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from command import Command

DONE = "done"
EVIL_NAMES = (
    "space name.mp4", "-leading-dash.mp4", "unié中文😀.mp4", "new\nline.mp4",
    "quote'\"s$(x)`y`;&|.mp4", "percent%03d.mp4",
    "glob*[a]?.mp4", "colon:file.mp4", ".hidden.mp4", "UPPER.MP4", "tab\tname.mp4", "a.tar.mp4", "n" * 240 + ".mp4",
    "__key__.mp4", "dots..mp4", "concat|pipe.mp4", "<script>alert(1)<script>.mp4", "\u202egnp.mp4",
)  # fmt: skip


@contextmanager
def watched(canary: Path) -> Iterator[Callable[[], bool]]:
    """Tells whether anybody opened or read the file, by the kernel's own word (inotify)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    access_or_open, nonblocking = 0x1 | 0x20, 0o4000
    handle = libc.inotify_init1(nonblocking)
    assert handle >= 0 and libc.inotify_add_watch(handle, os.fsencode(canary), access_or_open) >= 0

    def touched() -> bool:
        try:
            return bool(os.read(handle, 4096))
        except BlockingIOError:
            return False

    try:
        yield touched
    finally:
        os.close(handle)


def gif(width: int, height: int) -> bytes:
    """A hundred bytes that claim a canvas of that size."""
    frame = b"!\xf9\x04\0\x0a\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0"
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff" + 3 * frame + b";"


def make(folder: Path, good: bytes, canary: Path) -> dict[str, str]:
    """Fills the folder; returns name → the reason expected of the source, or `done`."""
    rng = random.Random(3)
    files: dict[str, tuple[bytes, str]] = {
        "zero_bytes.mp4": (b"", "media.empty"),
        "random_bytes.mp4": (rng.randbytes(20_000), "media.unrecognised"),
        "text.mkv": (b"Nothing to see here.\n" * 80, "media.unrecognised"),
        "page.mp4": (b"<!DOCTYPE html><html><body>Not Found</body></html>", "media.unrecognised"),
        "one_byte.webm": (b"\x1a", "media.unrecognised"),
        "hls.mp4": (f"#EXTM3U\n#EXTINF:10,\nfile://{canary}\n#EXT-X-ENDLIST\n".encode(), "media.forbidden_protocol"),
        "hls_bom.mp4": (f"\ufeff\n #EXTM3U\n#EXTINF:1,\n{canary}\n".encode(), "media.forbidden_protocol"),
        "concat.mkv": (f"ffconcat version 1.0\nfile '{canary}'\n".encode(), "media.forbidden_protocol"),
        "dash.mp4": (
            f'<?xml version="1.0"?><MPD><Period><BaseURL>file://{canary}</BaseURL></Period></MPD>'.encode(),
            "media.forbidden_protocol",
        ),
        "sdp.mp4": (
            b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5 RTP/AVP 96\n",
            "media.forbidden_protocol",
        ),
        "address.mp4": (f"subfile,,start,0,end,9,,:{canary}\n".encode(), "media.unrecognised"),
        "bomb.gif": (gif(16_000, 16_000), "media.too_large"),
        "no_index.mp4": (good[: len(good) // 2], "media.truncated"),
        "trailing_garbage.mp4": (good + rng.randbytes(30_000), DONE),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    expected = {name: outcome for name, (_, outcome) in files.items()}
    (folder / "directory.mp4").mkdir()
    (folder / "loop_a.mp4").symlink_to("loop_b.mp4")
    (folder / "loop_b.mp4").symlink_to("loop_a.mp4")
    (folder / "dangling.mp4").symlink_to("no_such_file.mp4")
    (folder / "around").symlink_to(".")
    os.mkfifo(folder / "fifo.mp4")
    expected |= {"directory.mp4": "media.not_a_file", "fifo.mp4": "media.not_a_file"}
    expected |= dict.fromkeys(("loop_a.mp4", "loop_b.mp4", "dangling.mp4"), "source.missing")
    for number, name in enumerate(EVIL_NAMES):
        (folder / name).write_bytes(good + bytes([number]))  # each its own bytes: no duplicates of each other
        expected[name] = DONE
    (folder / os.fsdecode(b"latin1_\xe9.mp4")).write_bytes(good + b"\xe9")
    expected["latin1_\\xe9.mp4"] = DONE
    return expected


def outcomes(output: Path) -> dict[str, str]:
    """Name of a source → its reason, or `done`."""
    import pyarrow.parquet as pq

    rows = [
        row
        for path in (output / "_vidcap" / "parts").glob("*/sources.parquet")
        for row in pq.read_table(path).to_pylist()
    ]
    return {row["uri"].rsplit("/", 1)[-1] if "/" in row["uri"] else row["uri"]: row["reason"] or DONE for row in rows}


def test_every_file_has_its_outcome_and_traps_open_nothing(vidcap: Command, corpus: Path, tmp_path: Path) -> None:
    folder, canary = tmp_path / "hostile", tmp_path / "canary.txt"
    folder.mkdir()
    canary.write_text("secret")
    expected = make(folder, (corpus / "silent_film.mp4").read_bytes(), canary)
    output = tmp_path / "out"
    with watched(canary) as touched:
        report = vidcap.run(output, folder, "--runner", "inline", "--set", "input.sources_per_part=64")
        assert not touched()
        canary.read_text()
        assert touched(), "the watch itself works"
    found = outcomes(output)
    assert {name: found.get(name) for name in expected} == expected
    assert set(found) == set(expected), "nothing else was listed"
    assert report["clips"]["kept"] >= len(EVIL_NAMES), "names of any kind come through to the shards"
    vidcap("validate", output, "--media")
    page = tmp_path / "page.html"
    vidcap("inspect", output, "--html", page)
    assert "<script>alert(1)" not in page.read_text()


EXPECTED_OF_TOOL: dict[str, str] = {
    **dict.fromkeys(("random_bytes.mp4", "text.mkv", "page.mp4", "one_byte.webm"), "media.unrecognised"),
    **dict.fromkeys(("directory.mp4", "fifo.mp4"), "media.not_a_file"),
    **dict.fromkeys(("loop_a.mp4", "loop_b.mp4", "dangling.mp4"), "source.missing"),
    **dict.fromkeys(("playlist.mp4", "concat.mp4"), "media.forbidden_protocol"),
    **dict.fromkeys(("bomb_16000x16000.gif", "black_8k.mp4"), "media.too_large"),
    **dict.fromkeys(("audio_only.mp4", "cover_only.mp4"), "media.no_video"),
    "zero_bytes.mp4": "media.empty",
    "truncated_no_moov.mp4": "media.truncated",
    "zero_frame_duration.mp4": "media.bad_timestamps",
    "bomb_65535x65535.gif": "media.no_frames",
    "size_2x2.mkv": "media.too_small",
}
"""What is refused; all else is used, in part where it is damaged, or is a duplicate of an earlier file."""


@pytest.mark.slow
@pytest.mark.data
def test_the_sixty_of_the_tool(vidcap: Command, real_videos: Path, tmp_path: Path) -> None:
    tool = real_videos.parent / "tools" / "make_hostile.py"
    if not tool.is_file() or shutil.which("ffmpeg") is None:
        pytest.skip("no tool that makes hostile files, or no ffmpeg program for it")
    folder, output = tmp_path / "set", tmp_path / "out"
    subprocess.run([sys.executable, str(tool), str(folder)], check=True, capture_output=True, timeout=300)
    listed: list[dict[str, Any]] = json.loads((folder / "hostile_manifest.json").read_text())
    report = vidcap.run(output, folder)
    assert report["sources"]["failed"] == report["sources"]["pending"] == report["clips"]["pending"] == 0
    found = outcomes(output)
    for entry in listed:
        name = entry["file"].split(" (raw byte")[0].rsplit("/", 1)[-1]
        if name == "loopdir":
            continue  # a link to its own folder: nothing to list
        wanted = EXPECTED_OF_TOOL.get(name)
        assert found[name] == wanted if wanted else found[name] in (DONE, "source.duplicate"), name
    vidcap("validate", output, "--media")
