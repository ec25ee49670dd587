"""The one door to media: what it lets in, what it turns away and why."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
from media_factory import render

from vidcap.errors import MediaError
from vidcap.media.facts import MediaFacts
from vidcap.media.probe import open_media, probe
from vidcap.media.sniff import ends_early, playlist_kind


def reason_of(path: Path | str, do: Callable[[str], object] = probe) -> str:
    with pytest.raises(MediaError) as caught:
        do(str(path))
    return caught.value.reason


def test_facts_of_a_plain_video(tmp_path: Path) -> None:
    facts = probe(str(render(tmp_path / "a.mp4", frames=10, audio="sine")))
    assert (facts.container, facts.video_codec, facts.pix_fmt) == ("mov,mp4,m4a,3gp,3g2,mj2", "h264", "yuv420p")
    assert (facts.width, facts.height, facts.sar, facts.rotation) == (320, 180, 1, 0)
    assert (facts.has_audio, facts.audio_codec, facts.sample_rate, facts.channels) == (True, "aac", 48_000, 1)
    assert not facts.interlaced and not facts.hdr and len(facts.extradata) == 64
    assert MediaFacts.from_json(facts.to_json()) == facts


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_and_pixel_shape(tmp_path: Path, degrees: int) -> None:
    signed = degrees - 360 if degrees > 180 else degrees
    facts = probe(str(render(tmp_path / "a.mp4", frames=3, rotation=signed, sar=Fraction(4, 3))))
    assert (facts.rotation, facts.sar, facts.width, facts.height) == (degrees, Fraction(4, 3), 320, 180)


def test_of_several_video_streams_the_one_that_players_show(tmp_path: Path) -> None:
    small, large = render(tmp_path / "s.mp4", frames=10), render(tmp_path / "l.mp4", frames=10, size=(640, 360))
    both = tmp_path / "both.mkv"
    with av.open(str(both), "w") as out, av.open(str(small)) as one, av.open(str(large)) as two:
        sources = [box.streams.video[0] for box in (one, two)]
        streams = [out.add_stream_from_template(source) for source in sources]
        for box, source, stream in zip((one, two), sources, streams, strict=True):
            for packet in box.demux(source):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
    assert (probe(str(both)).width, probe(str(both)).height) == (640, 360)


def test_pictures_cropped_by_the_decoder_have_the_shown_size(tmp_path: Path) -> None:
    facts = probe(str(render(tmp_path / "a.mp4", frames=3, size=(322, 182))))
    assert (facts.width, facts.height) == (322, 182)


def test_a_file_without_bytes_a_folder_and_nothing(tmp_path: Path) -> None:
    (tmp_path / "zero.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    assert reason_of(tmp_path / "zero.mp4") == "media.empty"
    assert reason_of(tmp_path / "folder.mp4") == "media.not_a_file"
    assert reason_of(tmp_path / "nothing.mp4") == "source.missing"
    assert reason_of(tmp_path / "loop.mp4") == "source.missing"
    assert reason_of("a\0b.mp4") == "source.missing"


@pytest.mark.timeout(20)
def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert reason_of(tmp_path / "pipe.mp4") == "media.not_a_file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_read_permission(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mp4", frames=2)
    path.chmod(0)
    assert reason_of(path) == "media.unreadable"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("hls.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{canary}\n#EXT-X-ENDLIST\n"),
        ("concat.mp4", "ffconcat version 1.0\nfile '{canary}'\n"),
        ("hls.m3u8", "\ufeff#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{canary}\n#EXT-X-ENDLIST\n"),
        ("dash.mpd", '<?xml version="1.0"?>\n<!-- x -->\n<MPD><BaseURL>{canary}</BaseURL></MPD>'),
        ("sdp.mp4", "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n"),
    ],
)
def test_playlists_open_nothing(tmp_path: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = render(tmp_path / "canary.mp4", frames=5)
    (tmp_path / name).write_text(text.format(canary=canary), "utf-8")
    assert reason_of(tmp_path / name) == "media.forbidden_protocol"
    # And where the first look is fooled, the library itself must still read no second file.
    monkeypatch.setattr("vidcap.media.opening.playlist_kind", lambda head: "")
    assert reason_of(tmp_path / name) in ("media.forbidden_protocol", "media.unrecognised")


def test_the_canary_would_be_read_without_the_guards(tmp_path: Path) -> None:
    canary = render(tmp_path / "canary.mp4", frames=5)
    script = tmp_path / "concat.mp4"
    script.write_text(f"ffconcat version 1.0\nfile '{canary.name}'\n")
    with av.open(str(script)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    assert reason_of(script) == "media.forbidden_protocol"


def test_pictures_and_texts_are_no_media(tmp_path: Path) -> None:
    (tmp_path / "page.mp4").write_text("<!DOCTYPE html><html><body>Not Found</body></html>")
    (tmp_path / "noise.mp4").write_bytes(bytes(range(7, 251)) * 40)
    with av.open(str(tmp_path / "still.png"), "w", format="image2") as out:
        stream = out.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb24"  # type: ignore[attr-defined]
        out.mux(stream.encode(av.VideoFrame(64, 64, "rgb24")))  # type: ignore[attr-defined]
        out.mux(stream.encode(None))  # type: ignore[attr-defined]
    for name in ("page.mp4", "noise.mp4", "still.png"):
        assert reason_of(tmp_path / name) == "media.unrecognised", name


def test_an_mp4_without_its_index_is_truncated(tmp_path: Path) -> None:
    whole = render(tmp_path / "a.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(whole[: whole.index(b"moov") - 40])
    assert reason_of(tmp_path / "b.mp4") == "media.truncated"


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=16_000)
        frame = av.AudioFrame(format="s16", layout="mono", samples=4096)
        frame.sample_rate, frame.pts = 16_000, 0
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        out.mux(stream.encode(frame))  # type: ignore[attr-defined]
        out.mux(stream.encode(None))  # type: ignore[attr-defined]
    assert reason_of(path) == "media.no_video"


def test_a_relative_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("http:a.mp4", "concat:a|b.mp4", "-a.mp4", "percent%03d.mp4"):
        (tmp_path / name).write_bytes(render(tmp_path / "plain.mp4", frames=2).read_bytes())
        assert probe(name).video_codec == "h264"


def test_names_that_look_like_protocols_and_tags_that_are_no_text(tmp_path: Path) -> None:
    whole = render(tmp_path / "a.mp4", frames=3, metadata={"title": "QQQQQQQQ"}).read_bytes()
    assert b"QQQQQQQQ" in whole
    bad = os.fsencode(tmp_path) + b"/concat:a|b_\xe9.mp4"
    Path(os.fsdecode(bad)).write_bytes(whole.replace(b"QQQQQQQQ", b"\xff\xfe\xe9\x80QQQQ"))
    assert probe(os.fsdecode(bad)).width == 320


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_what_ends_early_is_seen_in_the_bytes(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = render(
        tmp_path / name, frames=30, codec=codec, container_options={"movflags": "+faststart"} if name == "a.mp4" else {}
    )
    size = path.stat().st_size
    with path.open("rb") as handle:
        assert ends_early(handle, size) == ""
        assert "1" in ends_early(handle, size - 1)


def test_media_is_no_playlist(tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.gif", "gif")):
        path = render(tmp_path / name, frames=2, codec=codec, pix_fmt="rgb8" if codec == "gif" else "yuv420p")
        assert playlist_kind(path.read_bytes()) == ""
    with open_media(str(tmp_path / "a.mp4")) as container:
        assert container.format.name.startswith("mov")
