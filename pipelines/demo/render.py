"""Renders the demo corpus: `python pipelines/demo/render.py [--out DIR] [--only NAME]`.

Needs numpy, av and cv2 only, and the recorded lines in `speech/`. Without `--out` the files go to `media/` and
`truth.json` beside this script; with it, to `DIR/media` and `DIR/truth.json`. The same machine renders the same bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import sounds  # noqa: E402  (the script's own folder must be importable first)
from barcode import Picture, draw_barcode  # noqa: E402
from corpus import FILMS, LOOKS, SOURCE_VERDICTS, Film, Take, painter  # noqa: E402

NOTES = "This file is not a video: a manifest made from this folder skips it and says so.\n"
STILL_LEVELS = (80, 176)
"""Grey levels of the frame number on a still, low enough to stay below the threshold for stills."""


def layout(film: Film) -> list[tuple[int, int]]:
    """First and last pure frame of each shot, inclusive."""
    spans, at = [], 0
    for take in film.takes:
        at += take.dissolve
        spans.append((at, at + take.frames - 1))
        at += take.frames
    return spans


def frame_count(film: Film) -> int:
    return layout(film)[-1][1] + 1


def times(film: Film) -> list[Fraction]:
    """Presentation time of every frame in seconds, and of the end."""
    count = frame_count(film)
    if not film.steps:
        return [Fraction(i) / film.fps for i in range(count + 1)]
    steps = [film.steps[i % len(film.steps)] for i in range(count)]
    return [Fraction(int(ms), 1000) for ms in np.concatenate([[0], np.cumsum(steps)])]


def pictures(film: Film) -> list[Picture]:
    """All frames, RGB, composited and then numbered."""
    clock, spans = times(film), layout(film)
    paints = [painter(take.picture, *film.size) for take in film.takes]

    def painted(shot: int, frame: int) -> Picture:
        return paints[shot](float(clock[frame] - clock[spans[shot][0]]))

    frames: list[Picture] = []
    for shot, (take, (first, last)) in enumerate(zip(film.takes, spans, strict=True)):
        for step in range(take.dissolve):
            frame = first - take.dissolve + step
            share = (step + 1) / (take.dissolve + 1)
            mixed = painted(shot - 1, frame) * (1 - share) + painted(shot, frame) * share
            frames.append(np.rint(mixed).astype(np.uint8))
        frames.extend(painted(shot, frame) for frame in range(first, last + 1))
    for number, picture in enumerate(frames):
        still = film.takes[0].expect == "trim.still"
        draw_barcode(picture, number, *(STILL_LEVELS if still else ()))
    return frames


def sound_of(film: Film) -> sounds.Sound:
    """The mixed track, (samples, channels) in [-1, 1]; zeros where there is no cue."""
    assert film.audio is not None
    _, rate, channels, _ = film.audio
    clock = times(film)
    track = np.zeros((round(float(clock[-1]) * rate), 2), np.float32)
    for seed, (take, (first, last)) in enumerate(zip(film.takes, layout(film), strict=True)):
        start, end = float(clock[first]), float(clock[last + 1])
        for cue in take.cues:
            kind, _, line = cue.what.partition(":")
            seconds = end - start - cue.start if cue.seconds is None else cue.seconds
            made = sounds.speech(line, rate) if line else sounds.MAKERS[kind](seconds, rate, seed + 7)
            at = round((start + cue.start) * rate)
            made = made[: len(track) - at]
            track[at : at + len(made)] += made * np.float32(cue.peak)
    return track if channels == 2 else track.mean(axis=1, keepdims=True)


def write(film: Film, path: Path) -> None:
    """Encode and mux one film, bit-exact, picture and sound interleaved by time."""
    clock = times(film)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:
        picture: Any = None
        frames: list[Picture] = []
        if film.size != (0, 0):
            picture = out.add_stream(film.codec, rate=film.fps, options=dict(film.options))
            picture.width, picture.height = film.size
            picture.pix_fmt = "yuv420p"
            picture.thread_count = 1
            picture.time_base = Fraction(1, 1000) if film.steps else 1 / film.fps
            picture.codec_context.time_base = picture.time_base
            picture.codec_context.flags |= av.codec.context.Flags.bitexact
            frames = pictures(film)
        sound: Any = None
        track = np.zeros((0, 1), np.float32)
        if film.audio:
            codec, rate, channels, bits = film.audio
            sound = out.add_stream(codec, rate=rate)
            sound.layout = "stereo" if channels == 2 else "mono"
            sound.bit_rate = bits
            sound.codec_context.flags |= av.codec.context.Flags.bitexact
            track = sound_of(film)
        # A container without edit lists keeps the encoder's delay as sound: leave out as much of ours.
        done = film.priming

        def speak(until: Fraction | None) -> None:
            """Encode the sound up to a time, in the encoder's frame length; None: all that is left, and flush."""
            nonlocal done
            if sound is None:
                return
            size = sound.codec_context.frame_size or 1024
            end = len(track) if until is None else int(until * sound.rate)
            while done < len(track) and (done + size <= end or until is None):
                block = track[done : done + size]
                frame = av.AudioFrame.from_ndarray(block.reshape(1, -1).copy(), "flt", sound.layout.name)
                frame.sample_rate, frame.pts, frame.time_base = sound.rate, done, Fraction(1, sound.rate)
                out.mux(sound.encode(frame))
                done += len(block)
            if until is None:
                out.mux(sound.encode(None))

        for number, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p", threads=1)
            frame.time_base = picture.time_base
            frame.pts = round(clock[number] / picture.time_base)
            out.mux(picture.encode(frame))
            speak(clock[number])
        if picture:
            out.mux(picture.encode(None))
        speak(None)


