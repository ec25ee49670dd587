"""The demo corpus: truth.json agrees with the media, frame numbers can be read, and rendering gives them again."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidcap.backends.transcriber.pocketsphinx import Backend
from vidcap.media.motion import measure
from vidcap.records import Transcript

DEMO = Path(__file__).resolve().parents[2] / "pipelines" / "demo"
MEDIA = DEMO / "media"
sys.path.insert(0, str(DEMO))

import corpus  # noqa: E402  (the demo's modules lie beside its script, outside any package)
import render  # noqa: E402
from barcode import BLOCK, BLOCKS, draw_barcode, read_barcode  # noqa: E402

TRUTH: dict[str, Any] = json.loads((DEMO / "truth.json").read_text(encoding="utf-8"))["files"]
VIDEOS = [path for path, entry in TRUTH.items() if entry["video"]]
SHOTS = [(path, i) for path in VIDEOS for i in range(len(TRUTH[path]["shots"]))]


class Decoded(NamedTuple):
    numbers: list[int | None]
    seconds: list[float]
    keys: list[int]
    thumbnails: np.ndarray
    """N×27×48×3 uint8."""


@cache
def decoded(path: str) -> Decoded:
    numbers, seconds, keys, thumbnails = [], [], [], []
    with av.open(str(MEDIA / path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        for index, frame in enumerate(container.decode(stream)):
            rgb = frame.to_ndarray(format="rgb24")
            numbers.append(read_barcode(rgb))
            seconds.append(float(frame.pts * stream.time_base))
            keys += [index] if frame.key_frame else []
            thumbnails.append(cv2.resize(rgb, (48, 27), interpolation=cv2.INTER_AREA))
    return Decoded(numbers, seconds, keys, np.stack(thumbnails))


@cache
def heard(path: str) -> np.ndarray:
    """The sound at 16 kHz mono in [-1, 1], sample 0 at time 0 of the picture."""
    resampler, parts, first = av.AudioResampler("flt", "mono", 16_000), [], None
    with av.open(str(MEDIA / path)) as container:
        for frame in container.decode(audio=0):
            first = float(frame.pts * frame.time_base) if first is None else first
            parts += [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
        parts += [part.to_ndarray().reshape(-1) for part in resampler.resample(None)]
    track = np.concatenate(parts)
    lead = round((first or 0.0) * 16_000)
    return np.pad(track, (lead, 0)) if lead > 0 else track[-lead:]


def motion(path: str, first: int, last: int) -> float:
    """Mean luma difference of neighbouring thumbnails, per second."""
    d = decoded(path)
    luma = np.stack([cv2.cvtColor(t, cv2.COLOR_RGB2GRAY) for t in d.thumbnails[first : last + 1]]).astype(np.float64)
    return float(np.abs(np.diff(luma, axis=0)).mean() * (last - first) / (d.seconds[last] - d.seconds[first]))


def colour_shares(thumbnails: np.ndarray) -> Counter[str]:
    """Share of the pixels that each plain colour name covers."""
    hsv = np.concatenate([cv2.cvtColor(t, cv2.COLOR_RGB2HSV).reshape(-1, 3) for t in thumbnails]).astype(int)
    hue, saturation, value = 2 * hsv[:, 0], hsv[:, 1], hsv[:, 2]
    names = np.full(len(hsv), "red", dtype="<U8")
    for name, low, high in (("orange", 15, 45), ("yellow", 45, 70), ("green", 70, 160), ("cyan", 160, 200),
                            ("blue", 200, 255), ("violet", 255, 320)):  # fmt: skip
        names[(hue >= low) & (hue < high)] = name
    names[saturation < 64] = "grey"
    names[(saturation < 64) & (value > 180)] = "white"
    names[value < 48] = "black"
    return Counter({name: count / len(names) for name, count in Counter(names.tolist()).items()})


def test_truth_lists_the_media_and_nothing_else() -> None:
    found = {p.relative_to(MEDIA).as_posix() for p in MEDIA.rglob("*") if p.is_file()}
    assert found == set(TRUTH) | {"notes.txt"}
    assert [film.path for film in corpus.FILMS] == list(TRUTH)


def test_corpus_is_small() -> None:
    folders = (MEDIA, DEMO / "speech")
    assert sum(p.stat().st_size for f in folders for p in f.rglob("*") if p.is_file()) <= 5_000_000
    assert sum(TRUTH[path]["shots"][-1]["end"] for path in VIDEOS) <= 240


@pytest.mark.parametrize("path", VIDEOS)
def test_every_frame_carries_its_number(path: str) -> None:
    assert decoded(path).numbers == list(range(TRUTH[path]["video"]["frames"]))


@pytest.mark.parametrize("path", VIDEOS)
def test_stream_facts_agree(path: str) -> None:
    video, audio = TRUTH[path]["video"], TRUTH[path]["audio"]
    assert decoded(path).keys == video["key_frames"]
    with av.open(str(MEDIA / path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == (
            video["codec"],
            video["width"],
            video["height"],
        )
        assert bool(container.streams.audio) == bool(audio)
        if audio:
            sound = container.streams.audio[0]
            assert (sound.rate, sound.channels) == (audio["sample_rate"], audio["channels"])


@pytest.mark.parametrize("path", VIDEOS)
def test_frame_times_agree(path: str) -> None:
    video, seconds = TRUTH[path]["video"], decoded(path).seconds
    steps = [Fraction(ms, 1000) for ms in video["frame_milliseconds"]] or [1 / Fraction(video["fps"])]
    expected = np.cumsum([0.0] + [float(steps[i % len(steps)]) for i in range(video["frames"] - 1)])
    assert np.abs(np.array(seconds) - seconds[0] - expected).max() <= 0.001
    assert video["vfr"] == (len(set(np.round(np.diff(seconds), 2).tolist())) > 1)


@pytest.mark.parametrize("path", VIDEOS)
def test_shots_and_transitions_cover_the_film(path: str) -> None:
    shots, transitions = TRUTH[path]["shots"], TRUTH[path]["transitions"]
    assert shots[0]["first"] == 0
    assert shots[-1]["last"] == TRUTH[path]["video"]["frames"] - 1
    assert [(t["last_before"], t["first_after"]) for t in transitions] == [
        (a["last"], b["first"]) for a, b in pairwise(shots)
    ]
    frames = decoded(path).thumbnails.astype(np.float64)
    for t in transitions:
        a, b = t["last_before"], t["first_after"]
        jump = np.abs(frames[b] - frames[a]).mean()
        if t["kind"] == "cut":
            calm = max(np.abs(frames[a] - frames[a - 1]).mean(), np.abs(frames[b + 1] - frames[b]).mean())
            assert b == a + 1
            assert jump > 8 * calm
        else:
            middle = frames[(a + b) // 2]
            off = np.abs(middle - (frames[a] + frames[b]) / 2).mean()
            assert b > a + 8
            assert off < 0.25 * jump


@pytest.mark.parametrize(("path", "index"), SHOTS)
def test_look_agrees(path: str, index: int) -> None:
    shot = TRUTH[path]["shots"][index]
    low, high = {"still": (0, 0.4), "slow": (0.8, 14), "fast": (14, 40), "extreme": (60, 1e9)}[shot["motion"]]
    assert low <= motion(path, shot["first"], shot["last"]) < high
    inside = slice(shot["first"], shot["last"] + 1)
    judged = measure(decoded(path).thumbnails[inside], np.array(decoded(path).seconds[inside])).mean
    low, high = {"still": (0, 0.2), "extreme": (120, 256)}.get(shot["motion"], (1.2, 30))
    assert low <= judged < high
    thumbnails = decoded(path).thumbnails[shot["first"] : shot["last"] + 1 : 10]
    low, high = {"dark": (0, 60), "normal": (60, 185), "bright": (185, 256)}[shot["light"]]
    assert low <= np.mean([cv2.cvtColor(t, cv2.COLOR_RGB2GRAY).mean() for t in thumbnails]) < high
    shares = colour_shares(thumbnails)
    assert [name for name, _ in shares.most_common(len(shot["colours"]))] == shot["colours"]


@pytest.mark.parametrize(("path", "index"), [(p, i) for p, i in SHOTS if TRUTH[p]["audio"]])
def test_sound_agrees(path: str, index: int) -> None:
    shot, sound = TRUTH[path]["shots"][index], heard(path)
    inside = sound[round(shot["start"] * 16_000) : round(shot["end"] * 16_000)]
    peak = np.abs(inside).max()
    assert (peak < 0.001) == (shot["sound"] == ["silence"])
    for line in shot["speech"]:
        first, last = shot["start"] + 1.0, shot["end"] - 0.3
        assert first <= line["start"] < line["end"] <= last
        assert len(line["text"].split()) >= 3
        loud = np.flatnonzero(np.abs(sound) > 0.03) / 16_000
        loud = loud[(loud > line["start"] - 0.3) & (loud < line["end"] + 0.3)]
        assert abs(loud[0] - line["start"]) < 0.15
        assert abs(loud[-1] - line["end"]) < 0.15


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in TRUTH if any(s["speech"] for s in TRUTH[p]["shots"])])
def test_speech_is_recognised_with_confidence(path: str) -> None:
    """Mean over shifts of a few samples: the recogniser's words depend on them."""
    backend = Backend(Backend.Config())
    shifts = [np.pad(heard(path), (20 * k, 0)).astype(np.float32) for k in (0, 2, 5)]
    found = [t for t in backend.transcribe(shifts, seeds=[0] * len(shifts)) if isinstance(t, Transcript)]
    assert len(found) == len(shifts)
    for shot in TRUTH[path]["shots"]:
        rates, trust = [], []
        for transcript in found:
            words = [w for w in transcript.words if shot["start"] <= (w.start + w.end) / 2 < shot["end"]]
            trust += [w.p for w in words]
            if shot["speech"]:
                said = re.sub(r"[^a-z ]", "", shot["speech"][0]["text"].lower()).split()
                rates.append(word_errors(said, [w.word for w in words]) / len(said))
                assert words[0].start - shot["start"] > 0.3
                assert shot["end"] - words[-1].end > 0.3
        if rates:
            assert np.mean(rates) <= 0.05
            assert np.mean(trust) >= 0.75


