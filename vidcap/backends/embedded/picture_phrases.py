"""Says what was claimed of a picture in one plain English sentence, its wording chosen by a seed."""

from __future__ import annotations

from collections.abc import Sequence

from vidcap.backends.embedded.claims import Claim
from vidcap.backends.embedded.wording import Choice, by_type, listed, upper_first, with_article

MOST_WORDS = 28
"""A sentence is no longer: a fused caption takes so many words of what is seen."""

Said = dict[str, tuple[str, ...]]

_ADJECTIVES: dict[tuple[str, str], tuple[str, ...]] = {
    ("motion", "still"): ("still", "motionless"),
    ("motion", "calm"): ("calm", "slow-moving"),
    ("motion", "lively"): ("lively", "fast-moving", "restless"),
    ("light", "dark"): ("dark", "dimly lit"),
    ("light", "bright"): ("bright", "brightly lit", "well-lit"),
    ("light", "medium"): ("moderately lit",),
    ("contrast", "low"): ("low-contrast",),
    ("contrast", "high"): ("high-contrast",),
    ("saturation", "vivid"): ("vivid", "colourful"),
    ("saturation", "muted"): ("muted",),
    ("saturation", "none"): ("black-and-white", "monochrome"),
}
_CHANGES = {"brighter": ("growing brighter", "getting brighter"), "darker": ("growing darker", "getting darker")}
_MOVES: dict[str, tuple[tuple[str, str], ...]] = {
    # As a participle of the shot, and as what the camera does before a scene.
    "pan right": (("panning right", "pans right across"), ("panning to the right", "pans to the right over")),
    "pan left": (("panning left", "pans left across"), ("panning to the left", "pans to the left over")),
    "tilt up": (("tilting up", "tilts up over"), ("tilting upwards", "tilts upwards over")),
    "tilt down": (("tilting down", "tilts down over"), ("tilting downwards", "tilts downwards over")),
    "zoom in": (("zooming in", "zooms in on"), ("closing in", "closes in on")),
    "zoom out": (("zooming out", "zooms out from"), ("pulling back", "pulls back from")),
}
_HOLDS = {
    "static": ("from a fixed camera", "taken with a static camera"),
    "moving": ("from a moving camera", "filmed with a moving camera"),
}
_NOUNS = ("shot", "view", "picture")
_FACES = {"one": ("a face",), "two": ("two faces",), "several": ("several faces",)}
_SIDES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}
_WRITING = ("text", "writing")
_DROPPED_FIRST = (
    "contrast",
    "right",
    "left",
    "saturation",
    "bottom",
    "top",
    "colour",
    "text place",
    "face place",
    "light change",
)
"""What is left out, in this order, where a sentence would grow too long."""


def say_picture(claims: Sequence[Claim], seed: int) -> str:
    """A sentence of at most `MOST_WORDS` words about what is seen; "" for no claim."""
    left = list(claims)
    text = _sentence(by_type(left), seed) if left else ""
    for type_ in _DROPPED_FIRST:
        while len(text.split()) > MOST_WORDS and (last := [claim for claim in left if claim.type == type_]):
            left.remove(last[-1])
            text = _sentence(by_type(left), seed) if left else ""
    return text


