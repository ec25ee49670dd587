"""The terminal view: everything of a sample is there, and nothing in it can steer the terminal."""

from __future__ import annotations

import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import shard_factory as factory
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vidcap.inspector import terminal
from vidcap.shards.reader import Member, RawSample
from vidcap.shards.schema import SampleJson

EVIL = "\x1b]0;owned\x07\x1b[2J\u202eesrever\u2066 [bold red]x[/] [link=file:///etc]y[/link] :smile: \r\n\x9b31m\u2028"


def raw() -> RawSample:
    return RawSample(Path("demo-000000-00.tar"), factory.record().key, {"mp4": Member(512, 10_073)})


def shown(record: SampleJson, *, full: bool = False, colour: bool = False, width: int = 100) -> str:
    target = io.StringIO()
    console = terminal.make_console(width=width)
    if colour:
        console = Console(force_terminal=True, color_system="256", markup=False, emoji=False, width=width)
    console.file = target
    terminal.show(console, raw(), record, full=full)
    return target.getvalue()


def record(**parts: Any) -> SampleJson:
    tree = factory.raw_record(s="so it moves")
    for name, value in parts.items():
        tree[name] = tree[name] | value
    return SampleJson.model_validate(tree)


@given(st.text())
def test_printable_leaves_no_control_and_loses_nothing(text: str) -> None:
    out = terminal.printable(text)
    assert not [c for c in out if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f") & set(out)
    plain = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))
    assert len(out) >= len(text)
    assert [c for c in plain if c not in out] == []


def test_printable_keeps_ordinary_writing() -> None:
    text = "Ein Käse, 猫が鳴く, مرحبا, 👩‍👩‍👧 [x] <b>"
    assert terminal.printable(text) == text
    assert terminal.printable("a\x1b[2J\nb\u202ec") == r"a\x1b[2J\nb\u202ec"


def test_a_listing_shows_captions_scores_and_span() -> None:
    out = shown(record())
    for wanted in (
        factory.record().key,
        "videos/a.mp4",
        "0.000-1.000 s",
        "frames 0-9",
        "64x48, h264, 10/1 fps",
        "a bar moves to the right  [0.2500]",
        "v *",
        "so it moves",
        "en (0.970), trusted, route keep",
        "3.125",
        "embedded backends",
    ):
        assert wanted in out
    assert "sha256" not in out


def test_full_adds_words_members_and_origin() -> None:
    out = shown(record(), full=True)
    for wanted in (
        "0.10-0.40 bar (0.90)",
        "0" * 64,
        "CC0-1.0",
        "video_captioner",
        ".mp4 10073 B",
        "demo-000000-00.tar",
    ):
        assert wanted in out


def test_missing_values_are_said_not_printed_as_numbers() -> None:
    tree = factory.raw_record()
    tree["scores"]["motion"] = -1.0
    tree["scores"]["similarity_v"] = -1.0
    out = shown(SampleJson.model_validate(tree))
    assert "[-1.0" not in out
    assert "to the right  [" not in out
    assert "not measured" in out


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("colour", [False, True])
def test_evil_text_is_inert_everywhere(full: bool, colour: bool) -> None:
    tree = factory.raw_record(s=EVIL, a=EVIL, av=EVIL, avs=EVIL, v=EVIL)
    tree["source"] |= {"uri": EVIL, "license": EVIL, "meta": json.dumps({"x": EVIL}, ensure_ascii=False)}
    tree["transcript"] |= {"language": EVIL, "english": EVIL + "!"}
    tree["transcript"]["words"][0]["word"] = EVIL
    tree["audio"]["codec"] = tree["video"]["codec"] = EVIL
    out = shown(SampleJson.model_validate(tree), full=full, colour=colour, width=4000)
    for code in ("\x1b]", "\x1b[2J", "\u202e", "\u2066", "\x07", "\x9b", "\r", "\u2028"):
        assert code not in out
    assert "[bold red]x[/] [link=file:///etc]y[/link] :smile:" in out
    assert (r"\x1b]0;owned\x07" in out) and (r"\u202eesrever" in out)
    assert ("\x1b[" in out) == colour


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    console = terminal.make_console(width=80)
    with console.capture() as capture:
        terminal.show(console, raw(), record())
    assert "\x1b[3" not in capture.get()


def test_a_listing_shortens_what_one_sample_shows_in_full() -> None:
    long = record(captions={"v": "word " * 500 + "END"})
    assert "END" not in shown(long)
    assert "…" in shown(long)
    assert "END" in shown(long, full=True)


def test_json_line_is_one_ascii_line_that_parses_back() -> None:
    wanted = record(captions={"v": EVIL + "\x7f"})
    line = terminal.json_line(wanted)
    assert line.isascii() and line.isprintable()
    assert json.loads(line) == json.loads(wanted.to_bytes())


def test_extract_writes_whole_files(tmp_path: Path) -> None:
    tar = tmp_path / "x.tar"
    tar.write_bytes(b"abcdefghij" * 300_000)
    sample = RawSample(tar, factory.record().key, {"mp4": Member(1, 2_500_000), "txt": Member(3, 2)})
    written = terminal.extract(sample, tmp_path / "out")
    assert [path.name for path in written] == [f"{sample.key}.mp4", f"{sample.key}.txt"]
    assert written[0].read_bytes() == tar.read_bytes()[1:2_500_001]
    assert written[1].read_bytes() == b"de"
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_sample_of_a_pipeline_without_captions_says_so_once() -> None:
    bare = record(captions=dict.fromkeys(("v", "a", "s", "av", "avs"), ""), provenance={"stages": '{"pack": 2}'})
    out = shown(bare)
    assert "captions" in out and "none" in out
    assert "measured, not understood" not in out
    assert "measured, not understood" in shown(record())
