"""Makes batches of samples: reads, decodes, draws captions. A batch depends on what was asked for and nothing else.

What is drawn for a sample (frames, crop, sound window, captions) follows from the seed, the epoch and the sample's
place in its source, not from the process that makes it or what came before.
"""

from __future__ import annotations

import atexit
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from vidcap.errors import ItemError
from vidcap.seeds import seed_of
from vidcap.torch_device import cpu_threads
from vidcap.train import decode
from vidcap.train.batch import ANY, PICTURED, SOUNDING, Batch, MediaType
from vidcap.train.film import Film, Pictures, opened
from vidcap.train.order import Position, Ref, Work, rng
from vidcap.train.sources import Content, Source
from vidcap.train.text import WordPieceTokens

SOUND_FRAMES = 998


@dataclass(frozen=True, slots=True)
class View:
    """What is made of a sample: `frames` pictures of `size`×`size`, captions of `kinds` with `max_text` tokens.

    `training`: drawn frames, crops, flips and sound windows; otherwise the middle ones. `hear`: sound is decoded.
    """

    frames: int
    size: int
    max_text: int
    kinds: tuple[str, ...]
    training: bool = True
    hear: bool = True


@dataclass(frozen=True, slots=True)
class Fault:
    """A sample that could not be used: a code of `vidcap.reasons`, and what it was."""

    reason: str
    detail: str
    key: str


@dataclass
class Fetched:
    """A batch, what was wrong in it, and the captions and choices its samples have (evaluation asks for all)."""

    work: Work
    batch: Batch
    faults: list[Fault]
    captions: list[Mapping[str, Sequence[str]]]
    choices: list[tuple[tuple[str, ...], int]]

    def pin_memory(self) -> Fetched:
        self.batch = self.batch.pin_memory()
        return self


@dataclass
class _Row:
    content: Content | None = None
    frames: Tensor | None = None
    fbank: Tensor | None = None
    texts: Mapping[str, str] | None = None


class Fetcher:
    """`Work` → `Fetched`. Can be sent to worker processes; holds no open file."""

    def __init__(self, sources: Sequence[Source], tokens: WordPieceTokens, view: View, seed: int) -> None:
        self.sources, self.tokens, self.view, self.seed = sources, tokens, view, seed

    def __getitem__(self, work: Work) -> Fetched:
        # One thread: matrix products of several threads differ in their last bits from those of one.
        with cpu_threads(1), torch.no_grad():
            return self._fetched(work)

    def _fetched(self, work: Work) -> Fetched:
        rows: list[_Row] = []
        faults: list[Fault] = []
        keys: list[str] = []
        for ref in work.refs:
            row, key = _Row(), f"{self.sources[ref.source].name}:{ref.unit}:{ref.item}"
            try:
                content = self.sources[ref.source].content(ref.unit, ref.item)
                key = content.key
                row = self._row(content, work.media_type, ref, work.position.epoch)
            except ItemError as error:
                faults.append(Fault(error.reason, error.detail, key))
            rows.append(row)
            keys.append(key)
        batch = self._batch(work, rows, keys)
        captions = [row.content.captions if row.content else {} for row in rows]
        choices = [(row.content.choices, row.content.answer) if row.content else ((), -1) for row in rows]
        return Fetched(work, batch, faults, captions, choices)

    def _row(self, content: Content, media_type: MediaType, ref: Ref, epoch: int) -> _Row:
        """Raises `ItemError`."""
        view = self.view

        def draw(what: str) -> decode.Draw | None:
            return rng(self.seed, epoch, *ref, what) if view.training else None

        row = _Row(content)
        span = Pictures([], 0.0, content.seconds)
        heard = media_type in SOUNDING and view.hear and content.sound is not None
        own = heard and media_type in PICTURED and content.sound == content.picture
        if media_type in PICTURED:
            with content.opened(content.picture) as file, opened(file) as film:
                if content.still:
                    span = Pictures([decode.picture(film)], 0.0, None)
                else:
                    count = 1 if media_type == "image" else view.frames
                    span = decode.pictures(
                        film,
                        count,
                        draw("frames"),
                        span=content.span,
                        seconds=content.seconds,
                        expected=content.expected,
                    )
                row.frames = decode.pictures_tensor(span.frames, view.size, draw("crop"))
                if own:  # frame numbers tell a time in the film's own sound only
                    row.fbank = self._heard(film, draw("sound"), media_type, span.start, span.end)
        if heard and not own:
            with content.opened(content.sound) as file:
                row.fbank = self._heard(file, draw("sound"), media_type, 0.0, content.seconds)
        if media_type == "audio" and view.hear and row.fbank is None:
            raise ItemError("sample.no_sound", "nothing to hear in an audio sample")
        row.texts = self._texts(content.captions, draw("captions"))
        return row

    def _heard(
        self, file: Film | BinaryIO, draw: decode.Draw | None, media_type: MediaType, start: float, end: float | None
    ) -> Tensor | None:
        """None where there is no sound, which only a sample that is nothing else must have."""
        try:
            return decode.spectrum(decode.sound(file, draw, start=start, end=end))
        except ItemError as error:
            if error.reason != "sample.no_sound" or media_type == "audio":
                raise
            return None

    def _texts(self, captions: Mapping[str, Sequence[str]], draw: decode.Draw | None) -> dict[str, str]:
        """One caption per asked kind: drawn where there are several; the first one where nothing is drawn."""
        found: dict[str, str] = {}
        for kind in self.view.kinds:
            among = sorted(captions) if kind == ANY else [kind] if kind in captions else []
            if among:
                # As many draws as there are kinds, whatever is there: one kind's captions leave the others' alone.
                texts = captions[among[0 if draw is None else int(draw.integers(len(among)))]]
                found[kind] = texts[0 if draw is None else int(draw.integers(len(texts)))]
        return found

    def _batch(self, work: Work, rows: Sequence[_Row], keys: list[str]) -> Batch:
        view, media_type = self.view, work.media_type
        texts: dict[str, Tensor] = {}
        masks: dict[str, Tensor] = {}
        valid: dict[str, Tensor] = {}
        for kind in view.kinds:
            written = [(row.texts or {}).get(kind, "") for row in rows]
            texts[kind], masks[kind] = self.tokens.encode(written, view.max_text)
            valid[kind] = masks[kind].any(1)
        return Batch(
            media_type=media_type,
            index=torch.tensor([_identity(row, place) for place, row in enumerate(rows)], dtype=torch.int64),
            frames=_stacked(
                [row.frames for row in rows],
                (1 if media_type == "image" else view.frames, 3, view.size, view.size),
            )
            if media_type in PICTURED
            else None,
            fbank=_stacked([row.fbank for row in rows], (SOUND_FRAMES, decode.MELS))
            if media_type in SOUNDING
            else None,
            has_audio=torch.tensor([row.fbank is not None for row in rows]),
            texts=texts,
            text_masks=masks,
            text_valid=valid,
            keys=keys,
        )


