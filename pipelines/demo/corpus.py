"""What the demo corpus holds: every file, its shots, its sound, and what is expected of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import nature
import things
from nature import Paint

PAINTERS = {
    name: getattr(room, name)
    for room, names in (
        (nature, "sunrise sea evening_sea stars balloon cave snow"),
        (things, "wheel fast_wheel ball city_day city_night wall gradient flower fish slide spinner"),
    )
    for name in names.split()
}

LOOKS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "sunrise": ("slow", ("green", "orange"), "normal"),
    "sea": ("slow", ("blue",), "normal"),
    "evening_sea": ("slow", ("red", "orange"), "normal"),
    "stars": ("slow", ("blue",), "dark"),
    "balloon": ("slow", ("blue",), "normal"),
    "cave": ("slow", ("black",), "dark"),
    "snow": ("slow", ("white",), "bright"),
    "wheel": ("slow", ("white",), "bright"),
    "fast_wheel": ("fast", ("white",), "bright"),
    "ball": ("fast", ("orange",), "normal"),
    "city_day": ("fast", ("blue", "grey"), "normal"),
    "city_night": ("fast", ("black", "blue"), "dark"),
    "wall": ("fast", ("red", "orange"), "normal"),
    "gradient": ("slow", ("violet", "blue"), "normal"),
    "flower": ("slow", ("green", "yellow"), "normal"),
    "fish": ("slow", ("cyan",), "normal"),
    "slide": ("still", ("white",), "bright"),
    "spinner": ("extreme", ("yellow", "blue"), "normal"),
}
"""Per picture: motion class, dominant colours (largest first), light."""


def painter(name: str, width: int, height: int) -> Paint:
    paint: Paint = PAINTERS[name](width, height)
    return paint


@dataclass(frozen=True)
class Cue:
    """A sound: what, when (seconds from the shot's first pure frame), how long (None: the shot) and how loud (peak).

    `what` is one of `sounds.MAKERS`, or `speech:` and the name of a recorded line.
    """

    what: str
    peak: float
    start: float = 0.0
    seconds: float | None = None


@dataclass(frozen=True)
class Take:
    """One shot: its picture, its number of pure frames, its sound, and the blended frames that lead into it."""

    picture: str
    frames: int
    cues: tuple[Cue, ...] = ()
    dissolve: int = 0
    expect: str = "kept"


@dataclass(frozen=True)
class Film:
    """One file. `steps` are the frame durations in units of 1/`ticks` seconds, repeated: one value is a constant rate.

    `audio` is codec, sample rate, channels, bits per second; None for no audio track.
    """

    path: str
    size: tuple[int, int]
    fps: Fraction
    takes: tuple[Take, ...]
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=dict)
    audio: tuple[str, int, int, int] | None = None
    steps: tuple[int, ...] = ()
    priming: int = 0
    """Samples by which the sound encoder is late, where the container has no way to say so."""
    note: str = ""


def say(line: str, start: float = 1.1) -> Cue:
    """A line of speech. A second from the start, because a clip may be snapped inward to a key frame by that much."""
    return Cue(f"speech:{line}", 0.5, start)


SMALL = (320, 180)
AAC = ("aac", 48_000, 2, 64_000)
X264 = {"preset": "slow", "crf": "22"}

FILMS: tuple[Film, ...] = (
    Film(
        "day/city.mp4",
        SMALL,
        Fraction(25),
        (
            Take("city_day", 185, (say("street"), Cue("street", 0.003), Cue("street", 0.06, 5.2))),
            Take("wheel", 100, (Cue("music", 0.3),)),
            Take("ball", 165, (say("ball"), Cue("music", 0.003))),
        ),
        options=X264,
        audio=AAC,
        note="key frames on the cuts; shares its base name with night/city.mp4",
    ),
    Film(
        "night/city.mp4",
        (384, 216),
        Fraction(30),
        (
            Take("city_night", 300, (say("windows"), Cue("music", 0.003), Cue("music", 0.05, 6.6))),
            Take("stars", 186, (say("stars"), Cue("wind", 0.003)), dissolve=12),
        ),
        options={"preset": "slow", "crf": "24", "x264-params": "keyint=37:min-keyint=37:scenecut=0"},
        audio=("aac", 44_100, 2, 56_000),
        note="a dissolve, and no key frame at any change of shot",
    ),
    Film(
        "sunrise.mp4",
        SMALL,
        Fraction(25),
        (
            Take("sunrise", 200, (say("morning"), Cue("music", 0.003), Cue("music", 0.05, 5.6))),
            Take("sea", 190, (say("sea"), Cue("surf", 0.003), Cue("surf", 0.15, 5.2)), dissolve=15),
            Take("flower", 30, (Cue("music", 0.2),), expect="trim.too_short"),
            Take("fish", 100, (Cue("music", 0.3),)),
        ),
        options={**X264, "x264-params": "keyint=250:bframes=3:b-pyramid=normal"},
        audio=AAC,
        note="a dissolve, a shot of 1.2 s, B-frames as references",
    ),
    Film(
        "evening.webm",
        SMALL,
        Fraction(25),
        (
            Take("snow", 90, (Cue("wind", 0.25),)),
            Take("evening_sea", 200, (say("evening"), Cue("surf", 0.003), Cue("surf", 0.15, 5.6))),
        ),
        codec="libvpx-vp9",
        options={"crf": "33", "b": "0", "cpu-used": "4", "deadline": "good", "g": "120"},
        audio=("libopus", 48_000, 2, 48_000),
        note="VP9 and Opus: clips are re-encoded",
    ),
    Film(
        "silent_film.mp4",
        SMALL,
        Fraction(24),
        (Take("fast_wheel", 84), Take("gradient", 84), Take("wall", 84)),
        options={**X264, "bf": "0"},
        note="no audio track, no B-frames",
    ),
    Film(
        "spare/silent_film.mp4",
        SMALL,
        Fraction(24),
        (Take("fast_wheel", 84), Take("gradient", 84), Take("wall", 84)),
        options={**X264, "bf": "0"},
        note="the same bytes as silent_film.mp4",
    ),
    Film(
        "night/lantern.mp4",
        SMALL,
        Fraction(25),
        (Take("cave", 90), Take("snow", 90), Take("fish", 90)),
        options=X264,
        audio=("aac", 48_000, 1, 32_000),
        note="digital silence; a very dark and a very bright shot",
    ),
    Film(
        "slide.mp4",
        (640, 360),
        Fraction(10),
        (Take("slide", 50, (Cue("music", 0.3),), expect="trim.still"),),
        options=X264,
        audio=("aac", 48_000, 1, 48_000),
        note="a still",
    ),
    Film(
        "strobe.mp4",
        (192, 108),
        Fraction(25),
        (Take("spinner", 75, expect="trim.extreme_motion"),),
        options={"preset": "slow", "crf": "24"},
        note="extreme motion in one shot",
    ),
    Film(
        "balloon.mp4",
        (256, 144),
        Fraction(15),
        (Take("balloon", 540, (Cue("wind", 0.1, 0, 13), say("balloon", 15), Cue("wind", 0.1, 22, 14))),),
        options={"preset": "slow", "crf": "24"},
        audio=("aac", 48_000, 1, 40_000),
        note="one shot of 36 s: a window of it is used; the speech lies in every window of 30 s",
    ),
    Film(
        "wall.mkv",
        SMALL,
        Fraction(25),
        (
            Take("wall", 165, (say("wall"), Cue("wind", 0.003))),
            Take("stars", 100, (Cue("music", 0.3),)),
        ),
        options=X264,
        audio=("aac", 48_000, 1, 48_000),
        steps=(33, 34, 33, 67, 33),
        note="variable frame rate",
    ),
    Film(
        "old_camera.avi",
        SMALL,
        Fraction(25),
        (
            Take("wheel", 165, (say("wheel"), Cue("wind", 0.003))),
            Take("ball", 90, (Cue("music", 0.3),)),
        ),
        codec="mpeg4",
        options={"b": "200k", "qmin": "3", "qmax": "14", "g": "60"},
        audio=("libmp3lame", 44_100, 2, 64_000),
        priming=1105,
        note="MPEG-4 Part 2 and MP3 in AVI: clips are re-encoded",
    ),
    Film(
        "broken.mp4",
        SMALL,
        Fraction(25),
        (Take("gradient", 60),),
        options=X264,
        note="cut off before its index: cannot be opened",
    ),
    Film(
        "radio.m4a",
        (0, 0),
        Fraction(25),
        (Take("", 110, (say("stars", 0.3),)),),
        audio=("aac", 48_000, 1, 48_000),
        note="sound without a picture",
    ),
)

SOURCE_VERDICTS: dict[str, tuple[str, str]] = {
    "broken.mp4": ("quarantined", "media.truncated"),
    "radio.m4a": ("quarantined", "media.no_video"),
    "spare/silent_film.mp4": ("rejected", "source.duplicate"),
}
"""Sources that give no clips, with the reason; all others are done."""
