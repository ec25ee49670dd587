"""Finds the claims of the vocabulary in free English text: synonyms, denials, nothing inside what somebody says."""

from __future__ import annotations

import re

from vidcap.backends.claims import Claim

COLOUR_WORDS: dict[str, str] = {
    "black": "black|jet-black",
    "white": "white|whitish|snow-white",
    "grey": "gr[ea]y(?:ish)?|silver(?:y)?",
    "red": "red(?:dish)?|crimson|scarlet|maroon",
    "orange": "orange|amber",
    "yellow": "yellow(?:ish)?|gold(?:en)?",
    "green": "green(?:ish|ery)?|olive|emerald",
    "turquoise": "turquoise|teal|cyan|aqua",
    "blue": "blu(?:e|ish)|navy|azure",
    "purple": "purpl(?:e|ish)|violet|lilac|lavender|magenta|mauve",
    "pink": "pink(?:ish)?|rosy",
    "brown": "brown(?:ish)?",
    "beige": "beige|cream(?:-coloured|-colored)?|tan|sand-coloured|sand-colored",
}
_COLOUR = "|".join(COLOUR_WORDS.values())
_PICTURE = r"(?:shot|picture|scene|image|footage|video|clip|frame|view|camera)"
_TURNS = r"(?:gets?|getting|grows?|growing|becom(?:es?|ing)|turn(?:s|ing)?)(?: \w+ly)?"
_SAYING = (
    r"(?:says?|saying|said|asks?|asking|tells?|telling|explain(?:s|ing)?|announc(?:es|ing)|mention(?:s|ing)?"
    r"|discuss(?:es|ing)?|describ(?:es|ing)|(?:speak|talk)(?:s|ing)? (?:about|of|on)|whispers?|shouts?)"
)

