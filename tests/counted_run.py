"""Runs `vidcap` in this process and says what it did, in counts: `python tests/counted_run.py COUNTS.json ARGUMENTS`.

What libraries in C do is read off their own account: libav names each file it opens, the H.264 decoder each slice it
decodes (a picture, in what we look at), x264 the pictures it has encoded. Counted are

    tasks       part → steps handed to the runner
    opened      source → how often it was opened, by any process and library (inotify)
    by_libav    stage → how often libav opened a file for reading
    read        stage → bytes that libav read of files
    pictures    stage → H.264 pictures decoded
    encoded     stage → H.264 pictures encoded
    looked      stage → pictures made small, to compare them
    jpegs_made, jpegs_read, sounds      candidate frames written and read back; audio tracks decoded
    fsyncs      file → how often it was brought to the disk
    replaced    file → how often one was renamed to it
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from source_opens import opens_of

_OPENING = re.compile(r"Opening '.*' for reading")
_SLICE = re.compile(r"nal_unit_type: [15]\(")
_ENCODED = re.compile(r"frame [IPB]:(\d+) ")
_READ = re.compile(r"Statistics: (\d+) bytes read")
_DIGITS = re.compile(r"\d{6,}|[0-9a-f]{8,}")


class Counts:
    def __init__(self) -> None:
        self.tasks: Counter[str] = Counter()
        self.opened: dict[str, int] = {}
        self.by_libav: Counter[str] = Counter()
        self.read: Counter[str] = Counter()
        self.pictures: Counter[str] = Counter()
        self.encoded: Counter[str] = Counter()
        self.looked: Counter[str] = Counter()
        self.jpegs_made = self.jpegs_read = self.sounds = 0
        self.fsyncs: Counter[str] = Counter()
        self.replaced: Counter[str] = Counter()
        self.stage = ""

    @contextlib.contextmanager
    def libav(self, stage: str) -> Iterator[None]:
        """Book what libav says meanwhile."""
        import av.logging

        self.stage = stage
        with av.logging.Capture(False) as said:
            yield
        self.stage = ""
        for _, _, text in said:
            if _OPENING.search(text):
                self.by_libav[stage] += 1
            elif _SLICE.search(text):
                self.pictures[stage] += 1
            elif found := _ENCODED.search(text):
                self.encoded[stage] += int(found[1])
            elif found := _READ.search(text):
                self.read[stage] += int(found[1])


def main() -> int:
    into, watched, arguments = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    import av.logging

    av.logging.set_level(av.logging.DEBUG)
    av.logging.set_skip_repeated(False)
    counts = Counts()
    _watch_stages(counts)
    _watch_pictures(counts)
    _watch_files(counts)
    _watch_tasks(counts, "inline" in arguments)
    from vidcap.cli.main import main as vidcap

    paths = sorted(path for path in watched.rglob("*") if path.is_file())
    with opens_of(paths) as opened:
        code = vidcap(arguments)
        counts.opened = {str(path.relative_to(watched)): number for path, number in opened().items()}
    into.write_text(json.dumps(vars(counts), indent=1), "utf-8")
    return code


def _watch_stages(counts: Counts) -> None:
    from vidcap.stages.decode import Decode
    from vidcap.stages.pack import Pack

    for stage, cls in (("decode", Decode), ("pack", Pack)):

        def run(self: Any, *more: Any, _stage: str = stage, _real: Any = cls.run, **named: Any) -> Any:
            with counts.libav(_stage):
                return _real(self, *more, **named)

        cls.run = run  # type: ignore[method-assign]


def _watch_pictures(counts: Counts) -> None:
    import cv2

    from vidcap.media.audio import SoundTrack
    from vidcap.media.candidates import JpegMaker
    from vidcap.media.thumbnails import Thumbnailer

    def watch(owner: Any, attribute: str, count: Callable[[], None]) -> None:
        real = getattr(owner, attribute)

        def counted(*more: Any, **named: Any) -> Any:
            count()
            return real(*more, **named)

        setattr(owner, attribute, counted)

    def one(name: str) -> Callable[[], None]:
        return lambda: setattr(counts, name, getattr(counts, name) + 1)

    watch(cv2, "imdecode", one("jpegs_read"))
    watch(JpegMaker, "__call__", one("jpegs_made"))
    watch(SoundTrack, "__init__", one("sounds"))
    watch(Thumbnailer, "__call__", lambda: counts.looked.update([counts.stage]))


def _watch_files(counts: Counts) -> None:
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        counts.fsyncs[_kind(os.readlink(f"/proc/self/fd/{number}"))] += 1
        fsync(descriptor)

    def replaced(source: Any, target: Any, **named: Any) -> None:
        counts.replaced[_kind(os.fspath(target))] += 1
        replace(source, target, **named)

    os.fsync, os.replace = synced, replaced


def _watch_tasks(counts: Counts, inline: bool) -> None:
    if inline:
        from vidcap.runners.inline import InlineRunner as Runner
    else:
        from vidcap.runners.cluster import DaskRunner as Runner  # type: ignore[assignment]
    submit: Any = Runner.submit

    def submitted(self: Any, task: Any, *more: Any, **named: Any) -> None:
        counts.tasks[str(task.part.number)] += 1
        submit(self, task, *more, **named)

    Runner.submit = submitted  # type: ignore[method-assign]


def _kind(path: str) -> str:
    """Folder and name without what differs from run to run: numbers of parts, ids of sources, temporary endings."""
    folder, name = os.path.split(path)
    short = re.sub(r"(\.\d+)?(\.tmp|\.part)?$", "", name.removeprefix("."))
    return _DIGITS.sub("#", f"{os.path.basename(folder).removeprefix('.')}/{short}").replace(f".{os.getpid()}.tmp", "")


if __name__ == "__main__":
    sys.exit(main())
