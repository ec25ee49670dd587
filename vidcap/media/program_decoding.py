"""The frames of a source through the ffmpeg program, which may decode on a graphics card; the same ones as PyAV's.

PyAV reads the packets and decodes the first picture; the program gives the pixels. Each frame must come when the
packets say, and the first must look as PyAV decodes it. Whatever differs ends the attempt: PyAV then decodes it all.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame

from vidcap.errors import ConfigError
from vidcap.media.copying import begins_clean
from vidcap.media.ffmpeg_program import ProgramError, Run, check_listed, library, program
from vidcap.media.frames import NO_TIME, Int64, PacketIndex
from vidcap.media.opening import UNSMOOTHED
from vidcap.media.probe import CONTAINERS, open_media, video_stream
from vidcap.media.thumbnails import Thumbnailer

Hwaccel = Literal["none", "cuda"]

EXACT = frozenset({"h264", "hevc", "vp9", "av1"})
"""Codecs whose standards fix every pixel, so that two decoders can agree. MPEG-2, MPEG-4 and JPEG do not."""


class NotInStepError(Exception):
    """The program does not give the frames that PyAV would: in words, why."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The frames that the packets announce, in the order they are shown: `pts` and `duration` in the stream's ticks."""

    pts: Int64
    duration: Int64
    key: Any

    @classmethod
    def by(cls, packets: PacketIndex, duration: Int64) -> Shown:
        """Raises `NotInStepError` where the packets do not say when each frame is shown."""
        kept = np.flatnonzero(~packets.discard)
        pts = packets.pts[kept]
        if not len(kept) or (pts == NO_TIME).any() or len(np.unique(pts)) != len(pts):
            raise NotInStepError("the packets do not say when each frame is shown")
        order = kept[np.argsort(pts)]
        return cls(packets.pts[order], duration[order], packets.key[order])


def check_decoding(hwaccel: Hwaccel) -> None:
    """Raises `ConfigError` unless the program is here and was built with that way of decoding."""
    program()
    if hwaccel != "none":
        check_listed("hwaccels", hwaccel)


@functools.cache
def try_decoding(hwaccel: Hwaccel) -> None:
    """Decode a tiny video of our own with it. Raises `ConfigError` where that does not work on this machine."""
    check_decoding(hwaccel)
    if hwaccel == "none":
        return
    # Pictures that must stay in the card's memory: without a card the program would go on in software.
    source = library().input("pipe:0", f="h264", hwaccel=hwaccel, hwaccel_output_format=hwaccel)
    shown = source.output("pipe:1", vf="hwdownload,format=nv12", f="rawvideo", fps_mode="passthrough")
    try:
        with Run(shown, takes_input=True) as run:
            run.send(_grey_h264())
            if not run.finish():
                raise ProgramError("it gave no picture")
    except ProgramError as error:
        raise ConfigError(
            f"`hwaccel: {hwaccel}` does not work on this machine: {error}",
            hint="run where a card and its driver are (`nvidia-smi`), or set `hwaccel: none`",
        ) from error


def first_picture(path: str, max_pixels: int) -> VideoFrame:
    """The first frame as PyAV decodes it. Raises `NotInStepError` where it is damaged, or absent."""
    with open_media(path) as container:
        stream = video_stream(container)
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"max_pixels": str(max_pixels)}
        try:
            found: VideoFrame | None = next(container.decode(stream), None)
        except av.error.FFmpegError as error:
            raise NotInStepError(str(error.strerror)) from error
    if found is None or found.is_corrupt:
        raise NotInStepError("its first frame is damaged")
    return found


def check_key_packet(packet: Any, context: Any) -> None:
    """Raises `NotInStepError` where decoders need what stands before a key packet to say whether its frame is one."""
    if not begins_clean(packet, context):
        raise NotInStepError("it has key packets that are no clean starts")