# In order: what an earlier pattern took, a later one does not see ("white noise" holds no white).
PATTERNS: tuple[tuple[str, tuple[str, str]], ...] = (
    (r"black[ -]and[ -]white|monochrom(?:e|atic)|gr[ea]yscale|colou?rless|without (?:any )?colou?r", ("saturation", "none")),
    (r"(?:(?:white|pink|brown) )?noises?\b|nois(?:y|ily)|hiss(?:es|ing)?", ("noise", "present")),
    (r"(?:steady|pure|continuous|constant|single|high|low) (?:tone|note)|(?:a|the) tone (?:sounds|rings|is)|beep(?:s|ing)?", ("tone", "present")),
    (rf"{_TURNS} (?:much )?(?:brighter|lighter)|brighten(?:s|ing)?|lights up|lighting up", ("light change", "brighter")),
    (rf"{_TURNS} (?:much )?dark(?:er)?|darken(?:s|ing)?|dims|dimming|fad(?:es|ing) to black", ("light change", "darker")),
    (rf"{_TURNS} (?:much )?louder|swells?|swelling|crescendo", ("loudness change", "louder")),
    (rf"{_TURNS} (?:much )?(?:quieter|softer)|d(?:ies|ying) away|fad(?:es|ing) (?:out|away)", ("loudness change", "softer")),
    (r"(?:bright(?:ly)?|vivid(?:ly)?|strong(?:ly)?|rich(?:ly)?|intense(?:ly)?|bold)[ -]colou?r(?:s|ed|ful)?", ("saturation", "vivid")),
    (r"colou?rful|vivid(?:ly)?|saturated|vibrant", ("saturation", "vivid")),
    (r"(?:muted|pale|faded|dull|washed[ -]out|soft|subdued)(?: colou?rs?)?(?=\W|$)(?! (?:music|voices?|sounds?|speech))", ("saturation", "muted")),
    (r"mixed colou?rs|many colou?rs|mix(?:ture)? of colou?rs|various colou?rs", ("colour", "mixed")),
    (r"low[ -]contrast|flat contrast|little contrast|haz[ye]|fogg?y", ("contrast", "low")),
    (r"high[ -]contrast|strong contrasts?|stark(?:ly)?(?: contrasts?)?", ("contrast", "high")),
    (rf"still(?=,| and| {_PICTURE}|,? \w+ {_PICTURE})|(?:is|are|stands?|stays?|remains?|holds?|almost|completely|perfectly) still", ("motion", "still")),
    (r"(?:nothing|hardly anything|nobody) moves|motionless|static|unmoving|frozen", ("motion", "still")),
    (r"calm(?:ly)?|slow(?:ly)?[ -]mov(?:es|ing)|moves? (?:slowly|little)|little (?:movement|motion)|gentle (?:movement|motion)|tranquil|peaceful|gently", ("motion", "calm")),
    (r"lively|fast[ -](?:moving|paced)|moves? (?:fast|quickly|a lot|wildly)|much (?:movement|motion)|energetic|hectic|restless|rapid(?:ly)?|dynamic|full of (?:movement|motion)|shaky", ("motion", "lively")),
    (r"dark(?:ly|ness)?(?: lit)?|dim(?:ly)?(?: lit)?|night(?:time)?|gloomy|poorly lit|badly lit|underexposed", ("light", "dark")),
    (r"bright(?:ly|ness)?(?: lit)?|well[ -]lit|sunny|sunlit|overexposed|daylight", ("light", "bright")),
    (r"silent(?:ly)?|silence|soundless|nothing (?:is|can be) heard|(?:no|without(?: any)?) sounds?", ("sound", "none")),
    (r"(?:low|deep|low-pitched)(?= voices?\b)|(?:in|with) a (?:low|deep|low-pitched)(?= voice)", ("voice", "low")),
    (r"(?:high|high-pitched)(?= voices?\b)|(?:in|with) a (?:high|high-pitched)(?= voice)", ("voice", "high")),
    (r"(?:with|after|between) (?:long |short |many |some )?pauses|intermittent(?:ly)?|on and off|now and then", ("flow", "pauses")),
    (r"without (?:a )?(?:pauses?|breaks?|stopping)|uninterrupted|unbroken|continuous(?:ly)?|incessant(?:ly)?|constant(?:ly)?", ("flow", "unbroken")),
    (r"nobody (?:speaks|talks|is (?:speaking|talking))|no[ -]one (?:speaks|talks|is (?:speaking|talking))|speechless", ("speech", "absent")),
    (rf"{_SAYING}|speak(?:s|ing|ers?)?|spoken|speech|talk(?:s|ing)?|voices?|conversation|dialogue|monologue|narrat(?:es|ing|ion|or)|lectur(?:e|es|ing)|interview|commentary", ("speech", "present")),
    (r"music(?:al|ians?)?|melod(?:y|ies|ic)|songs?|tunes?|piano|guitar|violin|orchestra|instrumental|chords?|sing(?:s|ing)", ("music", "present")),
    (r"loud(?:ly|ness)?|noisily|blaring|deafening", ("loudness", "loud")),
    (r"quiet(?:ly)?|faint(?:ly)?|softly|soft|hushed|low volume", ("loudness", "quiet")),
    (r"sounds? (?:is|are|can be) (?:heard|audible)|audible|(?:there is|has|with) sound|sounds? (?:is|are) present", ("sound", "audible")),
)  # fmt: skip
_COMPILED = tuple((re.compile(rf"(?<![\w-])(?:{pattern})(?!\w)"), target) for pattern, target in PATTERNS)
_COLOUR_PATTERNS = {name: re.compile(rf"(?<![\w-])(?:{words})(?!\w)") for name, words in COLOUR_WORDS.items()}
_SHADE = re.compile(
    rf"\b(?:dark|bright|light|pale|deep|vivid|muted|soft|dull|rich|faded)(?:er)?[ -](?=(?:{_COLOUR})\b)(?!black[ -]and[ -]white)"
)
_PLACE = (
    ("top", re.compile(rf"\b({_COLOUR})(?: \w+)? (?:at|in|on|along|across|near|towards?) the (?:top|upper|sky)\w*|\b({_COLOUR}) above\b")),
    ("bottom", re.compile(rf"\b({_COLOUR})(?: \w+)? (?:at|in|on|along|across|near|towards?) the (?:bottom|lower|ground)\w*|\b({_COLOUR}) below\b")),
    ("top", re.compile(rf"\b(?:top|upper (?:part|half|third)) (?:is|shows|of the \w+ is) (?:mostly |mainly )?({_COLOUR})\b")),
    ("bottom", re.compile(rf"\b(?:bottom|lower (?:part|half|third)) (?:is|shows|of the \w+ is) (?:mostly |mainly )?({_COLOUR})\b")),
)  # fmt: skip
_QUOTES = re.compile(r"\"[^\"]*(?:\"|$)|“[^”]*(?:”|$)|«[^»]*(?:»|$)|(?<!\w)['‘][^'’]*(?:['’]\w[^'’]*)*['’](?!\w)")
_INDIRECT = re.compile(rf"\b({_SAYING})(?=[ :,])[^.;!?]*?(?=, (?:while|as|and|with|over)\b|[.;!?]|$)")
_DENIAL = re.compile(
    r"\b(?:no|not|without|never|neither|nor|lacks?|lacking|hardly|cannot|\w+n't|nobody|no one|free of)\b"
)
_CLAUSE = re.compile(r"[,.;:!?]|\b(?:but|while|whereas|although|over|as|then)\b")
_WINDOW = 5


