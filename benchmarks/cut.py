"""What cutting a clip costs by method and by x264 preset, and what the clips weigh: no shards, one process, one thread.

    python benchmarks/cut.py --turns 3                       # films rendered by benchmarks/split_corpus.py
    python benchmarks/cut.py --videos ../footage --limit 60  # real ones: every H.264 file that can be copied

Each source is decoded and its shots are found once, outside the measurement; trim's defaults give the spans. Then every
span is cut by every method in turns, into memory, checked as in a run. A method's own clips are listed beside all that
its option cuts. Not measured: decoding, detection, tars (benchmarks/split.py has the whole).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import measuring
import split_corpus

from vidcap.backends import registry
from vidcap.errors import MediaError
from vidcap.media.clip_space import ClipSpace, clip_space
from vidcap.media.cut import CutOptions, Cutter, copyable
from vidcap.media.decode import DecodeOptions, decode_source
from vidcap.media.evidence import Evidence
from vidcap.media.program_encoding import Encoding
from vidcap.stages.base import Context
from vidcap.stages.trim import Trim, TrimOptions

CASES: dict[str, CutOptions] = {
    "exact": CutOptions(),
    "edit_list": CutOptions(method="edit_list"),
    "reencode": CutOptions(method="reencode"),
    "reencode, superfast": CutOptions(method="reencode", encoding=Encoding(preset="superfast")),
    "reencode, ultrafast": CutOptions(method="reencode", encoding=Encoding(preset="ultrafast")),
}

Known = tuple[str, Evidence, list[tuple[int, int]]]


@dataclass
class Sums:
    clips: int = 0
    frames: int = 0
    encoded: int = 0
    cpu: float = 0.0
    sizes: dict[tuple[str, int, int], int] = field(default_factory=dict)


def sources(paths: Sequence[Path], folder: Path) -> Iterator[Known]:
    """Each source with the spans of the clips that trim makes of it, if it can be copied at all."""
    detector = registry.create("shot_detector", "fast", {"threads": 1})
    detector.load("cpu")
    trim = Trim(TrimOptions(), Context(seed=0))
    for path in paths:
        place = folder / path.name
        try:
            decode_source(str(path), place, DecodeOptions(frames_per_second=0.001, frame_height=16), durable=False)
        except MediaError:
            continue
        evidence = Evidence(place)
        if not copyable(evidence.facts):
            continue
        rows = [
            {"source_id": path.name, "shot_first": shot.first, "shot_last": shot.last, "shot_key": f"{number}"}
            for number, shot in enumerate(detector.detect(evidence.thumbnails, evidence.times))
        ]
        result = trim.run(rows, lambda _, known=evidence: known)
        columns = result.columns
        spans = list(zip(columns["first_frame"], columns["last_frame"], strict=True))
        kept = [span for number, span in enumerate(spans) if number not in result.verdicts]
        if kept:
            yield str(path), evidence, kept


def cut_all(known: Sequence[Known], options: CutOptions, space: ClipSpace, sums: dict[str, Sums]) -> None:
    for path, evidence, spans in known:
        with Cutter(path, evidence.tables, evidence.facts, options=options) as cutter:
            for first, last in spans:
                began = time.process_time()
                clip = space.path(cutter.size(first, last))
                result = cutter.cut(first, last, clip)
                spent = time.process_time() - began
                for name in ("", result.method):
                    one = sums[name]
                    one.clips += 1
                    one.frames += result.frames
                    one.encoded += result.encoded
                    one.cpu += spent
                    one.sizes[path, first, last] = clip.stat().st_size


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="a folder of real videos instead of rendered films")
    parser.add_argument("--films", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--limit", type=int, default=10**9, help="at most so many clips")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--name", default="cut", help="of the table under results/")
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        if asked.videos:
            paths = sorted(path for path in asked.videos.iterdir() if path.is_file())
        else:
            paths = split_corpus.rendered(folder / "films", asked.films, asked.seconds)
        known: list[Known] = []
        room = asked.limit
        for path, evidence, spans in sources(paths, folder / "evidence"):
            known.append((path, evidence, spans[:room]))
            room -= len(spans[:room])
            if not room:
                break
        sums: dict[str, dict[str, Sums]] = {name: defaultdict(Sums) for name in asked.cases}
        with clip_space(folder) as space:
            costs = measuring.in_turns(
                {
                    name: lambda name=name: measuring.here(
                        lambda: cut_all(known, CASES[name], space, sums[name]),
                    )
                    for name in asked.cases
                },
                asked.turns,
            )
    count = sum(len(spans) for _, _, spans in known)
    rows: list[Sequence[str | float]] = []
    for name in asked.cases:
        whole = measuring.median(costs[name])
        for method, one in sorted(sums[name].items()):
            cpu = whole.cpu / count if not method else one.cpu / one.clips
            share = f"{one.clips / (count * asked.turns):.0%}"
            kilobytes = sum(one.sizes.values()) / len(one.sizes) / 1000
            rows.append(
                (
                    f"`{name}`" if not method else f"… {method}",
                    share,
                    round(cpu * 1000, 1),
                    f"{one.encoded / one.frames:.0%}",
                    round(kilobytes),
                    weight(one, sums.get("reencode")),
                )
            )
    measuring.write_table(
        asked.name,
        ("`cut`", "clips", "CPU-ms a clip", "frames encoded", "kB a clip", "bytes of a re-encode"),
        rows,
        about=[f"{count} clips of {len(known)} sources; presets are `veryfast` where none is named; crf 20."],
        libraries=measuring.versions("av"),
    )


def weight(one: Sums, encoded: dict[str, Sums] | None) -> str:
    """Bytes of these clips against those of the same spans re-encoded."""
    if encoded is None:
        return ""
    return f"{sum(one.sizes.values()) / sum(encoded[''].sizes[span] for span in one.sizes):.2f}"


if __name__ == "__main__":
    main()
