"""Sidecars: captions read and written back, other people's damage told by line, nothing raised but our own error."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidcap.errors import ManifestError
from vidcap.media.cues import MAX_FAULTS, Cue, parse_srt, parse_vtt, plain, to_vtt
from vidcap.media.sidecars import (
    INFO_ITEMS,
    INFO_LENGTH,
    MAX_BYTES,
    Gathered,
    by_video,
    gather,
    language_of,
    license_in,
    of_video,
    spoken,
)

MILLISECONDS = st.integers(0, 360_000_000)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60).map(plain).filter(bool)
CUES = st.lists(
    st.tuples(MILLISECONDS, st.integers(1, 60_000), TEXT).map(lambda c: Cue(c[0] / 1000, (c[0] + c[1]) / 1000, c[2])),
    max_size=12,
).map(lambda cues: sorted(cues, key=lambda cue: (cue.start, cue.end)))


def srt_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d},{rest % 1000:03d}"


@settings(deadline=None)
@given(CUES)
def test_what_is_written_is_read_again(cues: list[Cue]) -> None:
    found = parse_vtt(to_vtt(cues, "en"))
    assert found.cues == cues
    assert found.language == "en"
    assert found.faults == []


@settings(deadline=None)
@given(CUES.filter(bool), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_subrip_is_read_with_every_line_end(cues: list[Cue], end: str, numbered: bool) -> None:
    blocks = []
    for number, cue in enumerate(cues, 1):
        text = cue.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("{\\", "{&#92;")
        head = [str(number)] if numbered else []
        blocks.append(end.join([*head, f"{srt_time(cue.start)} --> {srt_time(cue.end)}", text, ""]))
    found = parse_srt(end.join(blocks))
    assert found.cues == cues
    assert found.faults == []


def read_bytes(folder: Path, name: str, data: bytes) -> Gathered:
    (folder / name).write_bytes(data)
    return gather(folder, of_video(by_video([name]), "a.mp4"))


@settings(deadline=None)
@given(data=st.binary(max_size=300), form=st.sampled_from(["a.vtt", "a.srt", "a.json", "a.license"]))
def test_arbitrary_bytes_are_told_not_raised(tmp_path_factory: pytest.TempPathFactory, data: bytes, form: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "bytes"
    folder.mkdir(exist_ok=True)
    for head in (b"", b"WEBVTT\n\n00:01.000 --> 00:02.000\n", b'{"segments": [', b"\xff\xfe", b"\xfe\xff"):
        found = read_bytes(folder, form, head + data)
        assert all(fault.what and fault.line >= 0 and fault.file == form for fault in found.faults)


@settings(deadline=None)
@given(
    st.text(max_size=300)
    | st.lists(st.sampled_from(["-->", "\n", "<", "WEBVTT", "00:01.000", " ", "{\\", "1"])).map("".join)
)
def test_arbitrary_text_gives_cues_or_our_error(text: str) -> None:
    for parse, head in ((parse_vtt, "WEBVTT\n"), (parse_vtt, ""), (parse_srt, "")):
        try:
            found = parse(head + text)
        except ManifestError as error:
            assert error.hint
            continue
        assert all(0 <= cue.start < cue.end and cue.text == " ".join(cue.text.split()) for cue in found.cues)
        assert found.cues == sorted(found.cues, key=lambda cue: (cue.start, cue.end))


def test_markup_comments_and_styles_are_no_words() -> None:
    text = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

NOTE
nobody says this

intro
00:01.000 --> 00:02.000 align:start position:10%
<v Ann>I <i>said</i> &quot;a &lt; b&quot; &amp;c</v>
{\\an8}<font color="#fff"
face="x">twice</font>

1:00:00.000 --> 1:00:01.500
5 < 6 and <3
"""
    found = parse_vtt(text)
    assert found.cues == [Cue(1.0, 2.0, 'I said "a < b" &c twice'), Cue(3600.0, 3601.5, "5 < 6 and <3")]
    assert found.faults == []