def program_frames(
    path: str,
    container: InputContainer,
    like: VideoFrame,
    shown: Shown,
    *,
    hwaccel: Hwaccel,
    threads: int,
    max_pixels: int,
) -> Iterator[VideoFrame]:
    """Frames with the times, durations and key flags that PyAV gives them; `like` is the first as PyAV decodes it.

    It is one and the same frame each time, `like`, with other pixels: so it has all that PyAV knows of it.

    Raises `NotInStepError` at the first difference, and at the end where frames are missing or the program complained.
    """
    stream = video_stream(container)
    base = stream.time_base or Fraction(1, 1000)
    output = _output(path, container, stream.index, base, like, hwaccel, threads, max_pixels)
    first, number = Thumbnailer()(like), 0
    frame: Any = like
    try:
        with Run(output) as run, av.open(run, "r", format="nut") as pipe:
            for packet in pipe.demux(video=0):
                if not packet.size:
                    continue
                if number == len(shown.pts):
                    raise NotInStepError(f"more than {number} frames")
                if packet.pts is None or packet.pts * packet.time_base != int(shown.pts[number] - shown.pts[0]) * base:
                    raise NotInStepError(f"frame {number} is not shown when its packet says")
                _fill(frame, packet, number)
                frame.pts, frame.dts, frame.time_base = int(shown.pts[number]), None, base
                frame.duration, frame.key_frame = int(shown.duration[number]), bool(shown.key[number])
                if not number and (Thumbnailer()(frame) != first).any():
                    raise NotInStepError("its first frame looks different")
                yield frame
                number += 1
            run.finish()
    except (ProgramError, av.error.FFmpegError) as error:
        raise NotInStepError(f"the ffmpeg program: {run.complaint or error}") from error
    if number != len(shown.pts):
        raise NotInStepError(f"{number} frames of {len(shown.pts)}")


def _fill(frame: Any, packet: Any, number: int) -> None:
    """Write the pixels of an uncompressed packet, plane behind plane without gaps, into the frame."""
    data, at = np.frombuffer(packet, np.uint8), 0
    frame.make_writable()
    width_of = (max(component.bits for component in frame.format.components) + 7) // 8
    for plane in frame.planes:
        rows, used = plane.height, plane.width * width_of
        if at + rows * used > len(data):
            break
        held = np.frombuffer(plane, np.uint8)[: rows * plane.line_size].reshape(rows, plane.line_size)
        held[:, :used] = data[at : at + rows * used].reshape(rows, used)
        at += rows * used
    if at != len(data):
        raise NotInStepError(f"frame {number} has another size")


def _output(
    path: str,
    container: InputContainer,
    stream: int,
    base: Fraction,
    like: VideoFrame,
    hwaccel: Hwaccel,
    threads: int,
    max_pixels: int,
) -> Any:
    """What the program is asked for: one stream's frames as they are decoded, uncompressed, with their times."""
    name = container.format.name.partition(",")[0]
    given: dict[str, Any] = {
        "f": name,
        "format_whitelist": CONTAINERS,
        "protocol_whitelist": "file",
        "max_pixels": max_pixels,
        "threads": threads,
        "noautorotate": None,
        **UNSMOOTHED,
    }
    if hwaccel != "none":
        given["hwaccel"] = hwaccel
    # A picture of another size fails instead of being scaled. The format between us holds no times below zero.
    same_size = rf"crop=if(eq(iw\,{like.width})*eq(ih\,{like.height})\,iw\,0):ih:0:0:exact=1"
    wanted: dict[str, Any] = {
        "map": f"0:{stream}",
        "autoscale": 0,
        "vf": f"{same_size},setpts=PTS-STARTPTS",
        "fps_mode": "passthrough",
        "enc_time_base": f"{base.numerator}:{base.denominator}",
        "vcodec": "rawvideo",
        "pix_fmt": like.format.name,
        "f": "nut",
    }
    # `file:` keeps a name with a colon or a pipe from being read as another protocol.
    return library().input(f"file:{path}", **given).output("pipe:1", **wanted)


def _grey_h264() -> bytes:
    """Four grey pictures of 256×256, which every decoder on a card takes."""
    held = io.BytesIO()
    with av.open(held, "w", format="h264") as out:
        stream: Any = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for _ in range(4):
            out.mux(stream.encode(VideoFrame.from_ndarray(np.full((384, 256), 128, np.uint8), format="yuv420p")))
        out.mux(stream.encode(None))
    return held.getvalue()
