# What follows the check for torch needs torch.
# ruff: noqa: E402
"""One opening of a file gives what it gave in several, and what nobody asked for is not decoded."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.full

import torch
import trainable
from shard_factory import tiny_flac

from vidcap.errors import ItemError
from vidcap.shards.reader import RawSample
from vidcap.train import decode, film
from vidcap.train.order import Measure, Plan, Position
from vidcap.train.sources import ShardSource, tars_of
from vidcap.train.stream import Fetcher, View
from vidcap.train.text import WordPieceTokens

FRAMES = 60
CODECS = {
    "b_frames": ("libx264", {"preset": "medium", "g": "250"}),
    "pyramid_open_gop": ("libx264", {"x264-params": "bframes=5:b-pyramid=normal:open-gop=1:keyint=20:min-keyint=20"}),
    "no_b_frames": ("libx264", {"preset": "ultrafast", "g": "15"}),
    "interlaced": ("libx264", {"x264-params": "bframes=3:keyint=25:interlaced=1"}),
    "mpeg4": ("mpeg4", {"bf": "2", "g": "12"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "20"}),
}


def _made(codec: str, options: dict[str, str], container: str = "mp4", seconds: float = 2.4) -> bytes:
    """60 frames that move and are noisy, with stereo sound at 44.1 kHz."""
    target, rng = io.BytesIO(), np.random.default_rng(1)
    texture = rng.integers(0, 255, (200, 200, 3), np.uint8)
    with av.open(target, "w", format=container) as box:
        video: Any = box.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt, video.thread_count = 96, 64, "yuv420p", 1
        audio: Any = box.add_stream("aac", rate=44_100, layout="stereo")
        for index in range(FRAMES):
            picture = texture[index : index + 64, 2 * index : 2 * index + 96].copy()
            picture[:8, :8] = 4 * index
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            box.mux(video.encode(frame))
        box.mux(video.encode(None))
        wave = (6000 * np.sin(np.arange(int(44_100 * seconds)) ** 1.5 * 1e-4)).astype(np.int16)
        for start in range(0, len(wave), 1024):
            block = av.AudioFrame.from_ndarray(np.repeat(wave[start : start + 1024], 2)[None], "s16", "stereo")
            block.sample_rate, block.pts, block.time_base = 44_100, start, Fraction(1, 44_100)
            box.mux(audio.encode(block))
        box.mux(audio.encode(None))
    return target.getvalue()


@pytest.fixture(scope="module", params=sorted(CODECS))
def movie(request: pytest.FixtureRequest) -> bytes:
    return _made(*CODECS[request.param], container="matroska" if request.param == "vp9" else "mp4")


@pytest.fixture(scope="module")
def plain() -> bytes:
    return _made(*CODECS["b_frames"])


def chosen(data: bytes, places: list[int]) -> list[Any]:
    with film.opened(io.BytesIO(data)) as one:
        return one.pictures(lambda _: places).frames


def test_chosen_frames_are_those_of_decoding_all(movie: bytes) -> None:
    with av.open(io.BytesIO(movie)) as box:
        box.streams.video[0].codec_context.thread_count = 1
        frames = [frame.to_ndarray(format="rgb24") for frame in box.decode(video=0)]
    assert len(frames) == FRAMES
    random_places = random.Random(2)
    for count in (1, 2, 3, 8, 8, 8, 30, FRAMES):
        places = sorted(random_places.sample(range(FRAMES), count))
        places += [places[-1]]  # a short clip repeats its last frame
        for place, found in zip(places, chosen(movie, places), strict=True):
            assert np.array_equal(found, frames[place]), place


class _Counting:
    """A container that counts the frames its packets give."""

    def __init__(self, box: Any, counted: Counter[str]) -> None:
        self._box, self._counted = box, counted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._box, name)

    def __enter__(self) -> _Counting:
        return self

    def __exit__(self, *given: Any) -> None:
        self._box.close()

    def decode(self, *given: Any, **named: Any) -> Iterator[Any]:
        for frame in self._box.decode(*given, **named):
            self._counted[type(frame).__name__] += 1
            yield frame

    def demux(self, *given: Any) -> Iterator[Any]:
        self._counted["passes"] += 1
        for packet in self._box.demux(*given):
            yield _CountingPacket(packet, self._counted)


class _CountingPacket:
    def __init__(self, packet: Any, counted: Counter[str]) -> None:
        self._packet, self._counted = packet, counted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._packet, name)

    def decode(self) -> list[Any]:
        frames: list[Any] = self._packet.decode()
        for frame in frames:
            self._counted[type(frame).__name__] += 1
        return frames


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    counts: Counter[str] = Counter()
    really = av.open

    def counting(*given: Any, **named: Any) -> Any:
        counts["opened"] += 1
        return _Counting(really(*given, **named), counts)

    monkeypatch.setattr(av, "open", counting)
    return counts


def test_frames_that_no_other_needs_are_not_decoded(plain: bytes, counted: Counter[str]) -> None:
    chosen(plain, [50])
    # With x264's `medium` no frame builds on every other one or more; 51 would be decoded to come to the 51st.
    assert 10 < counted["VideoFrame"] <= 30
    assert counted["passes"] == 2, "once for the times, once for the frames"


def test_sound_after_the_pictures_is_the_sound_alone(movie: bytes) -> None:
    for start, end in ((0.0, None), (0.3, 1.5), (0.0, 0.2), (1.3, None), (1.7, 2.1)):
        alone = decode.sound(io.BytesIO(movie), None, start=start, end=end)
        with film.opened(io.BytesIO(movie)) as one:
            decode.pictures(one, 4, None)
            after = decode.sound(one, None, start=start, end=end)
        assert np.array_equal(alone, after), start
        assert np.abs(alone).max() > 0.05


def test_long_sound_is_the_same_wherever_it_begins() -> None:
    """What is held of the beginning is enough for a window that begins in it."""
    long = _made("libx264", {"preset": "ultrafast"}, seconds=16.0)
    for start in (0.0, 0.9, 1.0, 1.1, 4.0):
        alone = decode.sound(io.BytesIO(long), None, start=start, end=start + 10)
        with film.opened(io.BytesIO(long)) as one:
            decode.pictures(one, 2, None)
            after = decode.sound(one, None, start=start, end=start + 10)
        assert np.array_equal(alone, after), start
        assert np.abs(alone[-1600:]).max() > 0.05, "the window is filled"


def test_damaged_films_give_what_they_gave(plain: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the quick way meets damage the slow one is asked, and has the last word."""
    with av.open(io.BytesIO(plain)) as box:
        packets = [(packet.pos, packet.size) for packet in box.demux(video=0) if packet.size]

    def outcome(data: bytes) -> Any:
        try:
            return [frame.tobytes() for frame in chosen(data, [10, 20, 40])]
        except ItemError as error:
            return error.reason

    broken = 0
    for number in (0, 5, 12, 30):
        at, size = packets[number]
        damaged = bytearray(plain)
        damaged[at + 4 : at + size] = b"\xff" * (size - 4)
        quick = outcome(bytes(damaged))
        with monkeypatch.context() as slowly:
            slowly.setattr(film, "SPARSE", frozenset())
            slow = outcome(bytes(damaged))
        broken += slow == "sample.undecodable"
        assert quick == slow or slow == "sample.undecodable", number
    assert broken


