"""Pictures of clips that never became samples: from the evidence while it is kept, else from the source itself."""

from __future__ import annotations

from pathlib import Path

import av.error

from vidcap.errors import VidcapError
from vidcap.inspector.entries import Stopped
from vidcap.inspector.pictures import COUNT, Picture, grabbed, small
from vidcap.media.evidence import Evidence
from vidcap.media.probe import open_media, video_stream
from vidcap.pipeline.columns import PartFolder
from vidcap.pipeline.plan import load_parts
from vidcap.records import Source


class StoppedPictures:
    """Gives the pictures of the clips it was told about; none where neither evidence nor source can be had."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self._clips: dict[str, tuple[Stopped, int]] = {}
        self._sources: dict[str, Source] = {s.id: s for part in load_parts(output) for s in part.sources}

    def know(self, clip: Stopped, part: int) -> None:
        self._clips[clip.key] = (clip, part)

    def of(self, key: str) -> list[Picture]:
        """At most six pictures; times count from the clip's start. Raises `KeyError` for a clip it was not told of."""
        clip, part = self._clips[key]
        evidence = Evidence(PartFolder(self.output, part).evidence(clip.source_id))
        try:
            return self._from_evidence(evidence, clip) or self._from_source(evidence, clip)
        except (VidcapError, OSError, ValueError, KeyError, av.error.FFmpegError):
            return []

    def _from_evidence(self, evidence: Evidence, clip: Stopped) -> list[Picture]:
        try:
            inside = evidence.candidates
            inside = inside[(inside >= clip.first_frame) & (inside <= clip.last_frame)]
            count = min(COUNT, len(inside))
            chosen = [int(inside[(2 * at + 1) * len(inside) // (2 * count)]) for at in range(count)]
            start = evidence.tables.frames.start(clip.first_frame)
            return [
                Picture(round(float(evidence.times[frame]) - start, 3), small(evidence.frame_jpeg(frame)))
                for frame in chosen
            ]
        except FileNotFoundError:
            return []  # dropped once the part was packed, as `evidence.keep` says

    def _from_source(self, evidence: Evidence, clip: Stopped) -> list[Picture]:
        """From the source, where it is a local file of the size that was decoded."""
        source = self._sources[clip.source_id]
        if "://" in source.path or Path(source.path).stat().st_size != source.bytes:
            return []
        frames = evidence.tables.frames.part(clip.first_frame, clip.last_frame)
        count = min(COUNT, len(frames))
        middles = [(2 * at + 1) * len(frames) // (2 * count) for at in range(count)]
        times = [float((int(frames.pts[at]) - int(frames.pts[0])) * frames.time_base) for at in middles]
        with open_media(source.path) as box:
            stream = video_stream(box)
            return list(grabbed(box, stream, int(frames.pts[0]), times))
