"""What the decode pass leaves for the stages: frame tables, thumbnails, candidate frames as JPEG, 16 kHz sound.

One folder per source. `frames.parquet` and `packets.parquet` stay for good; the rest goes once its clips are packed
(or when the YAML says so).

    frames.parquet packets.parquet   the tables of `vidcap.media.frames`
    facts.json                       `SourceFacts`
    thumbnails.rgb                   N×27×48×3 uint8, memory-mapped; dropped after trim
    candidates.npz candidates*.jpgs  frame indices, offsets and sizes; the concatenated JPEGs (the index names the file)
    audio.s16                        int16 little-endian, 16 kHz mono, zero at the first frame shown; only with sound
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from vidcap.backends.roles import ClipView
from vidcap.errors import ItemError
from vidcap.media.audio import SAMPLE_RATE, SOUND
from vidcap.media.candidates import INDEX, Candidates
from vidcap.media.facts import SourceFacts
from vidcap.media.frames import SourceTables
from vidcap.media.lazy_pictures import LazyPictures
from vidcap.media.snap import Order
from vidcap.media.thumbnails import THUMBNAIL
from vidcap.media.windowed import StoredSound, thumbnails_of

__all__ = ["SAMPLE_RATE", "THUMBNAIL", "Evidence"]

FACTS, THUMBNAILS = "facts.json", "thumbnails.rgb"
TABLES = ("frames.parquet", "packets.parquet", FACTS)
PARTS = frozenset({"pictures", "sound"})
"""What the decode pass makes beside tables and thumbnails, where a later stage looks at it."""


class Evidence:
    """Read side of one source's evidence folder. Cheap to make; everything is read when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def tables(self) -> SourceTables:
        return SourceTables.load(self.folder)

    @cached_property
    def order(self) -> Order:
        """What the order of the packets says of the spans that can be copied."""
        return Order(self.tables)

    @cached_property
    def facts(self) -> SourceFacts:
        return SourceFacts.from_json((self.folder / FACTS).read_text("utf-8"))

    @cached_property
    def times(self) -> npt.NDArray[np.float64]:
        """Seconds of every frame from the first presented one."""
        return self.tables.frames.times()

    @property
    def complete(self) -> bool:
        """Whether all is there that the stages after trim may need: tables, facts, candidate frames and sound.

        Thumbnails do not count, they go after trim: ask `has_thumbnails`.
        """
        return self.holds(PARTS)

    def holds(self, wanted: Collection[str]) -> bool:
        """Whether tables and facts are there, and which of `PARTS` are wanted."""
        try:
            return (
                all((self.folder / name).is_file() for name in TABLES)
                and ("pictures" not in wanted or (self.folder / self._candidates.file).is_file())
                and ("sound" not in wanted or self.has_sound)
            )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return False

    @property
    def has_thumbnails(self) -> bool:
        return (self.folder / THUMBNAILS).is_file()

    @property
    def has_sound(self) -> bool:
        """Whether the sound is there, or the source has none."""
        return not self.facts.has_audio or (self.folder / SOUND).is_file()

    @property
    def thumbnails(self) -> npt.NDArray[np.uint8]:
        """N×27×48×3 uint8 RGB of all frames, mapped: look at them in windows, and only a window is in memory.

        Raises FileNotFoundError once they are dropped.
        """
        return thumbnails_of(self.folder / THUMBNAILS, (*THUMBNAIL, 3))

    @property
    def candidates(self) -> npt.NDArray[np.int64]:
        """Indices of the candidate frames, ascending."""
        return self._candidates.frames

    def frame_jpeg(self, index: int) -> bytes:
        """The JPEG of candidate frame `index`. Raises KeyError for any other frame."""
        return next(self._candidates.jpegs([index]))

    def audio(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """The sound from the start of frame `first` to the end of frame `last`: float32, 16 kHz mono, in [-1, 1).

        Empty where the source has no audio track.
        """
        return self.sound(first, last)[:]

    def audio_all(self) -> npt.NDArray[np.float32]:
        """The sound of the whole source, as `audio`: 230 MB an hour."""
        return self.sound()[:]

    def sound(self, first: int = 0, last: int | None = None) -> StoredSound:
        """What `audio` gives, or the whole source's sound, read where it is sliced."""
        frames = self.tables.frames if last is not None else None
        start = round(frames.start(first) * SAMPLE_RATE) if frames is not None else 0
        end = frames.end(last) if frames is not None and last is not None else self.facts.seconds
        return StoredSound(self.folder / SOUND if self.facts.has_audio else None, start, round(end * SAMPLE_RATE))

    def clip_view(self, key: str, first: int, last: int, frames_per_clip: int, transcript: str = "") -> ClipView:
        """What a captioner sees of frames `first` to `last`: at most `frames_per_clip` candidates, evenly chosen.

        Raises `ItemError` (`clip.no_frames`) where no candidate lies inside. A picture is decoded when it is looked at.
        """
        inside = self.candidates[(self.candidates >= first) & (self.candidates <= last)]
        if not len(inside) or frames_per_clip < 1:
            raise ItemError("clip.no_frames", f"no candidate frame between {first} and {last}")
        count = min(frames_per_clip, len(inside))
        # The middle of each of `count` equal parts.
        chosen = [int(inside[(2 * i + 1) * len(inside) // (2 * count)]) for i in range(count)]
        frames = self.tables.frames
        start = frames.start(first)
        return ClipView(
            key=key,
            frames=LazyPictures(list(self._candidates.jpegs(chosen)), f"between {first} and {last}"),
            times=[round(float(self.times[i]) - start, 6) for i in chosen],
            audio=self.audio(first, last),
            has_audio=self.facts.has_audio,
            seconds=round(frames.end(last) - start, 6),
            transcript=transcript,
        )

    def drop_thumbnails(self) -> None:
        (self.folder / THUMBNAILS).unlink(missing_ok=True)

    def keep_spans(self, spans: Iterable[tuple[int, int]]) -> None:
        """Drop the candidate frames that lie in none of the spans (first and last frame, both inclusive)."""
        if not (self.folder / INDEX).is_file():
            return  # the pass made none
        kept = np.zeros(len(self.candidates), bool)
        for first, last in spans:
            kept |= (self.candidates >= first) & (self.candidates <= last)
        self._candidates.keep(self.candidates[kept].tolist())
        del self._candidates

    def drop_all_but_tables(self, *, keep_sound: bool = False) -> None:
        """Keep frame table, packet index and facts; everything else goes, leftovers of a killed worker too.

        `keep_sound`: packing again needs it, where samples carry it.
        """
        kept = (*TABLES, SOUND) if keep_sound else TABLES
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink()
        self.__dict__.pop("_candidates", None)

    @cached_property
    def _candidates(self) -> Candidates:
        return Candidates(self.folder)
