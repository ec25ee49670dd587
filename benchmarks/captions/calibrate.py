"""How true are the embedded captions, and does the embedded similarity tell true from false ones?

Renders labelled clips (pictures.py, cameras.py, faces.py, writing.py) and sounds (sounds.py, textures.py) with the
voices that speak.py wrote, and reports precision and recall of every claim, and how well true captions are told from
another clip's and from captions with one claim turned false.

    python benchmarks/captions/speak.py VOICES
    python benchmarks/captions/calibrate.py VOICES [--clips 400] [--half report]

Choose thresholds with `--half fit`; look at the other half last. fit.py writes the weights of the detectors.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent))
import cameras
import faces
import pictures
import sounds
import textures
import writing

from vidcap.backends import registry
from vidcap.backends.embedded.claim_parser import parse
from vidcap.backends.embedded.claims import FACTS, Claim, measures_of, stated, truth_of
from vidcap.backends.embedded.measure_audio import AUDIO_FIELDS, measure_audio
from vidcap.backends.embedded.measure_picture import measure_picture
from vidcap.backends.embedded.measure_video import share_of
from vidcap.backends.roles import ClipView
from vidcap.seeds import seed_of

Float = npt.NDArray[np.float64]
Keys = set[tuple[str, str]]
Item = tuple[Keys, Keys, list[Claim]]
"""What holds, what does not, and what is stated of a clip."""

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
    ("panning right|panning to the right|pans right across|pans to the right over", "panning left"),
    ("panning left|panning to the left|pans left across|pans to the left over", "panning right"),
    ("tilting up|tilting upwards|tilts up over|tilts upwards over", "tilting down"),
    ("tilting down|tilting downwards|tilts down over|tilts downwards over", "tilting up"),
    ("zooming in|closing in|zooms in on|closes in on", "zooming out"),
    ("zooming out|pulling back|zooms out from|pulls back from", "zooming in"),
    ("from a fixed camera|taken with a static camera", "panning left"),
    ("face on the left|face in the middle", "face on the right"),
    ("face on the right", "face on the left"),
    ("close-up", "medium shot"),
    ("medium shot|medium close-up", "close-up"),
    ("a face|two faces", "several faces"),
    ("text at the top|writing at the top", "text at the bottom"),
    ("text at the bottom|writing at the bottom", "text at the top"),
    ("percussive", "tonal"),
    ("tonal", "percussive"),
    ("steady tone|continuous tone", "steady noise"),
)
"""Words of the captioners, and what makes them false."""


MADE_OF_NOISE = {"engine", "claps", "rumble", "beaten_noise", "barks"}
"""Whether these are a noise is a matter of taste: their makers put noise into them."""


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


def looked_at(clips: Sequence[pictures.Clip]) -> list[Item]:
    """What is stated of pictures."""
    items: list[Item] = []
    for clip in clips:
        measures = measures_of(measure_picture(share_of(clip.frames, 0), share_of(clip.times, 0)))
        items.append((set(clip.true), set(clip.false), stated(measures, "video")))
    return items


def listened_to(heard: Sequence[tuple[sounds.Sound, Keys, Keys]]) -> list[Item]:
    """What is stated of sounds."""
    items: list[Item] = []
    for sound, yes, no in heard:
        vector = measure_audio(sound.audio, has_audio=True, parity=0)
        measures = dict(zip(AUDIO_FIELDS, map(float, vector), strict=True))
        items.append((yes, no, stated(measures, "audio")))
    return items


def report_claims(items: list[Item]) -> None:
    """Precision and recall of stated claims; a claim whose label is open counts for neither."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
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
    places = {(place, "any colour"): [0, 0, 0] for place in pictures.ACROSS}
    for (type_, _), found in counts.items():
        if type_ in pictures.ACROSS:
            places[type_, "any colour"] = [a + b for a, b in zip(places[type_, "any colour"], found, strict=True)]
    rows = [(key, counts[key]) for key in FACTS if key in counts and key[0] not in pictures.ACROSS]
    for key, (right, wrong, missed) in [*rows, *places.items()]:
        total[0] += right
        total[1] += wrong
        precision = f"{right / (right + wrong):.3f}" if right + wrong else "-"
        recall = f"{right / (right + missed):.2f}" if right + missed else "-"
        print(f"| {key[0]}: {key[1]} | {right + wrong} | {precision} | {recall} |")
    print(f"| all | {sum(total)} | {total[0] / max(1, sum(total)):.3f} | |")


def seen_by_captioners(view: ClipView) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    return (
        measure_picture(share_of(view.frames, 0), share_of(view.times, 0)),
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


def report_similarity(clips: list[pictures.Clip], heard: list[tuple[sounds.Sound, Keys]]) -> None:
    """Areas for each caption kind: true against another clip's caption, true against one claim turned false."""
    video, audio, similarity = (
        registry.create(role, "descriptor") for role in ("video_captioner", "audio_captioner", "similarity")
    )
    random = np.random.default_rng(11)
    views = [
        ClipView(str(i), c.frames, c.times, s.audio, True, len(s.audio) / 16000)
        for i, (c, (s, _)) in enumerate(zip(clips, heard, strict=False))
    ]
    seeds = [seed_of(0, view.key, "calibrate") for view in views]
    seen, said = (b.caption(views, prompt="", seeds=seeds) for b in (video, audio))
    vectors = similarity.embed(views)
    # What a claim turned false is, the half that the similarity does not see decides, or the label.
    even = [measures_of(np.concatenate(halves)) for halves in map(seen_by_captioners, views)]
    false = [c.false | no for c, (_, no) in zip(clips, heard, strict=False)]
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
    parser.add_argument("--half", choices=("fit", "report"), default="report", help="whose voices and letters are used")
    parser.add_argument("--clips", type=int, default=400, help="pictures of each of the four kinds")
    parser.add_argument("--sounds", type=int, default=735, help="sounds; of textures and sequences a third each")
    parser.add_argument("--seed", type=int, default=8, help="of the rendered clips")
    options = parser.parse_args()

    def rendered(make: Callable[..., Any], *more: Any) -> list[Any]:
        return [make(np.random.default_rng([options.seed, i]), *more) for i in range(options.clips)]

    folder = options.voices / options.half
    heard = sounds.corpus(options.sounds, folder, options.seed)
    later = [
        *textures.corpus(options.sounds // 3, folder, options.seed),
        *textures.sequences(options.sounds // 3, folder, options.seed),
    ]
    clips = rendered(pictures.render)
    others = [*rendered(cameras.render), *rendered(faces.render)]
    others += [clip for clip, _ in rendered(writing.render, options.half)]
    labelled = [*((sound, *sound_truth(sound)) for sound in heard), *later]
    report_claims([*looked_at(clips), *looked_at(others), *listened_to(labelled)])
    print("\nPictures of colours and light with sounds:")
    report_similarity(clips, [(sound, sound_truth(sound)[1]) for sound in heard])
    print("\nPictures of cameras, faces and writing with sounds of textures and sequences:")
    random = np.random.default_rng(options.seed)
    mixed = [others[i] for i in random.permutation(len(others))]
    report_similarity(mixed, [(sound, no) for sound, _, no in (later[i] for i in random.permutation(len(later)))])


if __name__ == "__main__":
    main()
