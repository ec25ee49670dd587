"""How true are the embedded captions, and does the embedded similarity tell true from false ones?

Renders labelled clips (pictures.py, sounds.py) with the voices that speak.py wrote, fits the detectors of speech and
music on one half, and reports on the other: precision and recall of every claim, and how well true captions are told
from another clip's and from captions with one claim turned false.

    python benchmarks/captions/speak.py VOICES
    python benchmarks/captions/calibrate.py VOICES [--clips 400] [--half report] [--write]

`--write` replaces vidcap/backends/sound_weights.py. Choose thresholds with `--half fit`; look at the other half last.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent))
import pictures
import sounds

from vidcap.backends import registry
from vidcap.backends.claim_parser import parse
from vidcap.backends.claims import FACTS, measures_of, stated, truth_of
from vidcap.backends.measure_audio import measure_audio, sound_features, windows_of
from vidcap.backends.measure_video import VIDEO_FIELDS, measure_video, share_of
from vidcap.backends.roles import ClipView
from vidcap.seeds import seed_of

Float = npt.NDArray[np.float64]
WEIGHTS = Path(__file__).resolve().parents[2] / "vidcap" / "backends" / "sound_weights.py"


FIT_SEED = 5
OPPOSITES = (
    ("still|motionless|static|calm|slow-moving", "lively"),
    ("lively|fast-moving|restless", "still"),
    ("dark|dimly lit", "bright"),
    ("bright|brightly lit|well-lit", "dark"),
    ("vivid|colourful", "muted"),
    ("muted|black-and-white|monochrome", "vivid"),
    ("A person speaks|Someone talks|Speech is heard", "Music plays"),
    ("Music plays|Music is heard", "A person speaks"),
    ("loud", "quiet"),
    ("quiet", "loud"),
    ("low voice", "high voice"),
    ("high voice", "low voice"),
    ("with pauses|on and off", "without a pause"),
    ("without a pause|without a break", "on and off"),
    ("steady noise", "piano music"),
    ("steady tone|continuous tone", "steady noise"),
)
"""Words of the captioners, and what makes them false."""


MADE_OF_NOISE = {"engine", "claps", "rumble", "beaten_noise", "barks"}
"""Whether these are a noise is a matter of taste: their makers put noise into them."""


def logistic(inputs: Float, target: Float, shrink: float = 3.0) -> Float:
    """Weights (bias last) of a logistic regression with squared shrinkage, by Newton's method."""
    x = np.c_[inputs, np.ones(len(inputs))]
    penalty = np.r_[np.full(inputs.shape[1], shrink), 1e-6]
    weights = np.zeros(x.shape[1])
    for _ in range(60):
        p = 1 / (1 + np.exp(-x @ weights))
        step = np.linalg.solve(
            (x * (p * (1 - p))[:, None]).T @ x + np.diag(penalty), x.T @ (p - target) + penalty * weights
        )
        weights -= step
        if np.abs(step).max() < 1e-7:
            break
    return weights


def fit(heard: list[sounds.Sound]) -> dict[str, Float]:
    """Means, scales and the weights of both detectors, from both halves of every sound."""
    heard = [s for s in heard if "silence" not in s.labels]
    features = np.stack([sound_features(windows_of(s.audio, parity)) for s in heard for parity in (0, 1)])
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    inputs = np.clip((features - mean) / scale, -4, 4)
    found = {"MEAN": mean, "SCALE": scale}
    for name in ("speech", "music"):
        target = np.asarray([float(name in s.labels) for s in heard for _ in (0, 1)])
        found[name.upper()] = logistic(inputs, target)
    return found


def write(weights: dict[str, Float]) -> None:
    text = '"""Weights of the speech and music detectors. Written by benchmarks/captions/calibrate.py; do not edit.\n\n'
    text += (
        "`MEAN` and `SCALE` standardise `vidcap.backends.measure_audio.FEATURES`; the others give logits, bias last.\n"
    )
    text += '"""\n'
    for name, values in weights.items():
        text += f"\n{name} = (\n" + "".join(f"    {value:.4f},\n" for value in values) + ")\n"
    WEIGHTS.write_text(text)


def area(positive: list[float], negative: list[float]) -> float:
    """Area under the ROC curve, ties by half."""
    a, b = np.asarray(positive)[:, None], np.asarray(negative)[None]
    return float((a > b).mean() + 0.5 * (a == b).mean())


def sound_truth(sound: sounds.Sound) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """What holds and what does not of the kinds of sound; noise and tone only where they are alone."""
    yes, no = set(), set()
    for name in ("speech", "music", "noise", "tone"):
        if name in sound.labels and (name in ("speech", "music") or len(sound.labels) == 1):
            yes.add((name, "present"))
        elif name not in sound.labels and not (name == "noise" and set(sound.maker.split("+")) & MADE_OF_NOISE):
            no.add((name, "present"))
    (yes if "silence" in sound.labels else no).add(("sound", "none"))
    (no if "silence" in sound.labels else yes).add(("sound", "audible"))
    return yes, no