def parse(text: str) -> list[Claim]:
    """The claims of `text`, each once, in the order of their first words. Never fails; unknown words say nothing."""
    rest = without_quotations(text.lower())
    found: list[tuple[int, Claim]] = []
    whole = rest

    def take(match: re.Match[str], type_: str, value: str) -> None:
        nonlocal rest
        found.append((match.start(), Claim(type_, value, _denied(whole, match.start(), match.end()))))
        rest = rest[: match.start()] + "#" * len(match.group()) + rest[match.end() :]

    for match in list(_SHADE.finditer(rest)):
        rest = rest[: match.start()] + "#" * len(match.group()) + rest[match.end() :]
    for place, pattern in _PLACE:
        for match in list(pattern.finditer(rest)):
            word = next(group for group in match.groups() if group)
            take(match, place, colour_of(word))
    for pattern, (type_, value) in _COMPILED:
        for match in list(pattern.finditer(rest)):
            if value == "absent":
                found.append((match.start(), Claim("speech", "present", denied=True)))
                rest = rest[: match.start()] + "#" * len(match.group()) + rest[match.end() :]
            elif (type_, value) == ("sound", "none"):
                found.append((match.start(), Claim("sound", "none")))
                rest = rest[: match.start()] + "#" * len(match.group()) + rest[match.end() :]
            else:
                take(match, type_, value)
    for name, pattern in _COLOUR_PATTERNS.items():
        for match in list(pattern.finditer(rest)):
            take(match, "colour", name)
    return list(dict.fromkeys(claim for _, claim in sorted(found, key=lambda item: item[0])))


def without_quotations(text: str) -> str:
    """`text` (lower case) without what somebody in it says; the word of saying stays."""
    return _INDIRECT.sub(r"\1", _QUOTES.sub(" ", text))


def colour_of(word: str) -> str:
    """The colour name a colour word stands for."""
    return next(name for name, words in COLOUR_WORDS.items() if re.fullmatch(words, word))


def _denied(text: str, start: int, end: int) -> bool:
    """Whether a word of denial stands within a few words before, or `is not`, `is absent` after, in the same clause."""
    before = _CLAUSE.split(text[:start])[-1]
    after = _CLAUSE.split(text[end:])[0]
    near = " ".join(before.split()[-_WINDOW:])
    return bool(_DENIAL.search(near) or re.match(r"\W*(?:\w+ )?(?:(?:not|never|absent|missing)\b|\w+n't\b)", after))