def _identity(row: _Row, place: int) -> int:
    """63 bits of what the media is; for a sample that is not there a negative number of its own."""
    if row.content is None:
        return -1 - place
    return seed_of(0, row.content.identity, "media") >> 1


def _stacked(found: Sequence[Tensor | None], shape: tuple[int, ...]) -> Tensor:
    rows = [torch.zeros(shape) if one is None else one for one in found]
    if get_worker_info() is None:
        return torch.stack(rows)
    # In a worker: straight into memory that is handed over as it is, as torch's own collating does.
    storage: Any = torch.UntypedStorage._new_shared(4 * len(rows) * math.prod(shape))
    return torch.stack(rows, out=torch.empty(0).set_(storage).view(len(rows), *shape))


class Loader:
    """Batches in the order of `work`, made ahead by `workers` processes (0: here, when asked for).

    Any number of workers gives the same batches.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        work: Iterable[Work],
        *,
        workers: int = 0,
        ahead: int = 2,
        start: str = "spawn",
        pinned: bool = False,
    ) -> None:
        """`ahead`: batches that each worker makes in advance; `start`: how workers are started (`spawn`, `fork`…)."""
        from torch.utils.data import DataLoader

        many: dict[str, Any] = (
            {"prefetch_factor": ahead, "multiprocessing_context": start, "worker_init_fn": _leave_at_once}
            if workers
            else {}
        )
        self._loader: Any = DataLoader(
            fetcher,
            batch_size=None,
            sampler=_Once(work),
            num_workers=workers,
            collate_fn=_unchanged,
            pin_memory=pinned,
            # Without one of its own it would draw its workers' seeds from the global state.
            generator=torch.Generator().manual_seed(0),
            **many,
        )
        self._iterator: Any = None

    def __iter__(self) -> Iterator[Fetched]:
        self._iterator = iter(self._loader)
        return self._iterator

    def close(self) -> None:
        """End the workers."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None and hasattr(iterator, "_shutdown_workers"):
            # What the iterator's own end does, at a time of ours: at interpreter exit it may come too late.
            iterator._shutdown_workers()


class _Once:
    """Work as torch's loader wants its sampler."""

    def __init__(self, work: Iterable[Work]) -> None:
        self._work = work

    def __iter__(self) -> Iterator[Work]:
        return iter(self._work)


def _unchanged(value: Any) -> Any:
    return value


def _leave_at_once(worker: int) -> None:
    """At its end a worker skips the libraries' own ends: their threads abort the process every other time."""
    del worker
    atexit.register(os._exit, 0)


def in_order(sources: Sequence[Source], batch: int) -> Iterator[Work]:
    """Every sample once, source by source as they lie: what evaluation reads. The last batch of a source is smaller."""
    step = 0
    for number, source in enumerate(sources):
        refs = [Ref(number, unit, item, 0) for unit, count in enumerate(source.counts) for item in range(count)]
        for first in range(0, len(refs), batch):
            yield Work(Position(0, step), 0, source.media_type, tuple(refs[first : first + batch]))
            step += 1