def report_claims(clips: list[pictures.Clip], heard: list[sounds.Sound]) -> None:
    """Precision and recall of stated claims; a claim whose label is open counts for neither."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    items = []
    for clip in clips:
        measures = measures_of(measure_video(share_of(clip.frames, 0), share_of(clip.times, 0)))
        items.append((set(clip.true), set(clip.false), stated(measures, "video")))
    for sound in heard:
        vector = np.concatenate(
            [np.full(len(VIDEO_FIELDS), np.nan, np.float32), measure_audio(sound.audio, has_audio=True, parity=0)]
        )
        items.append((*sound_truth(sound), stated(measures_of(vector), "audio")))
    for yes, no, said in items:
        keys = {(claim.type, claim.value) for claim in said}
        for key in keys & yes:
            counts[key][0] += 1
        for key in keys & no:
            counts[key][1] += 1
        for key in yes - keys:
            counts[key][2] += 1
    print("| claim | stated | precision | recall |\n|---|---|---|---|")
    total = [0, 0]
    for key in FACTS:
        if key in counts:
            right, wrong, missed = counts[key]
            total[0] += right
            total[1] += wrong
            precision = f"{right / (right + wrong):.3f}" if right + wrong else "-"
            recall = f"{right / (right + missed):.2f}" if right + missed else "-"
            print(f"| {key[0]}: {key[1]} | {right + wrong} | {precision} | {recall} |")
    print(f"| all | {sum(total)} | {total[0] / sum(total):.3f} | |")


def seen_by_captioners(view: ClipView) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    return (
        measure_video(share_of(view.frames, 0), share_of(view.times, 0)),
        measure_audio(view.audio, has_audio=view.has_audio, parity=0),
    )


def flipped(text: str, even: dict[str, float], false: set[tuple[str, str]], random: np.random.Generator) -> str | None:
    """The caption with one claim of its turned false, by exchanging the word that made it."""
    absent = [name for name in pictures.NAMED if even[name] < 0.02]
    opposites = [(old, new.lower()) for olds, new in OPPOSITES for old in olds.lower().split("|")]
    opposites += [(name, str(random.choice(absent))) for name in pictures.NAMED if f" {name}" in text]
    usable = []
    for old, new in opposites:
        other = text.replace(old, new, 1)
        gained = set(parse(other)) - set(parse(text))
        if old in text and gained and all((c.type, c.value) in false or truth_of(c, even) <= -1 for c in gained):
            usable.append(other)
    return str(random.choice(usable)) if usable else None


def report_similarity(clips: list[pictures.Clip], heard: list[sounds.Sound]) -> None:
    """Areas for each caption kind: true against another clip's caption, true against one claim turned false."""
    video, audio, similarity = (
        registry.create(role, "descriptor") for role in ("video_captioner", "audio_captioner", "similarity")
    )
    random = np.random.default_rng(11)
    views = [
        ClipView(str(i), c.frames, c.times, s.audio, True, len(s.audio) / 16000)
        for i, (c, s) in enumerate(zip(clips, heard, strict=False))
    ]
    seeds = [seed_of(0, view.key, "calibrate") for view in views]
    seen, said = (b.caption(views, prompt="", seeds=seeds) for b in (video, audio))
    vectors = similarity.embed(views)
    # What a claim turned false is, the half that the similarity does not see decides, or the label.
    even = [measures_of(np.concatenate(halves)) for halves in map(seen_by_captioners, views)]
    false = [c.false | sound_truth(s)[1] for c, s in zip(clips, heard, strict=False)]
    both = [f"{v[:-1]} while {a[:1].lower() + a[1:]}" if a else "" for v, a in zip(seen, said, strict=True)]
    columns = (
        "kind|captions|mean, true|mean, another's|AUC shuffled|AUC shuffled, other claims|mean, flipped|AUC flipped"
    )
    print(f"\n|{columns}|\n{'|---' * 8}|")
    for kind, texts in (("v", seen), ("a", said), ("av", both)):
        has = [i for i, text in enumerate(texts) if text]
        order = list(np.roll(random.permutation(has), 1))
        partner = dict(zip(order, np.roll(order, 1), strict=True))
        true = similarity.score([vectors[i] for i in has], [texts[i] for i in has], kinds=[kind] * len(has))
        other = similarity.score([vectors[i] for i in has], [texts[partner[i]] for i in has], kinds=[kind] * len(has))
        # Another clip's caption that claims the same is as true as the clip's own.
        differs = [i for i, at in enumerate(has) if set(parse(texts[at])) != set(parse(texts[partner[at]]))]
        changed = [(i, flipped(texts[i].lower(), even[i], false[i], random)) for i in has]
        changed = [(i, text) for i, text in changed if text]
        wrong = similarity.score([vectors[i] for i, _ in changed], [t for _, t in changed], kinds=[kind] * len(changed))
        print(
            f"| {kind} | {len(has)} | {np.mean(true):.2f} | {np.mean(other):.2f} | {area(true, other):.3f} "
            f"| {area([true[i] for i in differs], [other[i] for i in differs]):.3f} "
            f"| {np.mean(wrong):.2f} | {area(true, wrong):.3f} |"
        )
    for text in list(zip(seen, said, strict=True))[:12]:
        print("   ", *text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voices", type=Path, help="the folder that speak.py wrote")
    parser.add_argument("--half", choices=("fit", "report"), default="report", help="whose voices the report hears")
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--sounds", type=int, default=1470, help="sounds to fit on; half as many to report on")
    parser.add_argument("--seed", type=int, default=8, help="of the rendered clips")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.write:
        write(fit(sounds.corpus(options.sounds, options.voices / "fit", FIT_SEED)))
        print(f"wrote {WEIGHTS.name}; run again without --write for the report")
        return
    heard = sounds.corpus(options.sounds // 2, options.voices / options.half, options.seed)
    clips = [pictures.render(np.random.default_rng([options.seed, i])) for i in range(options.clips)]
    report_claims(clips, heard)
    report_similarity(clips, heard)


if __name__ == "__main__":
    main()
