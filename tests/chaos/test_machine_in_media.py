"""What FFmpeg says of memory and disks is not taken for damage of the file."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av.error
import pytest

from vidcap.media import audio, cut, decode
from vidcap.media.evidence import Evidence


@pytest.fixture
def decoded(tiny_corpus: Path, tmp_path: Path) -> Iterator[tuple[str, Evidence]]:
    path = str(tiny_corpus / "a.mp4")
    decode.decode_source(path, tmp_path / "evidence", decode.DecodeOptions())
    yield path, Evidence(tmp_path / "evidence")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.ENOMEM])
def test_the_cutter_blames_no_clip_for_a_full_disk(
    number: int, decoded: tuple[str, Evidence], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish(self: Any) -> None:
        av.error.err_check(-number)

    monkeypatch.setattr(cut.ClipFile, "finish", finish)
    path, known = decoded
    with cut.Cutter(path, known.tables, known.facts) as cutter, pytest.raises((OSError, MemoryError)):
        cutter.cut(0, 17, tmp_path / "clip.mp4")
    assert not (tmp_path / "clip.mp4").exists()


@pytest.mark.parametrize("which", ["picture", "sound"])
def test_missing_memory_is_no_damage(
    which: str, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starved(*given: Any) -> Any:
        av.error.err_check(-errno.ENOMEM)

    if which == "picture":
        inner = decode._Pass._decode
        monkeypatch.setattr(
            decode._Pass, "_decode", lambda self, container, _, counts: inner(self, container, starved, counts)
        )
    else:
        monkeypatch.setattr(audio.SoundTrack, "_take", starved)
    with pytest.raises(MemoryError):
        decode.decode_source(str(tiny_corpus / "a.mp4"), tmp_path / "evidence", decode.DecodeOptions())
