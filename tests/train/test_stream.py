# What follows the check for torch needs torch.
# ruff: noqa: E402
"""Reading: the right frames, sounds and captions; every sample once; the same batches for any number of workers."""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.full

import torch
import trainable
from shard_factory import tiny_flac

from vidcap.errors import ConfigError, ItemError, UsageError
from vidcap.records import CAPTION_KINDS
from vidcap.train import decode
from vidcap.train.batch import KINDS
from vidcap.train.order import Measure, Plan, Position
from vidcap.train.sources import AnnotationSource, ShardSource, expanded, kind_of, tars_of
from vidcap.train.stream import Fetcher, Loader, View, in_order
from vidcap.train.text import WordPieceTokens


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trainable.write_shards(tmp_path_factory.mktemp("shards"), 10, per_shard=3, silent=(1, 5))


@pytest.fixture(scope="module")
def tokens() -> WordPieceTokens:
    return WordPieceTokens.learnt([trainable.caption(number) for number in range(16)], 200)


def source_of(shards: Path, media_type: Any = "video", **more: Any) -> ShardSource:
    return ShardSource("train", media_type, tars_of([str(shards)]), **more)


def fetcher_of(source: Any, tokens: WordPieceTokens, *, kinds: tuple[str, ...] = ("v", "any"), **more: Any) -> Fetcher:
    return Fetcher([source], tokens, View(4, 28, 16, kinds, **more), seed=3)


def plan_of(source: Any, **more: Any) -> Plan:
    given = {"seed": 3, "batch": 2, "window": 2} | more
    return Plan([Measure(source.media_type, tuple(source.counts))], **given)


def brightness(pixels: Any) -> int:
    """Which frame of `trainable.clip` a picture is."""
    return round(float(pixels[20:28, 28:36].mean()) / 16)


def test_kinds_are_those_of_the_samples() -> None:
    assert set(KINDS) == set(CAPTION_KINDS)


def test_frames_are_the_middles_of_equal_intervals() -> None:
    assert decode.places(12, 4, None) == [1, 4, 7, 10]
    assert decode.places(3, 5, None) == [0, 1, 2, 2, 2]
    assert decode.places(1, 2, None) == [0, 0]
    draw = np.random.default_rng(0)
    drawn = [decode.places(12, 4, draw) for _ in range(200)]
    assert all(3 * n <= place < 3 * n + 3 for places in drawn for n, place in enumerate(places))
    assert {places[0] for places in drawn} == {0, 1, 2}


def test_the_frames_decoded_are_the_frames_asked_for() -> None:
    found = decode.pictures(io.BytesIO(trainable.clip(3)), 4, None, expected=trainable.FRAMES)
    assert [brightness(frame) for frame in found.frames] == [1, 4, 7, 10]
    span = decode.pictures(io.BytesIO(trainable.clip(3)), 2, None, span=(6, 9))
    assert [brightness(frame) for frame in span.frames] == [6, 8]
    assert (span.start, span.end) == (pytest.approx(0.6), pytest.approx(1.0))
    first = decode.pictures(io.BytesIO(trainable.clip(3)), 2, None, seconds=0.35)
    assert [brightness(frame) for frame in first.frames] == [0, 2]


def test_a_clip_with_fewer_frames_than_promised_is_a_fault() -> None:
    with pytest.raises(ItemError, match="12 of 13 frames"):
        decode.pictures(io.BytesIO(trainable.clip(0)), 4, None, expected=13)
    with pytest.raises(ItemError, match=r"media\.unrecognised"):
        decode.pictures(io.BytesIO(b"no film" * 100), 4, None)


def test_all_frames_get_one_crop_and_flip() -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (48, 1, 3))
    seen = set()
    for number in range(20):
        draw = np.random.default_rng(number)
        found = decode.pictures_tensor([ramp, ramp], 14, draw)
        assert torch.equal(found[0], found[1])
        seen.add(bool(found[0, 0, 0, -1] > found[0, 0, 0, 0]))
        top, left, height, width = decode.crop(48, 64, np.random.default_rng(number))
        assert 0 <= top <= 48 - height and 0 <= left <= 64 - width
        assert 0.45 <= height * width / (48 * 64) <= 1
    assert seen == {True, False}
    whole = decode.pictures_tensor([ramp], 14, None)
    expected = (torch.tensor([4 * 31.5]) / 255 - 0.485) / 0.229
    assert whole[0, 0].mean().item() == pytest.approx(expected.item(), abs=0.02)


