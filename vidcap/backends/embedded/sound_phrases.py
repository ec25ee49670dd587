"""Says what was claimed of a sound in one plain English sentence, its wording chosen by a seed."""

from __future__ import annotations

from collections.abc import Sequence

from vidcap.backends.embedded.claims import Claim
from vidcap.backends.embedded.wording import Choice, by_type, upper_first

MOST_WORDS = 16
"""A sentence is no longer: a fused caption takes so many words of what is heard."""

Said = dict[str, tuple[str, ...]]

_CHANGES = {"louder": ("growing louder", "getting louder"), "softer": ("growing quieter", "getting quieter")}
_FLOW = {"pauses": (" with pauses", " on and off"), "unbroken": (" without a pause", " without a break")}
_DOES = {
    "speech": ("a person speaks", "someone talks", "a voice speaks"),
    "music": ("music plays", "music is heard"),
    "": ("sounds are heard",),
}


def say_sound(claims: Sequence[Claim], seed: int) -> str:
    """A sentence of at most `MOST_WORDS` words about what is heard; "" for no claim or for silence."""
    said = by_type(claims)
    if not said or "none" in said.get("sound", ()):
        return ""
    pick = Choice(seed)
    # After silence anything is louder.
    hushed = "silence" in (*said.get("first", ()), *said.get("then", ()))
    changes = [pick(_CHANGES[value]) for value in said.get("loudness change", ()) if not hushed]
    for parts in ([_main(said, Choice(seed)), *changes], [_main(said | {"flow": ()}, Choice(seed)), *changes[:1]]):
        text = upper_first(", ".join(parts)) + "."
        if len(text.split()) <= MOST_WORDS:
            break
    return text


def _main(said: Said, pick: Choice) -> str:
    ordered = _in_order(said, pick)
    if ordered:
        return ordered
    main = _at_once(said, pick)
    for value in said.get("flow", ()):
        # Music and noise are expected to go on; a voice is not.
        if value == "pauses" or not said.keys() & {"music", "noise", "tone"}:
            main += pick(_FLOW[value])
    return main


def _in_order(said: Said, pick: Choice) -> str:
    """What comes first and what then; "" where nothing is claimed of it."""
    first, then = (next(iter(said.get(when, ())), None) for when in ("first", "then"))
    if first == then:
        return ""
    if first == "silence":
        return f"it is silent at first, then {pick(_DOES[then or ''])}"
    if then == "silence":
        begins = f"first {pick(_DOES[first])}" if first else pick(_DOES[""])
        return f"{begins}, then {pick(('there is silence', 'silence follows'))}"
    if first and then:
        ways = (
            f"first {pick(_DOES[first])}, then {pick(_DOES[then])}",
            f"{_DOES[first][0]} at first, then {pick(_DOES[then])}",
            f"{first} gives way to {then}",
        )
        return pick(ways)
    other = next((kind for kind in ("speech", "music") if kind in said and kind not in (first, then)), "")
    if other:
        return ""
    return f"at first {pick(_DOES[first])}" if first else f"later {pick(_DOES[then or ''])}"


def _at_once(said: Said, pick: Choice) -> str:
    loud = {"loud": ("loud ", " loudly"), "quiet": ("quiet ", " quietly")}.get(said.get("loudness", ("",))[0])
    before, after = loud or ("", "")
    textures = said.get("texture", ())
    if "speech" in said and "music" in said:
        main = pick(("a person speaks over music", "someone talks while music plays", "speech is heard over music"))
        return main + (f", and the sound is {before.strip()}" if loud else "")
    if "speech" in said:
        voice = said.get("voice", ("",))[0]
        ways = (f"a person speaks{after}", f"someone talks{after}", f"{before}speech is heard")
        return f"a {voice} voice {pick(('speaks', 'talks'))}{after}" if voice else pick(ways)
    if "music" in said:
        beat = "percussive " if "percussive" in textures else ""
        return pick((f"{before}{beat}music plays", f"{before}{beat}music is heard", f"{beat}music plays{after}"))
    if "tone" in said:
        return pick((f"a steady tone sounds{after}", f"a continuous tone is heard{after}"))
    if "noise" in said:
        return pick((f"a steady noise is heard{after}", f"{before}steady noise is heard"))
    kind = next((f"{value} " for value in ("percussive", "tonal") if value in textures), "")
    return f"{before}{kind}sounds are heard"
