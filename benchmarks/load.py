"""Samples per second of the trainer's loader, against bare decoding and webdataset, out of the same shards.

    python benchmarks/load.py
    python benchmarks/load.py --videos FOLDER --frames 8 --size 224

The shards are made by pipelines/demo.yaml from films rendered here (or from those in FOLDER) and taken `--copies`
times. Four questions, each of both sides in turns:

- *bytes*: every member read, nothing decoded. webdataset; the loader's source (which also checks each sample's JSON).
- *samples*: video frames and 10 s of sound per sample, in this process, decoders on one thread. Bare decoding is a
  plain loop over the tar: PyAV decodes up to the last frame wanted, scales the wanted ones in one step to the same
  size, and resamples the sound to 16 kHz mono; it makes no tensors. The loader gives what stage 2 wants: the same
  frames cropped, scaled with anti-aliasing and normalised, the spectrum of the sound, the captions as tokens, batches.
- the same with 2 worker processes: webdataset with that bare decoding in torch's loader; the trainer's loader.

The loader's order is shuffled, webdataset and bare decoding take the samples as they lie. Before the first turn the
full-sized frames of both sides are compared byte by byte. Not measured: disks (the shards are in the page cache),
starting workers (they are counted from their first batch on).
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from measuring import Cost, here, in_turns, median, versions, write_table
from moving_pictures import film

from vidcap.shards.reader import find_shards
from vidcap.train import decode
from vidcap.train.order import Measure, Plan, Position, rng
from vidcap.train.sources import ShardSource
from vidcap.train.stream import Fetcher, Loader, View
from vidcap.train.text import WordPieceTokens

SEED, RATE, SOUND_SECONDS = 5, 16_000, 10
KINDS = ("v", "a", "av", "avs")
PASSES = 10
"""Over all shards where nothing is decoded: a single one would be over too soon to be timed."""
PIPELINE = Path(__file__).resolve().parents[1] / "pipelines" / "demo.yaml"


def packed(films: Path, folder: Path, copies: int) -> list[Path]:
    """The shards of a run of the demo's pipeline over `films`, all clips kept, each shard `copies` times."""
    command = [sys.executable, "-m", "vidcap", "run", str(PIPELINE), "--input", str(films), "--output", str(folder)]
    command += ["--runner", "inline", "--quiet", "--set", "stages.select.options.min=-1"]
    done = subprocess.run(command, cwd=PIPELINE.parents[1], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise RuntimeError(f"the pipeline ended with {done.returncode}:\n{done.stderr[-2000:]}")
    found = []
    for copy in range(copies):
        for shard in find_shards([folder]):
            found.append(folder / f"copy-{copy:03d}-{shard.name}")
            shutil.copy(shard, found[-1])
    return found


@dataclass(frozen=True)
class Asked:
    """The same work for both sides: samples with drawn frames, of `size`×`size` pixels."""

    shards: list[Path]
    source: ShardSource
    wanted: dict[tuple[str, str], list[int]]
    """Shard and key → frames."""
    size: int

    @classmethod
    def of(cls, shards: list[Path], frames: int, size: int) -> Asked:
        source = ShardSource("s", "audio_video", shards, KINDS)
        wanted = {}
        for unit, count in enumerate(source.counts):
            for item in range(count):
                content = source.content(unit, item)
                draw = rng(SEED, 0, 0, unit, item, 0, "frames")  # as the loader draws in its first epoch
                wanted[shards[unit].name, content.key] = decode.places(content.expected, frames, draw)
        return cls(shards, source, wanted, size)


def bare_pictures(box: Any, wanted: Sequence[int]) -> Iterator[Any]:
    """The wanted frames, one as often as it is asked for."""
    stream = box.streams.video[0]
    stream.codec_context.thread_count, stream.codec_context.thread_type = 1, "NONE"
    for place, frame in enumerate(box.decode(stream)):
        for _ in range(wanted.count(place)):
            yield frame
        if place >= wanted[-1]:
            return


def bare_sound(box: Any) -> np.ndarray:
    wave, at = np.zeros(SOUND_SECONDS * RATE, np.float32), 0
    if not box.streams.audio:
        return wave
    box.streams.audio[0].codec_context.thread_count = 1
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
    for frame in box.decode(audio=0):
        for block in resampler.resample(frame):
            part = block.to_ndarray()[0][: len(wave) - at]
            wave[at : at + len(part)] = part
            at += len(part)
        if at >= len(wave):
            break
    return wave


def bare_sample(data: bytes, wanted: Sequence[int], size: int) -> tuple[np.ndarray, np.ndarray]:
    with av.open(io.BytesIO(data)) as box:
        pictures = [
            frame.reformat(width=size, height=size, format="rgb24", threads=1).to_ndarray()
            for frame in bare_pictures(box, wanted)
        ]
        box.seek(0)
        return np.stack(pictures), bare_sound(box)


def bare_loop(asked: Asked) -> None:
    for shard in asked.shards:
        with tarfile.open(shard) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                if suffix == "mp4":
                    file = tar.extractfile(member)
                    assert file is not None
                    bare_sample(file.read(), asked.wanted[shard.name, key], asked.size)


def loader(asked: Asked, tokens: WordPieceTokens, frames: int, batch: int, workers: int) -> Loader:
    view = View(frames, asked.size, 40, KINDS)
    plan = Plan([Measure("audio_video", tuple(asked.source.counts))], seed=SEED, batch=batch)
    work = islice(plan.work(Position()), plan.steps_per_epoch)
    return Loader(Fetcher([asked.source], tokens, view, SEED), work, workers=workers)


def our_loop(asked: Asked, tokens: WordPieceTokens, frames: int, batch: int) -> None:
    for fetched in loader(asked, tokens, frames, batch, 0):
        if fetched.faults:
            raise RuntimeError(f"a sample could not be used: {fetched.faults[0]}")


def our_bytes(asked: Asked) -> None:
    for unit, count in enumerate(asked.source.counts):
        for item in range(count):
            content = asked.source.content(unit, item)
            with content.opened(content.picture) as file:
                file.read()


def datasets(asked: Asked) -> Any:
    import webdataset

    return webdataset.WebDataset([str(shard) for shard in asked.shards], shardshuffle=False, empty_check=False)


def webdataset_bytes(asked: Asked) -> None:
    for sample in datasets(asked):
        len(sample["mp4"])


class Decoding:
    """What webdataset's workers do with a sample."""

    def __init__(self, asked: Asked) -> None:
        self.wanted, self.size = asked.wanted, asked.size

    def __call__(self, sample: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        return bare_sample(sample["mp4"], self.wanted[Path(sample["__url__"]).name, sample["__key__"]], self.size)


def webdataset_batches(asked: Asked, batch: int, workers: int) -> Iterable[Any]:
    import webdataset

    return webdataset.WebLoader(
        datasets(asked).map(Decoding(asked)).batched(batch),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="spawn",
    )


def with_workers(batches: Callable[[], Iterable[Any]], size_of: Callable[[Any], int], counted: dict[str, int]) -> Cost:
    """Of all batches after the first: workers that start are not what is asked about."""
    given = batches()
    iterator = iter(given)
    next(iterator)
    began, used, count = time.perf_counter(), _cpu(), 0
    for one in iterator:
        count += size_of(one)
        last, spent = time.perf_counter(), _cpu()
    counted["samples"] = count
    if isinstance(given, Loader):
        given.close()
    del iterator
    return Cost(last - began, spent - used)


def _cpu() -> float:
    """Of this process and its living children."""
    own = psutil.Process(os.getpid())
    total = time.process_time()
    for child in own.children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def compared(asked: Asked, frames: int) -> int:
    """Frames of the first shard that both sides decoded; raises where one differs."""
    count = 0
    for item in range(asked.source.counts[0]):
        content = asked.source.content(0, item)
        wanted = asked.wanted[asked.shards[0].name, content.key]
        draw = rng(SEED, 0, 0, 0, item, 0, "frames")
        with content.opened(content.picture) as file:
            ours = decode.pictures(file, frames, draw, expected=content.expected).frames
        with content.opened(content.picture) as file, av.open(file) as box:
            theirs = [frame.to_ndarray(format="rgb24", threads=1) for frame in bare_pictures(box, wanted)]
        if len(ours) != len(theirs) or not all(map(np.array_equal, ours, theirs)):
            raise RuntimeError(f"the frames of `{content.key}` differ")
        count += len(ours)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="a folder of films to make shards of; rendered where left out")
    parser.add_argument("--films", type=int, default=2, help="how many are rendered, of 32 s")
    parser.add_argument("--copies", type=int, default=5)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the last question; 0 leaves it out")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vidcap-load-") as temporary:
        folder = Path(temporary)
        if not asked.videos:
            (folder / "films").mkdir()
            for number in range(asked.films):
                film(folder / "films" / f"{number}.mp4", number, seconds=32.0)
        work = Asked.of(
            packed(asked.videos or folder / "films", folder / "run", asked.copies), asked.frames, asked.size
        )
        measured(asked, work)


