"""Writes the packets of a clip into one plain MP4 file: not fragmented, no hidden frame, the same bytes each time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import av


@dataclass(slots=True)
class Track:
    """One stream of the file being written, and its packets with times in units of `time_base`."""

    stream: Any
    time_base: Fraction
    packets: list[Any] = field(default_factory=list)

    def add(self, packet: Any, *, pts: int, dts: int, duration: int) -> None:
        packet.stream = self.stream
        packet.time_base = self.time_base
        packet.pts, packet.dts, packet.duration = pts, dts, duration
        self.packets.append(packet)


class ClipFile:
    """A clip being written. Packets are kept until `finish`, which muxes them by decode time.

    Times count from the clip's first frame; sound before it (negative times) is hidden by the edit list, which is how
    MP4 says where a sound's first whole packet begins.
    """

    def __init__(self, path: Path, time_base: Fraction) -> None:
        # Edit lists count in the movie's time scale: take the video's own, so that spans are exact.
        scale = time_base.denominator if 1000 <= time_base.denominator <= 1_000_000 else 90_000
        options = {"movie_timescale": str(scale), "movflags": "+faststart"}
        self._container: Any = av.open(str(path), "w", format="mp4", container_options=options)
        self._container.flags |= cast(int, av.container.core.Flags.bitexact.value)  # No muxer version in the file.
        self.tracks: list[Track] = []

    def __enter__(self) -> ClipFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._container.close()

    def copied(self, template: Any, time_base: Fraction | None = None, extradata: bytes | None = None) -> Track:
        """A track that takes packets of the stream `template` as they are, with times in its units or in these.

        `extradata` takes the place of the template's own.
        """
        base = time_base or template.time_base
        stream = self._container.add_stream_from_template(template, opaque=True)
        stream.metadata.clear()  # Titles and encoder names of the source are not the clip's.
        context = stream.codec_context
        if extradata is not None:
            context.extradata = extradata
        if template.codec_context.codec.canonical_name == "hevc" and (context.extradata or b"\0")[0] == 1:
            # Parameter sets stand in the header, as `hvc1` says; Apple's players refuse `hev1`.
            context.codec_tag = "hvc1"
        stream.time_base = base
        return self._track(stream, base)

    def encoded(self, codec: str, rate: Fraction | int, time_base: Fraction, options: dict[str, str]) -> Track:
        """A track for packets of `track.stream.encode(frame)`; set the picture or sound format on the stream first."""
        stream = self._container.add_stream(codec, rate=rate, options=options)
        context = stream.codec_context
        context.time_base = time_base
        context.thread_count = 1
        context.flags |= av.codec.context.Flags.bitexact.value
        return self._track(stream, time_base)

    def finish(self) -> None:
        fine = math.lcm(*(track.time_base.denominator for track in self.tracks))
        every = []
        for number, track in enumerate(self.tracks):
            ticks = track.time_base.numerator * (fine // track.time_base.denominator)
            every += [(packet.dts * ticks, number, packet) for packet in track.packets]
        for _, _, packet in sorted(every, key=lambda item: item[:2]):
            self._container.mux_one(packet)

    def _track(self, stream: Any, time_base: Fraction) -> Track:
        track = Track(stream, time_base)
        self.tracks.append(track)
        return track