def test_a_frame_that_does_not_come_is_asked_for_the_slow_way(plain: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [frame.tobytes() for frame in chosen(plain, [7, 33])]
    asked: list[Any] = []
    slowly = film._frames_at
    monkeypatch.setattr(film, "_exactly", lambda *given: None)
    monkeypatch.setattr(film, "_frames_at", lambda *given: asked.append(given) or slowly(*given))
    assert [frame.tobytes() for frame in chosen(plain, [7, 33])] == expected
    assert len(asked) == 1


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trainable.write_shards(tmp_path_factory.mktemp("shards"), 4, per_shard=4)


@pytest.mark.parametrize("media_type", ["audio_video", "video", "audio"])
def test_a_sample_is_read_and_opened_once(
    media_type: Any, shards: Path, counted: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ShardSource("train", media_type, tars_of([str(shards)]))
    tokens = WordPieceTokens.learnt([trainable.caption(number) for number in range(4)], 200)
    fetcher = Fetcher([source], tokens, View(4, 28, 16, ("v",)), seed=3)
    plan = Plan([Measure(media_type, tuple(source.counts))], seed=3, batch=4)
    read: Counter[tuple[str, str]] = Counter()
    really = RawSample.read
    monkeypatch.setattr(
        RawSample, "read", lambda self, suffix: (read.update([(self.key, suffix)]), really(self, suffix))[1]
    )
    fetched = fetcher[next(plan.work(Position()))]
    assert not fetched.faults
    assert counted["opened"] == 4
    assert {suffix for _, suffix in read} == {"json", "mp4"}
    assert set(read.values()) == {1}
    assert len(read) == 8


def test_pictures_become_planes_of_the_values_they_had() -> None:
    """Cropped before they are stacked and normalised in place: the arithmetic is that of the definition."""
    frames = [np.random.default_rng(n).integers(0, 255, (90, 120, 3), np.uint8) for n in range(3)]
    for seed in range(4):
        found = decode.pictures_tensor(frames, 28, np.random.default_rng(seed))
        draw = np.random.default_rng(seed)
        top, left, height, width = decode.crop(90, 120, draw)
        whole = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[:, :, top : top + height, left : left + width]
        small = torch.nn.functional.interpolate(whole, (28, 28), mode="bicubic", antialias=True, align_corners=False)
        small = small.flip(-1) if draw.random() < 0.5 else small
        mean, spread = (torch.tensor(values).view(1, 3, 1, 1) for values in (decode.MEAN, decode.SPREAD))
        assert torch.equal(found, (small.float() / 255 - mean) / spread)
        assert found.is_contiguous()


def test_a_sound_file_of_its_own_has_no_pictures() -> None:
    with film.opened(io.BytesIO(tiny_flac(1.0))) as one:
        with pytest.raises(ItemError) as caught:
            one.pictures(lambda _: [0])
        assert caught.value.reason == "media.no_video"
        assert decode.sound(one, None).any()