def word_errors(said: list[str], found: list[str]) -> int:
    """Edit distance in words."""
    row = list(range(len(found) + 1))
    for i, a in enumerate(said, 1):
        previous, row[0] = row[:], i
        for j, b in enumerate(found, 1):
            row[j] = min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a != b))
    return row[-1]


def test_promised_kinds_are_present() -> None:
    expected = [s["expected"] for path in TRUTH for s in TRUTH[path]["shots"]]
    kinds = Counter(tuple(e["kinds"]) for e in expected if e["verdict"] == "kept")
    assert kinds["v", "a", "s", "av", "avs"] >= 6
    assert kinds["v",] >= 4
    assert kinds["v", "a", "av"] >= 1
    mixed = [s for p in VIDEOS for s in TRUTH[p]["shots"] if "speech" in s["sound"] and len(s["sound"]) > 1]
    assert len(mixed) >= 6
    reasons = Counter(e["reason"] for e in expected)
    assert {"trim.too_short", "trim.still", "trim.extreme_motion"} <= set(reasons)
    assert {e["expected"]["reason"] for e in TRUTH.values()} == {
        "",
        "media.truncated",
        "media.no_video",
        "source.duplicate",
    }
    assert any(s["end"] - s["start"] > 30 for path in VIDEOS for s in TRUTH[path]["shots"])
    words = sum(len(s["text"].split()) for path in VIDEOS for shot in TRUTH[path]["shots"] for s in shot["speech"])
    assert words >= 60


