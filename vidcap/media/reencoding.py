"""The re-encoded cut: H.264 that plays anywhere, upright, square pixels, progressive, every presentation time kept."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.bitstream import BitStreamFilterContext
from av.video.reformatter import VideoReformatter

from vidcap.media.facts import MediaFacts
from vidcap.media.frames import FrameTable
from vidcap.media.mp4 import ClipFile, Track
from vidcap.media.probe import PQ_AND_HLG
from vidcap.media.program_encoding import INFORMATION, Encoding, ThroughProgram
from vidcap.media.thumbnails import Thumbnailer

Thumbnail = npt.NDArray[np.uint8]

_BT709 = 1
_UNSAID, _LIMITED = 0, 1
_SQUARE = Fraction(1, 100)


def upright_size(facts: MediaFacts) -> tuple[int, int]:
    """Width and height of the picture as it is to be shown: square pixels, turned upright, both even.

    A pixel shape within 1 % of square counts as square (426×320 at 640:639 stays as it is); else the picture grows
    along its shorter pixel side, so that nothing is thrown away.
    """
    width, height, sar = facts.width, facts.height, facts.sar
    if abs(sar - 1) > _SQUARE:
        width, height = (round(width * sar), height) if sar > 1 else (width, round(height / sar))
    if facts.rotation % 180:
        width, height = height, width
    return max(2, width // 2 * 2), max(2, height // 2 * 2)


def encode_video(
    frames: Iterable[tuple[int, Any, Thumbnail | None]],
    table: FrameTable,
    first: int,
    out: ClipFile,
    *,
    facts: MediaFacts,
    rate: Fraction,
    encoding: Encoding,
    compared: int,
) -> Thumbnail:
    """Encode the frames (index, picture, thumbnail) with times counted from frame `first`.

    Returns N×27×48×3 thumbnails of the first `compared` pictures that the encoder was given. One thread: x264's bytes
    depend on the number of threads.
    """
    thumbnail = Thumbnailer()
    seen: list[Thumbnail] = []
    origin = int(table.pts[first])
    ends: dict[int, int] = {}
    upright: _Upright | None = None
    encoder: ThroughProgram | _X264 | None = None

    def take(pictures: Iterable[Any], known: Thumbnail | None = None) -> None:
        nonlocal encoder
        for picture in pictures:
            if encoder is None:
                through = ThroughProgram if encoding.through == "ffmpeg" else _X264
                encoder = through(picture, out, table.time_base, rate, encoding)
            if len(seen) < compared:
                seen.append(thumbnail(picture) if known is None else known)
            encoder.take(picture)

    try:
        for index, frame, known in frames:
            at = int(table.pts[index]) - origin
            ends[at] = table.end_pts(index) - origin
            frame.pts, frame.time_base = at, table.time_base
            if _is_plain(frame, facts):
                if upright is not None:
                    take(upright.flush())
                    upright = None
                take([frame], known)
                continue
            if upright is None or not upright.fits(frame):
                if upright is not None:
                    take(upright.flush())
                upright = _Upright(frame, facts, table.time_base)
            take(upright.turn(frame))
        if upright is not None:
            take(upright.flush())
        if encoder is not None:
            encoder.finish(ends)
    finally:
        if encoder is not None:
            encoder.close()
    return np.stack(seen) if seen else np.empty((0, 27, 48, 3), np.uint8)


def _is_plain(frame: Any, facts: MediaFacts) -> bool:
    """Whether the frame is as it is to be encoded; a graph of filters would copy it and cost as much as decoding it."""
    return (
        frame.format.name == "yuv420p"
        and int(frame.color_range) in (_UNSAID, _LIMITED)
        and int(frame.color_trc) not in PQ_AND_HLG
        and not frame.interlaced_frame
        and facts.rotation == 0
        and (frame.width, frame.height) == upright_size(facts)
    )


class _X264:
    """PyAV's x264, with the interface of `ThroughProgram`."""

    def __init__(self, picture: Any, out: ClipFile, time_base: Fraction, rate: Fraction, encoding: Encoding) -> None:
        self._time_base = time_base
        self._track = _open_encoder(picture, out, time_base, rate, encoding.crf, encoding.preset)
        self._packets: list[Any] = []

    def take(self, picture: Any) -> None:
        picture.pict_type = 0
        self._packets += self._track.stream.encode(picture)

    def finish(self, ends: Mapping[int, int]) -> None:
        strip = BitStreamFilterContext(INFORMATION["h264"], "h264")
        for packet in [*self._packets, *self._track.stream.encode(None)]:
            unit: Any
            for unit in strip.filter(packet):
                pts, dts = (_ticks(time, unit.time_base, self._time_base) for time in (unit.pts, unit.dts))
                self._track.add(unit, pts=pts, dts=dts, duration=ends[pts] - pts)

    def close(self) -> None:
        """Nothing outlives it."""