def _sentence(said: Said, seed: int) -> str:
    pick = Choice(seed)
    adjectives = ", ".join(pick(_ADJECTIVES[key]) for key in _adjective_keys(said))
    move = next((value for value in said.get("camera", ()) if value in _MOVES), "")
    words = _MOVES[move][seed // 7 % 2] if move else ("", "")
    scale = next(iter(said.get("shot scale", ())), "")
    medium, plain = pick(("medium shot", "medium close-up")), pick(_NOUNS[:2] if move else _NOUNS)
    noun = {"close-up": "close-up", "medium": medium}.get(scale, plain)
    colours, shown = _colours(said, pick)
    shown += _writing(said, pick)
    faces = _faces(said, pick)
    turned = pick(("plain", "turned")) == "turned" and not scale
    phrase = with_article(f"{adjectives} {noun}".strip())
    if turned and move:
        opening = f"the camera {words[1]} {with_article(f'{adjectives} scene'.strip())}"
    elif turned and faces:
        opening = f"{faces.pop()} {'is' if _number(said) == 'one' else 'are'} {pick(('seen', 'shown'))} in {phrase}"
    elif scale == "close-up" and faces:
        opening = f"{phrase} of {faces.pop()}"
    else:
        opening = phrase
    if move and not opening.startswith("the camera"):
        opening += f" {words[0]}"
    held = next((value for value in said.get("camera", ()) if value in _HOLDS and not move), "")
    # In a still picture the camera stands anyway.
    if held and not (held == "static" and "still" in said.get("motion", ())):
        opening += f" {_HOLDS[held][seed // 7 % 2]}"
    # The colours are those of the picture, not of the camera or a face.
    near = opening in (phrase, f"the camera {words[1]} {with_article(f'{adjectives} scene'.strip())}")
    parts = [f"{opening}{' ' if near else ', '}{colours}" if colours else opening]
    if faces or shown:
        parts[0] += _joint(near, colours) + listed([*faces, *shown])
    parts += [pick(_CHANGES[value]) for value in said.get("light change", ())]
    return upper_first(", ".join(parts)) + "."


def _joint(near: bool, colours: str) -> str:
    """What leads to the things listed after "with": one "with" is enough, and it must not fall to the camera."""
    if colours.startswith("with"):
        return ", "
    return " with " if near or colours else ", with "


def _adjective_keys(said: Said) -> list[tuple[str, str]]:
    """At most one adjective a type: still rather than calm, no colour rather than muted; contrast where little else."""
    keys: list[tuple[str, str]] = []
    for type_, order in (
        ("motion", ("still", "calm", "lively")),
        ("light", ("dark", "bright", "medium")),
        ("saturation", ("none", "vivid", "muted")),
        ("contrast", ("high", "low")),
    ):
        value = next((v for v in order if v in said.get(type_, ())), None)
        if value and not (type_ == "contrast" and len(keys) > 2):
            keys.append((type_, value))
    return keys


def _faces(said: Said, pick: Choice) -> list[str]:
    """How many faces there are and where the largest is."""
    number = _number(said)
    where = next(iter(said.get("face place", ())), "")
    if "faces" not in said and not where:
        return []
    place = {"": "", "middle": pick((" in the middle", " in the centre"))}.get(where, f" {_SIDES.get(where, '')}")
    return [pick(_FACES[number]) + (place if number == "one" else "")]


def _number(said: Said) -> str:
    return next((number for number in ("several", "two") if number in said.get("faces", ())), "one")


def _writing(said: Said, pick: Choice) -> list[str]:
    if "text" not in said and "text place" not in said:
        return []
    where = next(iter(said.get("text place", ())), "")
    return [f"{pick(_WRITING)} {_SIDES[where]}" if where else pick(_WRITING)]


def _colours(said: Said, pick: Choice) -> tuple[str, list[str]]:
    """What follows the noun about its colours, and where in the picture some are."""
    names = [name for name in said.get("colour", ()) if name != "mixed"][:3]
    placed = {side: said.get(side, ("",))[0] for side in ("top", "bottom", "left", "right")}
    if "none" in said.get("saturation", ()):
        names = []
    names = [name for name in names if name not in placed.values()]
    if names[-2:] == ["black", "white"]:
        names[-2:] = ["white", "black"]  # "in black and white" says that there is no colour
    if names:
        main = pick((f"dominated by {listed(names)}", f"in {listed(names)}", f"with much {listed(names)}"))
    else:
        main = "of mixed colours" if "mixed" in said.get("colour", ()) else ""
    return main, [f"{name} {_SIDES[side]}" for side, name in placed.items() if name]
