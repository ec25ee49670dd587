"""Says claims in plain English: one natural sentence a caption, its wording chosen by a seed."""

from __future__ import annotations

from collections.abc import Sequence

from vidcap.backends.claims import Claim

_ADJECTIVES: dict[tuple[str, str], tuple[str, ...]] = {
    ("motion", "still"): ("still", "motionless", "static"),
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
_AFTER: dict[tuple[str, str], tuple[str, ...]] = {
    ("light change", "brighter"): ("growing brighter", "getting brighter"),
    ("light change", "darker"): ("growing darker", "getting darker"),
    ("loudness change", "louder"): ("growing louder", "getting louder"),
    ("loudness change", "softer"): ("growing quieter", "getting quieter"),
}
_FLOW = {"pauses": (" with pauses", " on and off"), "unbroken": (" without a pause", " without a break")}
_NOUNS = ("shot", "view", "picture")


def say_picture(claims: Sequence[Claim], seed: int) -> str:
    """A sentence of at most 25 words about what is seen; "" for no claim."""
    said = _by_type(claims)
    if not said:
        return ""
    pick = _Choice(seed)
    adjectives = [pick(_ADJECTIVES[key]) for key in _adjective_keys(said)]
    noun = pick(_NOUNS)
    colours, tail = _colours(said, pick)
    opening = ", ".join(adjectives)
    article = "An" if opening[:1] in "aeiou" and opening else "A"
    sentence = f"{article} {opening} {noun}" if adjectives else f"A {noun}"
    if colours:
        sentence += f" {colours}"
    changes = [pick(_AFTER["light change", value]) for value in said.get("light change", ())]
    return ", ".join([sentence + tail, *changes]) + "."


def say_sound(claims: Sequence[Claim], seed: int) -> str:
    """A sentence of at most 25 words about what is heard; "" for no claim or for silence."""
    said = _by_type(claims)
    if not said or "none" in said.get("sound", ()):
        return ""
    pick = _Choice(seed)
    loud = {"loud": ("loud ", " loudly"), "quiet": ("quiet ", " quietly")}.get(said.get("loudness", ("",))[0])
    before, after = loud or ("", "")
    if "speech" in said and "music" in said:
        main = pick(("A person speaks over music", "Someone talks while music plays", "Speech is heard over music"))
        main += f", and the sound is {before.strip()}" if loud else ""
    elif "speech" in said:
        voice = said.get("voice", ("",))[0]
        ways = (f"A person speaks{after}", f"Someone talks{after}", _upper_first(f"{before}speech is heard"))
        main = f"A {voice} voice {pick(('speaks', 'talks'))}{after}" if voice else pick(ways)
    elif "music" in said:
        main = _upper_first(pick((f"{before}music plays", f"{before}music is heard", f"music plays{after}")))
    elif "tone" in said:
        main = pick((f"A steady tone sounds{after}", f"A continuous tone is heard{after}"))
    elif "noise" in said:
        main = _upper_first(pick((f"a steady noise is heard{after}", f"{before}steady noise is heard")))
    else:
        main = _upper_first(f"{before}sounds are heard")
    for value in said.get("flow", ()):
        # Music and noise are expected to go on; a voice is not.
        if value == "pauses" or not said.keys() & {"music", "noise", "tone"}:
            main += pick(_FLOW[value])
    changes = [pick(_AFTER["loudness change", value]) for value in said.get("loudness change", ())]
    return ", ".join([main, *changes]) + "."


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


class _Choice:
    """Takes one of several wordings, each time from other digits of the seed."""

    def __init__(self, seed: int) -> None:
        self._rest = seed

    def __call__(self, options: Sequence[str]) -> str:
        self._rest, position = divmod(self._rest, len(options))
        return options[position]


def _by_type(claims: Sequence[Claim]) -> dict[str, tuple[str, ...]]:
    said: dict[str, tuple[str, ...]] = {}
    for claim in claims:
        said[claim.type] = (*said.get(claim.type, ()), claim.value)
    return said


def _adjective_keys(said: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
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


def _colours(said: dict[str, tuple[str, ...]], pick: _Choice) -> tuple[str, str]:
    """What follows the noun about its colours, and where in the picture they are."""
    names = [name for name in said.get("colour", ()) if name != "mixed"][:3]
    top = said.get("top", ("",))[0]
    bottom = said.get("bottom", ("",))[0]
    if "none" in said.get("saturation", ()):
        names = []
    names = [name for name in names if name not in (top, bottom)]
    if names[-2:] == ["black", "white"]:
        names[-2:] = ["white", "black"]  # "in black and white" says that there is no colour
    if names:
        listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
        main = pick((f"dominated by {listed}", f"in {listed}", f"with much {listed}"))
    else:
        main = "of mixed colours" if "mixed" in said.get("colour", ()) else ""
    places = [f"{name} at the {where}" for name, where in ((top, "top"), (bottom, "bottom")) if name]
    if not places:
        return main, ""
    return main, f"{',' if main.startswith('with') else ' with'} {' and '.join(places)}"