def test_sound_lies_where_its_timestamps_say_and_is_filled_up_with_silence() -> None:
    wave = decode.sound(io.BytesIO(tiny_flac(1.0)), None)
    assert wave.shape == (160_000,) and not wave[16_400:].any()
    expected = 8000 / 32768 * np.sin(np.arange(16_000) * 0.17)
    assert np.abs(wave[:16_000] - expected).max() < 0.01
    later = decode.sound(io.BytesIO(tiny_flac(1.0)), None, start=0.5, end=0.75)
    assert np.abs(later[:4_000] - expected[8_000:12_000]).max() < 0.01 and not later[4_000:].any()
    assert decode.spectrum(wave).shape == (998, 64)


def test_of_longer_sound_the_window_is_drawn_or_the_middle() -> None:
    long = tiny_flac(14.0)
    expected = 8000 / 32768 * np.sin(np.arange(14 * 16_000) * 0.17)
    middle = decode.sound(io.BytesIO(long), None)
    assert np.abs(middle - expected[32_000:192_000]).max() < 0.01
    drawn = [decode.sound(io.BytesIO(long), np.random.default_rng(number)) for number in range(2)]
    assert not np.array_equal(*drawn)
    with pytest.raises(ItemError, match=r"sample\.no_sound"):
        decode.sound(io.BytesIO(trainable.clip(1, sound=False)), None)


