"""Encoding the pictures of a clip with the ffmpeg program, which may do so on a graphics card (NVENC)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import av.error
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.video.frame import VideoFrame

from vidcap.errors import ConfigError, MediaError, TransientError
from vidcap.media.ffmpeg_program import ProgramError, Run, check_listed, library
from vidcap.media.mp4 import ClipFile

EncoderName = Literal["libx264", "libx265", "h264_nvenc", "hevc_nvenc"]

CODECS: Mapping[str, str] = {"libx264": "h264", "libx265": "hevc", "h264_nvenc": "h264", "hevc_nvenc": "hevc"}
"""Encoder → the codec that it writes."""
INFORMATION: Mapping[str, str] = {"h264": "filter_units=remove_types=6", "hevc": "filter_units=remove_types=39-40"}
"""Codec → the filter that takes out what an encoder writes of its version and settings; it is no part of a clip."""
SLACK = 1 << 20
"""Bytes that a clip may have more than its uncompressed pictures: headers of very small ones."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How re-encoded clips are made. `crf`: x264's and x265's; with NVENC its `cq`, likewise 0 to 51, lower is better.

    `preset`: of the encoder; NVENC's are "p1" (fast) to "p7". PyAV encodes with libx264 only.
    """

    through: Literal["pyav", "ffmpeg"] = "pyav"
    encoder: EncoderName = "libx264"
    crf: int = 20
    preset: str = "veryfast"

    @property
    def codec(self) -> str:
        return CODECS[self.encoder]


def check_encoding(encoding: Encoding) -> None:
    """Raises `ConfigError` unless the program is here and was built with that encoder."""
    check_listed("encoders", encoding.encoder)


def try_encoding(encoding: Encoding) -> None:
    """Encode a few grey pictures. Raises `ConfigError` where that does not work on this machine."""
    check_encoding(encoding)
    try:
        _try(encoding)
    except ProgramError as error:
        hint = "run where a card and its driver are (`nvidia-smi`), or take the encoder `libx264`"
        if "nvenc" not in encoding.encoder:
            hint = "see what it says of `preset` and `crf`"
        raise ConfigError(f"`encoder: {encoding.encoder}` does not work on this machine: {error}", hint=hint) from error


def _try(encoding: Encoding) -> None:
    grey = VideoFrame.from_ndarray(np.full((384, 256), 128, np.uint8), format="yuv420p")
    with Run(_arguments(grey, Fraction(25), encoding), takes_input=True) as run:
        for _ in range(4):
            run.send(_pixels(grey))
        if not run.finish():
            raise ProgramError("it gave no packet")


class ThroughProgram:
    """Takes the pictures of one clip and, at the end, adds their packets to the clip's file. Close it in any case."""

    def __init__(
        self, picture: VideoFrame, out: ClipFile, time_base: Fraction, rate: Fraction, encoding: Encoding
    ) -> None:
        self._out, self._time_base, self._rate, self._encoding = out, time_base, rate, encoding
        self._times: list[int] = []
        self._sent = 0
        self._run = Run(_arguments(picture, rate, encoding), takes_input=True)

    def close(self) -> None:
        self._run.__exit__(None, None, None)

    def take(self, picture: VideoFrame) -> None:
        """Yuv420p, all of one size, times ascending."""
        assert picture.pts is not None
        pixels = _pixels(picture)
        try:
            self._run.send(pixels)
        except ProgramError as error:
            raise self._failed(error) from error
        self._times.append(picture.pts)
        self._sent += len(pixels)
        if self._run.held > self._sent + SLACK:
            raise MediaError("pack.cut_failed", "the ffmpeg program gives more bytes than it gets")

    def finish(self, ends: Mapping[int, int]) -> None:
        """`ends`: time of each picture → when it ends, both in ticks from the clip's start."""
        try:
            encoded = self._run.finish()
        except ProgramError as error:
            raise self._failed(error) from error
        with av.open(io.BytesIO(encoded), "r", format="nut") as found:
            stream: Any = found.streams.video[0]
            packets = [packet for packet in found.demux(stream) if packet.size]
            # All are moved by as much as keeps decode times from being negative.
            moved = min((packet.pts for packet in packets), default=0)
            numbers = [round((packet.pts - moved) * packet.time_base * self._rate) for packet in packets]
            if sorted(numbers) != list(range(len(self._times))):
                raise MediaError("pack.cut_mismatch", f"{len(packets)} packets for {len(self._times)} pictures")
            track = self._out.copied(stream, self._time_base)
            strip = BitStreamFilterContext(INFORMATION[self._encoding.codec], stream)
            pts = np.array([self._times[number] for number in numbers], np.int64)
            # The latest decode times that fit: they span what the presentation times span, as MP4 wants it.
            ordered = np.sort(pts)
            dts = (ordered - (ordered - pts).max()).tolist()
            durations = [ends[time] - time for time in pts.tolist()]
            durations[-1] = max(1, max(ends.values()) - int(pts.min()) - (dts[-1] - dts[0]))
            for packet, at, decoded, duration in zip(packets, pts.tolist(), dts, durations, strict=True):
                (unit,) = strip.filter(packet)
                track.add(unit, pts=at, dts=decoded, duration=duration)

    def _failed(self, error: ProgramError) -> Exception:
        """Is it the clip, or the encoder? Cards give out and programs are killed: that condemns no clip."""
        try:
            _try(self._encoding)
            passing = error.passing
        except ProgramError:
            passing = True
        if passing:
            return TransientError(f"the ffmpeg program with `{self._encoding.encoder}`: {error}", hint="run again")
        return MediaError("pack.cut_failed", f"the ffmpeg program with {self._encoding.encoder}: {error}")


def _arguments(picture: VideoFrame, rate: Fraction, encoding: Encoding) -> Any:
    """Pictures like this one in, packets out; the n-th picture has the time n / rate."""
    given: dict[str, Any] = {
        "f": "rawvideo",
        "pix_fmt": "yuv420p",
        "video_size": (picture.width, picture.height),
        "framerate": f"{rate.numerator}/{rate.denominator}",
    }
    wanted: dict[str, Any] = {
        "vcodec": encoding.encoder,
        "preset": encoding.preset,
        "pix_fmt": "yuv420p",
        "fps_mode": "passthrough",
        "flags:v": "+bitexact",
        "fflags": "+bitexact",
        "f": "nut",
        "color_range": "tv",
        "color_primaries": int(picture.color_primaries),
        "color_trc": int(picture.color_trc),
        "colorspace": int(picture.colorspace),
    }
    # Fixed threads: the bytes of x264 and x265 depend on their number. On the macroblock tree see `reencoding`.
    own: dict[str, dict[str, Any]] = {
        "libx264": {
            "crf": encoding.crf,
            "threads": 1,
            "x264-params": "threads=1:lookahead-threads=1:mbtree=0",
        },
        "libx265": {
            "crf": encoding.crf,
            "x265-params": "pools=none:frame-threads=1:log-level=error:info=0",
        },
    }
    on_card = {"rc": "vbr", "cq": encoding.crf, "b:v": 0, "g": 250}
    return library().input("pipe:0", **given).output("pipe:1", **wanted, **own.get(encoding.encoder, on_card))


def _pixels(picture: VideoFrame) -> bytes:
    """The planes of a yuv420p picture one behind the other, without gaps."""
    planes: Any = picture.planes
    rows = [
        np.frombuffer(plane, np.uint8)[: plane.height * plane.line_size].reshape(plane.height, -1)[:, : plane.width]
        for plane in planes
    ]
    return b"".join(plane.tobytes() for plane in rows)