def test_captions_that_roll_are_said_once() -> None:
    text = """WEBVTT
Kind: captions
Language: en

00:00:00.160 --> 00:00:02.310 align:start position:0%
{space}
hello<00:00:00.480><c> there</c>

00:00:02.310 --> 00:00:02.320 align:start position:0%
hello there
{space}

00:00:02.320 --> 00:00:04.000 align:start position:0%
hello there
how<00:00:03.000><c> are</c>
"""
    found = parse_vtt(text.replace("{space}", " "))  # a line of a space is a line of the cue
    assert [cue.text for cue in found.cues] == ["hello there", "how are"]
    untimed = "1\n00:00:01,000 --> 00:00:02,000\nNo.\n\n2\n00:00:02,000 --> 00:00:03,000\nNo.\n"
    assert [cue.text for cue in parse_srt(untimed).cues] == ["No.", "No."], "a repeated word is no rolling line"


def test_what_is_wrong_is_told_by_line_and_the_rest_is_kept() -> None:
    text = (
        "1\n00:00:05,000 --> 00:00:06,000\nlate\n\n"
        "2\n00:00:01,000 --> 00:00:02,000\nearly\n\n"
        "3\n00:00:09,000 --> 00:00:08,000\nbackwards\n\n"
        "4\n00:00:xx,000 --> 00:00:08,000\nunreadable\n\n"
        "a stray line\nand another\n\n"
        "5\n00:00:10,000 --> 00:00:11,000\nlast\n"
    )
    found = parse_srt(text)
    assert [cue.text for cue in found.cues] == ["early", "late", "last"]
    assert [line for line, _ in found.faults] == [6, 10, 14, 17]
    many = parse_srt("00:00:02,000 --> 00:00:01,000\nx\n\n" * (MAX_FAULTS + 50))
    assert len(many.faults) == MAX_FAULTS


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    found = read_bytes(tmp_path, "a.fr.srt", "1\n00:00:01,000 --> 00:00:02,000\nça va très bien\n".encode(encoding))
    assert [(given.language, given.file) for given in found.transcripts] == [("fr", "a.fr.srt")]
    assert parse_vtt(found.transcripts[0].text).cues == [Cue(1.0, 2.0, "ça va très bien")]
    told = [(fault.line, fault.what) for fault in found.faults]
    assert told == ([(3, "not UTF-8, read as Latin-1")] if encoding == "latin-1" else [])


def test_bombs_are_left_out(tmp_path: Path) -> None:
    with (tmp_path / "a.vtt").open("wb") as handle:
        handle.write(b"WEBVTT\n")
        handle.truncate(MAX_BYTES + 1)
    (tmp_path / "a.json").write_text("[" * 1_000_000)
    (tmp_path / "a.info.json").write_text('{"id": ' + "9" * 5000 + "}")
    os.mkfifo(tmp_path / "a.srt")
    found = gather(tmp_path, of_video(by_video(os.listdir(tmp_path)), "a.mp4"))
    assert not found.transcripts and not found.info
    told = {fault.file: fault.what for fault in found.faults}
    assert "larger" in told["a.vtt"] and "deep" in told["a.json"] and "long" in told["a.info.json"]
    assert "regular" in told["a.srt"]


def test_no_text_of_a_caption_file_takes_long(tmp_path: Path) -> None:
    for data in (
        "<!--" * 100_000,
        "<a" * 100_000,
        "{\\" * 100_000,
        "x\n" * 100_000,
        "00:01.000 --> 00:02.000\n" * 5_000,
    ):
        found = read_bytes(tmp_path, "a.vtt", b"WEBVTT\n\n00:01.000 --> 00:02.000\n" + data.encode())
        assert isinstance(found, Gathered)


