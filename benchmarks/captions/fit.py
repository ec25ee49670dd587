"""Fits the detectors of the embedded backends (speech, music, beats, notes, writing) and writes their weights.

    python benchmarks/captions/speak.py VOICES
    python benchmarks/captions/fit.py VOICES {sounds,textures,writing} [--count N]

Only the voices and typefaces of the fitting half are used. `sounds` comes before `textures`, which stands on its means.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import sounds
import textures
import writing
from logistic import Float, logistic, standardised

from vidcap.backends.embedded import sound_weights
from vidcap.backends.embedded.measure_audio import sound_features, windows_of
from vidcap.backends.embedded.measure_text import lines
from vidcap.backends.embedded.measure_video import share_of

BACKENDS = Path(__file__).resolve().parents[2] / "vidcap" / "backends" / "embedded"
SEED = 5
COUNTS = {"sounds": 1470, "textures": 280, "writing": 260}


def fit_sounds(count: int, voices: Path) -> dict[str, Float]:
    """Means, scales and the weights of speech and music, from both halves of every sound."""
    heard = [s for s in sounds.corpus(count, voices, SEED) if "silence" not in s.labels]
    features = np.stack([sound_features(windows_of(s.audio, parity)) for s in heard for parity in (0, 1)])
    inputs, mean, scale = standardised(features)
    found = {"MEAN": mean, "SCALE": scale}
    for name in ("speech", "music"):
        target = np.asarray([float(name in s.labels) for s in heard for _ in (0, 1)])
        found[name.upper()] = logistic(inputs, target)
    return found


def fit_textures(count: int, voices: Path) -> dict[str, Float]:
    """The weights of beats and notes; a sound that is open about one of them is not used for it."""
    heard = textures.corpus(count, voices, SEED)
    features = np.stack([sound_features(windows_of(s.audio, parity)) for s, _, _ in heard for parity in (0, 1)])
    inputs = np.clip((features - np.asarray(sound_weights.MEAN)) / np.asarray(sound_weights.SCALE), -4, 4)
    found = {}
    for value in ("percussive", "tonal"):
        key = ("texture", value)
        known = np.asarray([key in yes or key in no for _, yes, no in heard for _ in (0, 1)])
        target = np.asarray([float(key in yes) for _, yes, _ in heard for _ in (0, 1)])
        found[value.upper()] = logistic(inputs[known], target[known])
    return found


def fit_writing(count: int) -> dict[str, Float]:
    """Means, scales and weights of lines of letters. What lies half on a line is not used."""
    features, target = [], []
    for i in range(count):
        clip, written = writing.render(np.random.default_rng([SEED, i]), "fit")
        for parity in (0, 1):
            frames = share_of(clip.frames, parity)
            looks = min(3, len(frames))
            for at in range(looks):
                for found, box in lines(frames[(2 * at + 1) * len(frames) // (2 * looks)]):
                    shared = max((covered(box, line) for line in written), default=0.0)
                    if shared == 0 or shared > 0.4:
                        features.append(found)
                        target.append(float(shared > 0))
    inputs, mean, scale = standardised(np.stack(features))
    return {"MEAN": mean, "SCALE": scale, "TEXT": logistic(inputs, np.asarray(target))}


def covered(box: tuple[float, float, float, float], line: writing.Line) -> float:
    """The share of a box (left, top, right, bottom) that lies on a line."""
    across = min(box[2], line.right) - max(box[0], line.left)
    down = min(box[3], line.bottom) - max(box[1], line.top)
    return max(0.0, across) * max(0.0, down) / ((box[2] - box[0]) * (box[3] - box[1]))


def write(name: str, docstring: str, weights: dict[str, Float]) -> None:
    text = f'"""{docstring}\n"""\n'
    for field, values in weights.items():
        text += f"\n{field} = (\n" + "".join(f"    {value:.4f},\n" for value in values) + ")\n"
    (BACKENDS / name).write_text(text)
    print(f"wrote {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voices", type=Path, help="the folder that speak.py wrote")
    parser.add_argument("what", choices=sorted(COUNTS))
    parser.add_argument("--count", type=int, help="how many sounds or clips to fit on")
    options = parser.parse_args()
    count = options.count or COUNTS[options.what]
    origin = "Written by benchmarks/captions/fit.py; do not edit.\n\n"
    if options.what == "sounds":
        write(
            "sound_weights.py",
            f"Weights of the speech and music detectors. {origin}`MEAN` and `SCALE` standardise "
            "`vidcap.backends.embedded.measure_audio.FEATURES`; the others give logits, bias last.",
            fit_sounds(count, options.voices / "fit"),
        )
    elif options.what == "textures":
        write(
            "texture_weights.py",
            f"Weights of the detectors of beats and of notes. {origin}For "
            "`vidcap.backends.embedded.measure_audio.FEATURES`, standardised as in sound_weights.py; bias last.",
            fit_textures(count, options.voices / "fit"),
        )
    else:
        write(
            "text_weights.py",
            f"Weights of the detector of writing. {origin}`MEAN` and `SCALE` standardise "
            "`vidcap.backends.embedded.measure_text.LINE_FEATURES`; `TEXT` gives the logit, bias last.",
            fit_writing(count),
        )


if __name__ == "__main__":
    main()