def shot_truth(film: Film, take: Take, span: tuple[int, int]) -> dict[str, Any]:
    """What is known of one shot: frames, seconds, look, sound, verdict, caption kinds."""
    clock = times(film)
    start, end = clock[span[0]], clock[span[1] + 1]
    spoken = [cue for cue in take.cues if cue.what.startswith("speech:")]
    heard = sorted({cue.what.partition(":")[0] for cue in take.cues})
    truth: dict[str, Any] = {"first": span[0], "last": span[1], "start": float(start), "end": float(end)}
    if take.picture:
        motion, colours, light = LOOKS[take.picture]
        truth |= {"picture": take.picture, "motion": motion, "colours": list(colours), "light": light}
    truth["sound"] = heard or (["silence"] if film.audio else [])
    truth["speech"] = []
    for cue in spoken:
        name = cue.what.partition(":")[2]
        begin, stop = sounds.spoken_span(name)
        at = float(start) + cue.start
        words = {"start": round(at + begin, 3), "end": round(at + stop, 3), "text": sounds.transcripts()[name]}
        truth["speech"].append(words)
    kinds = ["v", *(["a"] if heard else []), *(["s"] if spoken else []), *(["av"] if heard else [])]
    kinds += ["avs"] if spoken else []
    stopped = film.path in SOURCE_VERDICTS
    truth["expected"] = {
        "verdict": "" if stopped else "kept" if take.expect == "kept" else "rejected",
        "reason": "" if stopped or take.expect == "kept" else take.expect,
        "kinds": kinds if take.expect == "kept" and not stopped else [],
    }
    return truth


def film_truth(film: Film, path: Path) -> dict[str, Any]:
    spans = layout(film)
    verdict, reason = SOURCE_VERDICTS.get(film.path, ("done", ""))
    entry: dict[str, Any] = {"note": film.note, "bytes": path.stat().st_size}
    entry["expected"] = {"verdict": verdict, "reason": reason}
    has_picture = film.size != (0, 0) and reason != "media.truncated"
    entry["video"] = None
    if has_picture:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            keys = [number for number, frame in enumerate(container.decode(stream)) if frame.key_frame]
        entry["video"] = {
            "codec": stream.codec_context.name,
            "width": film.size[0],
            "height": film.size[1],
            "fps": str(film.fps),
            "vfr": bool(film.steps),
            "frame_milliseconds": list(film.steps),
            "frames": frame_count(film),
            "key_frames": keys,
        }
    entry["audio"] = None
    if film.audio:
        entry["audio"] = {"codec": film.audio[0], "sample_rate": film.audio[1], "channels": film.audio[2]}
    whole = has_picture or film.size == (0, 0)
    entry["shots"] = [shot_truth(film, t, s) for t, s in zip(film.takes, spans, strict=True)] if whole else []
    entry["transitions"] = []
    for (before, after), take in zip(pairwise(spans), film.takes[1:], strict=True):
        kind = "dissolve" if take.dissolve else "cut"
        entry["transitions"].append({"kind": kind, "last_before": before[1], "first_after": after[0]})
    return entry


def render(out: Path, only: str | None = None) -> dict[str, Any]:
    """Write the media below `out/media` and return the truth; `only` renders the one file of that path."""
    truth: dict[str, Any] = {}
    for film in FILMS:
        if only is not None and film.path != only:
            continue
        path = out / "media" / film.path
        twin = out / "media" / Path(film.path).name
        if SOURCE_VERDICTS.get(film.path, ("", ""))[1] == "source.duplicate" and only is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(twin, path)
        else:
            write(film, path)
        if film.path == "broken.mp4":
            path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
        truth[film.path] = film_truth(film, path)
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(description="render the demo corpus")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for media/ and truth.json")
    parser.add_argument("--only", help="render this one file, e.g. day/city.mp4, and leave truth.json alone")
    arguments = parser.parse_args()
    truth = render(arguments.out, arguments.only)
    if not truth:
        raise SystemExit(f"error: no file `{arguments.only}`\nhint: one of {', '.join(f.path for f in FILMS)}")
    if arguments.only is None:
        (arguments.out / "media" / "notes.txt").write_text(NOTES, encoding="utf-8")
        text = json.dumps({"schema": "vidcap-demo/1", "files": truth}, indent=1)
        (arguments.out / "truth.json").write_text(text + "\n", encoding="utf-8")
    for path, entry in truth.items():
        print(f"{entry['bytes']:>9} {path}")


if __name__ == "__main__":
    main()