def test_json_of_recognisers_and_downloaders(tmp_path: Path) -> None:
    heard = {
        "text": "hi there",
        "language": "de",
        "segments": [
            {"start": 0, "end": 1.5, "text": " <b>hi</b> "},
            {"start": 2, "duration": 1, "text": "there"},
            {"start": 3, "end": 2, "text": "back"},
            {"text": "no times"},
            7,
            {"start": True, "end": 2, "text": "x"},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(heard))
    (tmp_path / "a.info.json").write_text(
        json.dumps(
            {
                "title": "A <i>t</i>\nitle",
                "license": "CC-BY",
                "tags": ["x" * 500] * 50,
                "description": "d" * 5000,
                "formats": [{"url": "https://example.org/secret"}],
                "http_headers": {"Cookie": "s"},
                "upload_date": "20240101",
            }
        )
    )
    found = gather(tmp_path, of_video(by_video(["a.json", "a.info.json"]), "a.mp4"))
    (given,) = found.transcripts
    assert given.language == "de"
    assert parse_vtt(given.text).cues == [Cue(0.0, 1.5, "hi"), Cue(2.0, 3.0, "there")]
    assert len(found.faults) == 4
    assert found.license == "CC-BY"
    assert set(found.info) == {"title", "tags", "description", "upload_date", "language"}
    assert found.info["title"] == "A t itle"
    assert len(found.info["description"]) == INFO_LENGTH and len(found.info["tags"]) == INFO_ITEMS
    assert read_bytes(tmp_path, "a.json", b'{"text": "only words"}').transcripts[0].text == "only words"
    for other in (b"[1, 2]", b'{"shots": [[0, 5]]}', b"3", b"null"):
        left_alone = read_bytes(tmp_path, "a.json", other)
        assert not left_alone.transcripts and not left_alone.info


def test_which_files_belong_to_a_video() -> None:
    names = ["a.vtt", "a.en.vtt", "a.en-US.srt", "a.mp4.vtt", "a.shots.json", "a.info.json", "a.license", "ab.vtt",
             "a.mp4.license", "a.license.txt", "b.deu.srt", "a.live_chat.json", "a.txt", "a.cc.vtt"]  # fmt: skip
    found = by_video(names)
    assert {sidecar.name for sidecar in of_video(found, "a.mp4")} == {
        "a.vtt", "a.en.vtt", "a.en-US.srt", "a.mp4.vtt", "a.info.json", "a.license", "a.mp4.license", "a.license.txt",
    }  # fmt: skip
    assert [(s.name, s.language) for s in of_video(found, "b.mkv")] == [("b.deu.srt", "de")]
    assert [language_of(tag) for tag in ("en", "EN-gb", "eng", "fra", "xyz", "english", "")] == [
        "en", "en", "en", "fr", "", "", "",
    ]  # fmt: skip


def test_the_transcript_is_of_the_language_that_is_spoken(tmp_path: Path) -> None:
    for language in ("de", "en", "fr"):
        (tmp_path / f"a.{language}.vtt").write_text(f"WEBVTT\n\n00:01.000 --> 00:02.000\n{language}\n")
    found = gather(tmp_path, of_video(by_video(os.listdir(tmp_path)), "a.mp4")).transcripts

    def chosen(*languages: str) -> str:
        given = spoken(found, languages)
        return given.language if given else ""

    assert chosen("fra") == "fr"
    assert chosen("ja", "deu") == "de"
    assert chosen() == "en"
    assert spoken([], ["en"]) is None


def test_licences(tmp_path: Path) -> None:
    assert license_in("SPDX-FileCopyrightText: me\n# SPDX-License-Identifier: CC-BY-4.0\n") == "CC-BY-4.0"
    assert license_in("\nMIT License\n\nPermission is hereby granted") == "MIT License"
    for none in ("", "x" * 1000):
        with pytest.raises(ManifestError):
            license_in(none)
    (tmp_path / "a.info.json").write_text('{"license": {"name": "from the description"}}')
    assert gather(tmp_path, of_video(by_video(["a.info.json"]), "a.mp4")).license == "from the description"
    (tmp_path / "a.license").write_text("CC0-1.0\n")
    assert gather(tmp_path, of_video(by_video(os.listdir(tmp_path)), "a.mp4")).license == "CC0-1.0"