def test_an_epoch_has_every_sample_once_and_epochs_differ(shards: Path) -> None:
    source = source_of(shards)
    plan = plan_of(source)
    assert plan.steps_per_epoch == 5
    work = list(islice(plan.work(Position()), 15))
    epochs = [[ref[1:3] for each in work[n : n + 5] for ref in each.refs] for n in (0, 5, 10)]
    everything = {(unit, item) for unit, count in enumerate(source.counts) for item in range(count)}
    assert [set(epoch) for epoch in epochs] == [everything] * 3
    assert all(len(epoch) == 10 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [ref[0] for ref in epochs[0]] != sorted(ref[0] for ref in epochs[0])  # shards, too, are shuffled


@pytest.mark.parametrize("start", [1, 3, 5, 8])
def test_the_order_from_any_position_is_the_rest_of_the_whole(shards: Path, start: int) -> None:
    plan = plan_of(source_of(shards))
    whole = list(islice(plan.work(Position()), 14))
    position = Position()
    for _ in range(start):
        position = plan.after(position)
    assert list(islice(plan.work(position), 14 - start)) == whole[start:]


def test_processes_share_each_step(shards: Path) -> None:
    source = source_of(shards)
    whole = islice(plan_of(source, batch=4).work(Position()), 4)
    shares = [islice(plan_of(source, rank=rank, world=2).work(Position()), 4) for rank in (0, 1)]
    for together, *apart in zip(whole, *shares, strict=True):
        assert together.refs == apart[0].refs + apart[1].refs


def test_each_step_is_of_one_media_type_in_proportion() -> None:
    measures = [Measure("video", (30, 10)), Measure("audio", (12,)), Measure("video", (8,), weight=2.5)]
    plan = Plan(measures, seed=1, batch=2, accumulation=2)
    assert plan.steps == {"video": (40 + 20) // 4, "audio": 3}
    assert Counter(plan.types(0)) == {"video": 15, "audio": 3}
    assert plan.types(0) == Plan(measures, seed=1, batch=2, accumulation=2, rank=1, world=1).types(0) != plan.types(1)
    work = list(islice(plan.work(Position()), 2 * plan.steps_per_epoch))
    used = Counter(ref.source for each in work for ref in each.refs)
    assert used == {0: 40, 1: 12, 2: 20}
    again = Counter(ref[2:3] for each in work for ref in each.refs if ref.source == 2)
    assert set(again.values()) == {2, 3}  # 8 samples, 2.5 times each
    with pytest.raises(ConfigError, match="12 samples of media type `audio` do not fill a step of 16"):
        Plan(measures, seed=1, batch=16)


def test_a_batch_holds_what_the_samples_hold(shards: Path, tokens: WordPieceTokens) -> None:
    source = source_of(shards, "audio_video")
    fetched = list(
        Loader(fetcher_of(source, tokens, kinds=("v", "avs", "any"), training=False), in_order([source], 10))
    )
    assert len(fetched) == 1 and not fetched[0].faults
    batch = fetched[0].batch
    assert batch.frames is not None and batch.frames.shape == (10, 4, 3, 28, 28)
    assert batch.fbank is not None and batch.fbank.shape == (10, 998, 64)
    silent = [not number for number in batch.has_audio.tolist()]
    assert [row for row, is_silent in enumerate(silent) if is_silent] == [1, 5]
    assert not batch.fbank[1].any() and batch.fbank[0].any()
    assert batch.text_valid["avs"].tolist() == batch.has_audio.tolist() and batch.text_valid["v"].all()
    assert tokens.words(batch.texts["v"][2].tolist()) == "a blue field at the left"
    assert (batch.texts["avs"][1] == 0).all() and not batch.text_masks["avs"][1].any()
    assert len(set(batch.index.tolist())) == 10 and (batch.index >= 0).all()
    raw = batch.frames.mean((1, 3, 4)) * torch.tensor(decode.SPREAD) + torch.tensor(decode.MEAN)
    assert [row for row in range(8) if raw[row].argmax() == 0 and raw[row, 0] > 1.5 * raw[row, 1:].max()] == [0]


def test_any_number_of_workers_gives_the_same_batches(shards: Path, tokens: WordPieceTokens, tmp_path: Path) -> None:
    source = source_of(shards, "audio_video", index_folder=tmp_path)
    fetcher = fetcher_of(source, tokens)
    plan = plan_of(source)
    found = []
    for workers in (0, 2):
        loader = Loader(fetcher, plan.work(Position(1, 2)), workers=workers)
        found.append(list(islice(iter(loader), 5)))
        loader.close()
    assert len(list(tmp_path.glob("*.npz"))) == len(source.shards)
    for one, other in zip(*found, strict=True):
        assert one.work == other.work and one.batch.keys == other.batch.keys
        assert torch.equal(one.batch.frames, other.batch.frames) and torch.equal(one.batch.fbank, other.batch.fbank)
        for kind in one.batch.texts:
            assert torch.equal(one.batch.texts[kind], other.batch.texts[kind])


def test_what_is_drawn_differs_by_epoch_not_by_company(shards: Path, tokens: WordPieceTokens) -> None:
    source = source_of(shards)
    fetcher = fetcher_of(source, tokens)

    def frames(batch: int, epoch: int) -> dict[str, Any]:
        found = {}
        for work in islice(plan_of(source, batch=batch).work(Position(epoch, 0)), 10 // batch):
            fetched = fetcher[work].batch
            assert fetched.frames is not None
            found |= dict(zip(fetched.keys, fetched.frames, strict=True))
        return found

    one, many, later = frames(1, 0), frames(5, 0), frames(1, 1)
    assert one.keys() == many.keys() == later.keys()
    assert all(torch.equal(one[key], many[key]) for key in one)
    assert not any(torch.equal(one[key], later[key]) for key in one)


def test_corrupt_samples_are_named_and_leave_an_empty_row(
    shards: Path, tokens: WordPieceTokens, tmp_path: Path
) -> None:
    copy = shutil.copytree(shards, tmp_path / "shards")
    key = trainable.damage(copy, 3)
    source = source_of(copy)
    sound = [fetcher_of(source_of(shards), tokens)[work] for work in in_order([source_of(shards)], 5)]
    found = [fetcher_of(source, tokens)[work] for work in in_order([source], 5)]
    assert [(fault.reason, fault.key) for each in found for fault in each.faults] == [("media.unrecognised", key)]
    batch, whole = found[0].batch, sound[0].batch
    assert batch.keys == whole.keys and batch.frames is not None and whole.frames is not None
    assert not batch.frames[3].any() and batch.index[3] < 0
    assert not any(valid[3] for valid in batch.text_valid.values())
    rest = [0, 1, 2, 4]
    assert torch.equal(batch.frames[rest], whole.frames[rest]) and torch.equal(batch.index[rest], whole.index[rest])


def test_a_damaged_tar_loses_what_is_behind_the_damage(shards: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(shards, tmp_path / "shards")
    tar = sorted(copy.glob("*.tar"))[0]
    data = tar.read_bytes()
    tar.write_bytes(data[: len(data) // 2])
    source = source_of(copy, index_folder=tmp_path / "index")
    assert sum(source.counts) < 10 and source.faults == {"shard.truncated": 1}
    assert source_of(copy, index_folder=tmp_path / "index").faults == source.faults  # from the kept index


def test_captions_are_drawn_among_those_allowed(shards: Path, tokens: WordPieceTokens) -> None:
    source = source_of(shards, kinds=("a", "v"))
    fetcher = fetcher_of(source, tokens, kinds=("any",))
    drawn: dict[str, set[str]] = {}
    for work in islice(plan_of(source, batch=10).work(Position()), 12):
        batch = fetcher[work].batch
        for key, ids in zip(batch.keys, batch.texts["any"].tolist(), strict=True):
            drawn.setdefault(key, set()).add(tokens.words(ids).split()[-1])
    assert sorted({len(found) for found in drawn.values()}) == [1, 2]  # the silent ones have v alone
    assert sum(len(found) == 1 for found in drawn.values()) == 2


def annotated(tmp_path: Path, entries: list[dict[str, Any]], media_type: Any, **more: Any) -> AnnotationSource:
    media = tmp_path / "media"
    media.mkdir(exist_ok=True)
    (media / "a.mp4").write_bytes(trainable.clip(2))
    (media / "b.mp4").write_bytes(trainable.clip(4, sound=False))
    (media / "c.flac").write_bytes(tiny_flac(1.0))
    path = tmp_path / "list.json"
    path.write_text(json.dumps(entries))
    return AnnotationSource("list", media_type, path, media, **more)


def test_annotations_in_the_released_format(tmp_path: Path, tokens: WordPieceTokens) -> None:
    entries = [
        {"video": "a.mp4", "caption": "one", "avs_captions": "all of it", "asr_caption": "said"},
        {"video": "a.mp4", "video_start_frame": 6, "video_end_frame": 9, "caption": ["two", "three"]},
        {"video": "b.mp4", "audio": "c.flac", "audio_caption": "a tone", "video_caption": "four"},
        {"video": "../a.mp4", "caption": "out"},
        {"video": "gone.mp4", "caption": "gone"},
        {"caption": "nothing"},
    ]
    source = annotated(tmp_path, entries, "audio_video")
    assert source.content(0, 0).captions == {"v": ("one",), "avs": ("all of it",), "s": ("said",)}
    assert source.content(0, 1).captions == {"v": ("two", "three")}
    assert source.content(0, 0).identity != source.content(0, 1).identity
    fetcher = Fetcher([source], tokens, View(2, 28, 16, ("v",), training=False), 0)
    (fetched,) = [fetcher[work] for work in in_order([source], 6)]
    assert [fault.reason for fault in fetched.faults] == ["sample.record", "source.missing", "sample.record"]
    assert fetched.batch.has_audio.tolist() == [True, True, True, False, False, False]
    joined = annotated(tmp_path, entries, "video", paragraph=True, kinds={"v": "caption"})
    assert joined.content(0, 1).captions == {"v": ("two three",)}
    with pytest.raises(ItemError, match="answers with none"):
        annotated(tmp_path, [{"video": "a.mp4", "caption": ["x"], "answer": 4}], "video").content(0, 0)


def test_names_of_caption_keys() -> None:
    assert [kind_of(key, "audio_video") for key in ("caption", "avs_captions", "AV_caption", "note_caption")] == [
        "v",
        "avs",
        "av",
        "",
    ]
    assert kind_of("caption", "audio") == "a"


def test_lists_in_braces_are_expanded() -> None:
    assert expanded("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert expanded("{x,y}-{0..1}") == ["x-0", "x-1", "y-0", "y-1"]
    with pytest.raises(ConfigError, match="no range of numbers"):
        expanded("{0..99999999}")


def test_shards_by_glob_and_folder(shards: Path) -> None:
    assert tars_of([str(shards / "*.tar")]) == tars_of([str(shards)])
    with pytest.raises(UsageError, match="nothing matches"):
        tars_of([str(shards / "none-*.tar")])