class _Upright:
    """The filters that make a frame progressive, upright, square-pixelled, 8-bit 4:2:0 and of standard range."""

    def __init__(self, frame: Any, facts: MediaFacts, time_base: Fraction) -> None:
        self._shape = _shape(frame)
        self._time_base = time_base
        self._size = upright_size(facts)
        # The `scale` filter would work out its tone-mapping table anew for every frame.
        self._tone = VideoReformatter() if int(frame.color_trc) in PQ_AND_HLG else None
        graph = av.filter.Graph()
        graph.threads = 1
        layout = av.VideoFormat("yuv420p") if self._tone else frame.format
        steps = [graph.add_buffer(width=frame.width, height=frame.height, format=layout, time_base=time_base)]
        if frame.interlaced_frame:
            steps.append(graph.add("yadif", "mode=send_frame:deint=interlaced"))
        turns = {90: ["transpose=cclock"], 180: ["hflip", "vflip"], 270: ["transpose=clock"]}.get(facts.rotation, [])
        for turn in turns:
            name, _, arguments = turn.partition("=")
            steps.append(graph.add(name, arguments))
        steps.append(self._fit(graph, frame, facts.rotation))
        steps.append(graph.add("scale", _colours(frame)))
        steps += [graph.add("format", "yuv420p"), graph.add("setsar", "1"), graph.add("buffersink")]
        for one, other in itertools.pairwise(steps):
            one.link_to(other)
        graph.configure()
        self._graph = graph

    def _fit(self, graph: Any, frame: Any, rotation: int) -> Any:
        """An odd row or column is cut off, not blended away; any other size is reached by scaling."""
        width, height = (frame.height, frame.width) if rotation % 180 else (frame.width, frame.height)
        if (width // 2 * 2, height // 2 * 2) == self._size:
            return graph.add("crop", f"{self._size[0]}:{self._size[1]}:0:0:exact=1")
        return graph.add("scale", f"{self._size[0]}:{self._size[1]}:flags=bicubic+accurate_rnd")

    def fits(self, frame: Any) -> bool:
        return _shape(frame) == self._shape

    def turn(self, frame: Any) -> list[Any]:
        if self._tone is not None:
            to = {"dst_colorspace": _BT709, "dst_color_trc": _BT709, "dst_color_primaries": _BT709}
            pts = frame.pts
            frame = self._tone.reformat(frame, format="yuv420p", dst_color_range=_LIMITED, threads=1, **to)
            frame.pts, frame.time_base = pts, self._time_base
        self._graph.vpush(frame)
        return self._pull()

    def flush(self) -> list[Any]:
        self._graph.vpush(None)
        return self._pull()

    def _pull(self) -> list[Any]:
        pulled: list[Any] = []
        while True:
            try:
                picture: Any = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return pulled
            # yadif counts in half ticks.
            picture.pts = _ticks(picture.pts, picture.time_base, self._time_base)
            picture.time_base = self._time_base
            pulled.append(picture)


def _shape(frame: Any) -> tuple[int, int, str, int]:
    return frame.width, frame.height, frame.format.name, int(frame.color_trc)


def _colours(frame: Any) -> str:
    """Options of `scale` that bring full range to limited and, for RGB, choose BT.709."""
    return "out_color_matrix=bt709:out_range=tv" if frame.format.is_rgb else "out_range=tv"


X264 = "threads=1:lookahead-threads=1:mbtree=0"
# x264's macroblock tree reads memory that nobody wrote (seen with AVX-512, at widths of 176, 192, 540, 700, 854): with
# it the same pictures give other bytes from one call to the next.


def _open_encoder(picture: Any, out: ClipFile, time_base: Fraction, rate: Fraction, crf: int, preset: str) -> Track:
    options = {"preset": preset, "crf": str(crf), "threads": "1", "x264-params": X264}
    track = out.encoded("libx264", rate, time_base, options)
    context = track.stream.codec_context
    context.width, context.height, context.pix_fmt = picture.width, picture.height, "yuv420p"
    context.color_range = _LIMITED
    for name in ("color_primaries", "color_trc", "colorspace"):
        setattr(context, name, getattr(picture, name))
    return track


def _ticks(time: int, of: Fraction, to: Fraction) -> int:
    return time if of == to else round(time * of / to)
