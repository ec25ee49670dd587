"""What is known of a source: what its container says, and what the decode pass found."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

Facts = TypeVar("Facts", bound="MediaFacts")


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFacts:
    """A file's container and its first picture.

    `width`, `height`: what the decoder returns, in pixels, before rotation and with the pixel shape `sar`.
    `rotation`: degrees counter-clockwise that show the picture upright: 0, 90, 180 or 270.
    `hdr`: the transfer function is PQ or HLG. `extradata`: sha256 of the codec's header bytes, "" without any.
    """

    container: str
    video_codec: str
    pix_fmt: str
    profile: str
    width: int
    height: int
    rotation: int = 0
    sar: Fraction = Fraction(1)
    interlaced: bool = False
    hdr: bool = False
    time_base: Fraction
    has_audio: bool = False
    audio_codec: str = ""
    sample_rate: int = 0
    channels: int = 0
    extradata: str = ""

    def to_json(self) -> str:
        """One JSON object on several lines, ended by a line end; fractions as [numerator, denominator]."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.dumps(values, indent=1, default=_plain) + "\n"

    @classmethod
    def from_json(cls: type[Facts], text: str) -> Facts:
        """Raises ValueError where `text` is not what `to_json` wrote."""
        try:
            values: dict[str, Any] = json.loads(text)
            values["sar"], values["time_base"] = Fraction(*values["sar"]), Fraction(*values["time_base"])
            if "window" in values:
                values["window"] = tuple(values["window"])
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ValueError(f"not the facts of a source: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts(MediaFacts):
    """`MediaFacts` and what decoding the whole source found.

    `seconds`: from the first presented frame to the end of the last. `window`: first and last frame (inclusive) that
    the manifest asks for; candidates lie only inside. `truncated`: the file ends before what it announces.
    `lost_packets`: video packets that could not be read. `repaired_times`: frames whose time in the table is not the
    container's (missing or not ascending); 0 means that table and packets agree. `sizes`: picture sizes met, 1 where
    the resolution never changes. `audio_error`: what went wrong with the sound; it is silent there. `passed_over`: why
    the ffmpeg program was asked for and PyAV decoded it, "" else.
    """

    sha256: str
    bytes: int
    frames: int
    corrupt_frames: int
    seconds: float
    window: tuple[int, int]
    truncated: bool = False
    lost_packets: int = 0
    repaired_times: int = 0
    sizes: int = 1
    audio_error: str = ""
    passed_over: str = ""

    @property
    def note(self) -> str:
        """What is odd about the source, in words; "" where nothing is."""
        parts = []
        if self.truncated:
            parts.append("the file ends early")
        if self.lost_packets:
            parts.append(f"{self.lost_packets} video packets lost")
        if self.repaired_times:
            parts.append(f"{self.repaired_times} frame times repaired")
        if self.sizes > 1:
            parts.append(f"{self.sizes} picture sizes")
        if self.audio_error:
            parts.append(f"sound: {self.audio_error}")
        if self.passed_over:
            parts.append(f"decoded by PyAV, not the ffmpeg program: {self.passed_over}")
        return "; ".join(parts)


def _plain(value: object) -> object:
    if isinstance(value, Fraction):
        return [value.numerator, value.denominator]
    raise TypeError(f"`{value!r}` has no JSON form")