def measured(asked: argparse.Namespace, work: Asked) -> None:
    samples = sum(work.source.counts)
    texts = [text for kind in KINDS for text in _captions(work, kind)]
    tokens = WordPieceTokens.learnt(texts, 1000)
    same = compared(work, asked.frames)
    rows: list[list[str | float]] = []
    here_cases: dict[str, Callable[[], Cost]] = {
        "bytes: webdataset": partial(here, lambda: [webdataset_bytes(work) for _ in range(PASSES)]),
        "bytes: the loader's source": partial(here, lambda: [our_bytes(work) for _ in range(PASSES)]),
        "samples: bare decoding": partial(here, lambda: bare_loop(work)),
        "samples: the loader": partial(here, lambda: our_loop(work, tokens, asked.frames, asked.batch)),
    }
    for case in here_cases.values():
        case()
    costs = {name: median(found) for name, found in in_turns(here_cases, asked.turns).items()}
    loaded = samples // asked.batch * asked.batch
    for name, cost in costs.items():
        base = costs[next(iter(key for key in costs if key.split(":")[0] == name.split(":")[0]))]
        count = samples * PASSES if name.startswith("bytes") else loaded if name == "samples: the loader" else samples
        rows.append(_row(name, count, cost, samples * PASSES if name.startswith("bytes") else samples, base))
    if asked.workers:
        counts: dict[str, dict[str, int]] = {"webdataset": {}, "loader": {}}
        theirs, ours = f"{asked.workers} workers: webdataset, bare decoding", f"{asked.workers} workers: the loader"
        cases: dict[str, Callable[[], Cost]] = {
            theirs: lambda: with_workers(
                lambda: webdataset_batches(work, asked.batch, asked.workers),
                lambda one: len(one[0]),
                counts["webdataset"],
            ),
            ours: lambda: with_workers(
                lambda: loader(work, tokens, asked.frames, asked.batch, asked.workers),
                lambda one: len(one.batch.keys),
                counts["loader"],
            ),
        }
        found = {name: median(each) for name, each in in_turns(cases, asked.turns).items()}
        rows.append(
            _row(theirs, counts["webdataset"]["samples"], found[theirs], counts["webdataset"]["samples"], found[theirs])
        )
        rows.append(
            _row(ours, counts["loader"]["samples"], found[ours], counts["webdataset"]["samples"], found[theirs])
        )
    clips = sorted(work.source.content(0, item).expected for item in range(work.source.counts[0]))
    write_table(
        "load",
        ["case", "samples per CPU-s", "samples/s (wall)", "ratio (CPU)", "ratio (wall)"],
        rows,
        about=[
            f"{samples} samples of {clips[0]} to {clips[-1]} frames in {len(work.shards)} shards; "
            f"{asked.frames} frames of {asked.size}×{asked.size} and {SOUND_SECONDS} s of sound each, "
            f"batches of {asked.batch}",
            f"{same} frames were decoded by both sides and compared: no byte differs",
            "ratios are to the first case of each question; of the loader's H.264, frames that no other builds on and "
            "nobody asked for are not decoded, which a plain loop does not know",
        ],
        libraries=versions("av", "torch", "webdataset", "numpy"),
    )


def _captions(work: Asked, kind: str) -> Iterator[str]:
    for item in range(work.source.counts[0]):
        yield from work.source.content(0, item).captions.get(kind, ())


def _row(name: str, samples: int, cost: Cost, base_samples: int, base: Cost) -> list[str | float]:
    cpu, wall = samples / cost.cpu, samples / cost.wall
    ratios = round(cpu / (base_samples / base.cpu), 3), round(wall / (base_samples / base.wall), 3)
    return [name, round(cpu, 2), round(wall, 2), *ratios]


if __name__ == "__main__":
    main()