def test_odd_files_are_odd() -> None:
    with pytest.raises(av.error.InvalidDataError):
        av.open(str(MEDIA / "broken.mp4"))
    with av.open(str(MEDIA / "radio.m4a")) as container:
        assert not container.streams.video
        assert container.streams.audio

    def digest(name: str) -> str:
        return hashlib.sha256((MEDIA / name).read_bytes()).hexdigest()

    assert digest("spare/silent_film.mp4") == digest("silent_film.mp4")
    assert digest("day/city.mp4") != digest("night/city.mp4")


def test_key_frames_fall_where_promised() -> None:
    def on_cuts(path: str) -> bool:
        return {s["first"] for s in TRUTH[path]["shots"]} <= set(TRUTH[path]["video"]["key_frames"])

    assert on_cuts("day/city.mp4")
    assert on_cuts("silent_film.mp4")
    assert not on_cuts("night/city.mp4")
    assert not on_cuts("evening.webm")


def test_rendering_again_gives_the_same_pictures(tmp_path: Path) -> None:
    path = "silent_film.mp4"
    for name in ("one", "two"):
        truth = render.render(tmp_path / name, only=path)
        assert truth[path]["shots"] == TRUTH[path]["shots"]
    one, two = ((tmp_path / name / "media" / path).read_bytes() for name in ("one", "two"))
    assert one == two
    with av.open(str(tmp_path / "one" / "media" / path)) as again, av.open(str(MEDIA / path)) as committed:
        pairs = zip(again.decode(video=0), committed.decode(video=0), strict=True)
        # Another processor may round a pixel differently before encoding; a wrong picture differs by far more.
        for a, b in pairs:
            difference = a.to_ndarray(format="rgb24").astype(int) - b.to_ndarray(format="rgb24")
            assert np.abs(difference).mean() < 0.5


@given(st.integers(0, 65535), st.integers(0, 2**32 - 1))
def test_frame_number_survives_drawing_and_touches_only_its_blocks(number: int, seed: int) -> None:
    picture = np.random.RandomState(seed).randint(0, 256, (36, 96, 3)).astype(np.uint8)
    before = picture.copy()
    draw_barcode(picture, number)
    assert read_barcode(picture) == number
    changed = (picture != before).any(axis=2)
    changed[-BLOCK:, : BLOCKS * BLOCK] = False
    assert not changed.any()


@given(st.integers(0, 65535), st.integers(0, BLOCKS - 1))
def test_one_wrong_block_is_noticed(number: int, block: int) -> None:
    picture = np.zeros((36, 96, 3), np.uint8)
    draw_barcode(picture, number)
    place = (slice(-BLOCK, None), slice(block * BLOCK, (block + 1) * BLOCK))
    picture[place] = 255 - picture[place]
    assert read_barcode(picture) is None
    draw_barcode(picture, number)
    picture[place] = 128
    assert read_barcode(picture) is None


def test_frame_number_refuses_what_does_not_fit() -> None:
    assert read_barcode(np.full((180, 320, 3), 90, np.uint8)) is None
    assert read_barcode(np.zeros((3, 40, 3), np.uint8)) is None
    with pytest.raises(ValueError, match="does not fit"):
        draw_barcode(np.zeros((36, 96, 3), np.uint8), 65536)
    with pytest.raises(ValueError, match="no room"):
        draw_barcode(np.zeros((37, 96, 3), np.uint8), 1)
