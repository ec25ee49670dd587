"""Reads footage for training shot detectors: lossless thumbnails as video, an index, and a teacher's opinion."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vidcap.autoshot.footage import Footage, Piece, gathered
from vidcap.errors import UsageError
from vidcap.media.probe import open_media
from vidcap.store import replacing

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
INDEX = "index.json"
SINGLE_SHOTS = "pieces"
"""The entry of the index whose pieces are said to hold one shot each."""


@dataclass(frozen=True, slots=True)
class FootageFolder:
    """`index.json` maps a name to pieces with `frames`, `repo`, `path` and `licence`, in the order of NAME.mkv.

    NAME_teacher.npz holds `teacher`: frames×2 probabilities, of the middle of a transition and of any part of one.
    Those that the folder lacks are looked for, and written, in `opinions`.
    """

    path: Path
    opinions: Path

    def read(self) -> Footage:
        """All pieces, cut where the teacher sees a transition. Raises `UsageError` for what does not fit together."""
        pieces = {name: self._pieces(name, rows) for name, rows in self._index().items()}
        continuous = [piece for name in pieces if name != SINGLE_SHOTS for piece in pieces[name]]
        return gathered(pieces.get(SINGLE_SHOTS, []), continuous)

    def without_teacher(self) -> list[str]:
        """The names that have no teacher's opinion yet."""
        return [name for name in self._index() if not self._teacher_file(name).exists()]

    def licences(self) -> dict[str, int]:
        """Frames by licence."""
        counts: Counter[str] = Counter()
        for rows in self._index().values():
            for row in rows:
                counts[str(row["licence"])] += int(row["frames"])
        return dict(sorted(counts.items()))

    def thumbnails(self, name: str) -> UInt8:
        """N×27×48×3 uint8, every frame of NAME.mkv."""
        with open_media(str(self.path / f"{name}.mkv")) as media:
            # One thread: at this size handing frames about takes longer than converting them.
            frames = [frame.reformat(format="rgb24", threads=1).to_ndarray() for frame in media.decode(video=0)]
        return np.stack(frames)

    def ask(self, name: str, teacher: Callable[[UInt8], tuple[Float32, Float32]]) -> None:
        """Write what `teacher` says of each piece of `name`, seen by itself."""
        ends = np.cumsum([int(row["frames"]) for row in self._index()[name]])
        said = [np.stack(teacher(piece), 1) for piece in np.split(self.thumbnails(name), ends[:-1])]
        self.opinions.mkdir(parents=True, exist_ok=True)
        with replacing(self.opinions / f"{name}_teacher.npz") as part, part.open("wb") as handle:
            np.savez_compressed(handle, teacher=np.concatenate(said).astype(np.float16))

    def _pieces(self, name: str, rows: list[dict[str, Any]]) -> list[Piece]:
        frames = self.thumbnails(name)
        file = self._teacher_file(name)
        teacher = np.zeros((len(frames), 2), np.float32)
        if file.exists():
            with np.load(file, allow_pickle=False) as arrays:
                teacher = arrays["teacher"].astype(np.float32)
        ends = np.cumsum([int(row["frames"]) for row in rows])
        if not len(frames) == len(teacher) == ends[-1]:
            raise UsageError(
                f"`{self.path / name}` has {len(frames)} frames, {len(teacher)} opinions and {ends[-1]} in the index",
                hint="the three must be of the same footage",
            )
        starts = [0, *ends[:-1]]
        return [
            Piece(frames[start:end], f"{row['repo']}/{row['path']}", teacher[start:end])
            for start, end, row in zip(starts, ends, rows, strict=True)
        ]

    def _index(self) -> dict[str, list[dict[str, Any]]]:
        try:
            index: dict[str, list[dict[str, Any]]] = json.loads((self.path / INDEX).read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(
                f"`{self.path / INDEX}` cannot be read: {error.strerror}",
                hint="docs/models/fast-shots.md describes what a folder of training footage holds",
            ) from error
        return index

    def _teacher_file(self, name: str) -> Path:
        given = self.path / f"{name}_teacher.npz"
        return given if given.exists() else self.opinions / given.name
