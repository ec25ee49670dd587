"""The English words and phrases that make a claim of the vocabulary, as regular expressions over lower-case text."""

from __future__ import annotations

from vidcap.backends.embedded.camera_words import CAMERA_PHRASES
from vidcap.backends.embedded.sequence_words import SEQUENCE_PHRASES

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
    "beige": "beige|cream(?:-colou?red)?|tan|sand-colou?red",
}
COLOUR = "|".join(COLOUR_WORDS.values())

SHADE = r"(?:dark|bright|light|pale|deep|vivid|muted|soft|dull|rich|faded)(?:er)?[ -](?=(?:{colour})\b)"
"""An adjective of a colour word is no claim about the whole picture."""

SAYING = (
    "says?|saying|said|asks?|asking|tells?|telling|explain(?:s|ing)?|announc(?:es|ing)|mention(?:s|ing)?"
    "|discuss(?:es|ing)?|describ(?:es|ing)|(?:speak|talk)(?:s|ing)? (?:about|of|on)|whispers?|shouts?"
)
"""Words after which somebody else's words follow."""

_PICTURE = "(?:shot|picture|scene|image|footage|video|clip|frame|view|camera)"
_TURNS = "(?:gets?|getting|grows?|growing|becom(?:es?|ing)|turn(?:s|ing)?)(?: \\w+ly)?(?: much)?"
_NOBODY = "(?:nobody|no[ -]one) (?:(?:is|can be) )?"

Phrases = tuple[str, str, tuple[str, ...]]

PHRASES: tuple[Phrases, ...] = (
    *SEQUENCE_PHRASES,
    *CAMERA_PHRASES,
    (
        "saturation",
        "none",
        ("black[ -]and[ -]white", "monochrom(?:e|atic)", "gr[ea]yscale", "colou?rless", "without (?:any )?colou?r"),
    ),
    ("noise", "present", ("(?:(?:white|pink|brown) )?noises?", "nois(?:y|ily)", "hiss(?:es|ing)?")),
    (
        "tone",
        "present",
        (
            "(?:steady|pure|continuous|constant|single|high|low) (?:tone|note)",
            "(?:a|the) tone (?:sounds|rings|is)",
            "beep(?:s|ing)?",
        ),
    ),
    ("light change", "brighter", (f"{_TURNS} (?:brighter|lighter)", "brighten(?:s|ing)?", "light(?:s|ing) up")),
    (
        "light change",
        "darker",
        (f"{_TURNS} dark(?:er)?", "darken(?:s|ing)?", "dims", "dimming", "fad(?:es|ing) to black"),
    ),
    ("loudness change", "louder", (f"{_TURNS} louder", "swells?", "swelling", "crescendo")),
    (
        "loudness change",
        "softer",
        (f"{_TURNS} (?:quieter|softer)", "d(?:ies|ying) away", "fad(?:es|ing) (?:out|away)"),
    ),
    (
        "saturation",
        "vivid",
        (
            "(?:bright(?:ly)?|vivid(?:ly)?|strong(?:ly)?|rich(?:ly)?|intense(?:ly)?|bold)[ -]colou?r(?:s|ed|ful)?",
            "colou?rful",
            "vivid(?:ly)?",
            "saturated",
            "vibrant",
        ),
    ),
    (
        "saturation",
        "muted",
        (
            "(?:muted|pale|faded|dull|washed[ -]out|soft|subdued) colou?rs?",
            "soft(?= light)",
            "muted",
            "washed[ -]out",
            "subdued",
        ),
    ),
    ("colour", "mixed", ("(?:mixed|many|various) colou?rs", "mix(?:ture)? of colou?rs")),
    ("contrast", "low", ("low[ -]contrast", "(?:flat|little) contrast", "haz[ye]", "fogg?y")),
    ("contrast", "high", ("high[ -]contrast", "strong contrasts?", "stark(?:ly)?(?: contrasts?)?")),
    (
        "motion",
        "still",
        (
            # Not the adverb of "is still talking".
            f"still(?=,| and| {_PICTURE}|,? [\\w-]+ {_PICTURE})(?! \\w+ing)",
            "(?:is|are|stands?|stays?|remains?|holds?|almost|completely|perfectly) still(?! \\w)",
            "(?:nothing|hardly anything) moves",
            "motionless",
            "static",
            "unmoving",
            "frozen",
        ),
    ),
    (
        "motion",
        "calm",
        (
            "calm(?:ly)?",
            "slow(?:ly)?[ -]mov(?:es|ing)",
            "moves? (?:slowly|little)",
            "(?:little|gentle) (?:movement|motion)",
            "tranquil",
            "peaceful",
            "gently",
        ),
    ),
    (
        "motion",
        "lively",
        (
            "lively",
            "fast[ -](?:moving|paced)",
            "moves? (?:fast|quickly|a lot|wildly)",
            "much (?:movement|motion)",
            "full of (?:movement|motion)",
            "energetic",
            "hectic",
            "restless",
            "rapid(?:ly)?",
            "dynamic",
            "shaky",
        ),
    ),
    ("light", "medium", ("(?:moderately|evenly) lit", "(?:medium|moderate) light(?:ing)?")),
    (
        "light",
        "dark",
        (
            "dark(?:ly|ness)?(?: lit)?",
            "dim(?:ly)?(?: lit)?",
            "night(?:time)?",
            "gloomy",
            "(?:poorly|badly) lit",
            "underexposed",
        ),
    ),
    (
        "light",
        "bright",
        ("bright(?:ly|ness)?(?: lit)?", "well[ -]lit", "sunny", "sunlit", "overexposed", "daylight"),
    ),
    (
        "sound",
        "none",
        (
            "silent(?:ly)?",
            "silence",
            "soundless",
            "nothing (?:is|can be) heard",
            "(?:no|without(?: any)?) sounds?",
        ),
    ),
    ("voice", "low", ("(?:low|deep|low-pitched)(?= voices?\\b)",)),
    ("voice", "high", ("(?:high|high-pitched)(?= voices?\\b)",)),
    (
        "flow",
        "unbroken",
        (
            "without (?:a |any )?(?:pauses?|breaks?|stopping)",
            "uninterrupted",
            "unbroken",
            "continuous(?:ly)?",
            "incessant(?:ly)?",
            "constant(?:ly)?",
        ),
    ),
    (
        "flow",
        "pauses",
        (
            "(?:with|after|between) (?:long |short |many |some )?pauses",
            "intermittent(?:ly)?",
            "on and off",
            "now and then",
        ),
    ),
    ("speech", "absent", (f"{_NOBODY}(?:speaks?|speaking|talks?|talking)", "speechless")),
    (
        "speech",
        "present",
        (
            SAYING,
            "speak(?:s|ing|ers?)?",
            "spoken",
            "speech",
            "talk(?:s|ing)?",
            "voices?",
            "conversation",
            "dialogue",
            "monologue",
            "narrat(?:es|ing|ion|or)",
            "lectur(?:e|es|ing)",
            "interview",
            "commentary",
        ),
    ),
    (
        "music",
        "present",
        (
            "music(?:al|ians?)?",
            "melod(?:y|ies|ic)",
            "songs?",
            "tunes?",
            "piano",
            "guitar",
            "violin",
            "orchestra",
            "instrumental",
            "chords?",
            "sing(?:s|ing)",
        ),
    ),
    ("loudness", "loud", ("loud(?:ly|ness)?", "noisily", "blaring", "deafening")),
    ("loudness", "quiet", ("quiet(?:ly)?", "faint(?:ly)?", "softly", "soft", "hushed", "low volume")),
    (
        "sound",
        "audible",
        ("sounds? (?:is|are|can be) (?:heard|audible|present)", "audible", "(?:there is|has|with) sound"),
    ),
)
"""Type, value and phrases. What an earlier entry took, a later one does not see ("white noise" holds no white)."""

# A colour, then where it is; or where, then the colour.
_AT = "(?: \\w+)? (?:at|in|on|along|across|near|towards?) the"
PLACES: tuple[tuple[str, str], ...] = (
    ("top", f"({COLOUR}){_AT} (?:top|upper)\\w*|({COLOUR}) above"),
    ("bottom", f"({COLOUR}){_AT} (?:bottom|lower)\\w*|({COLOUR}) below"),
    ("top", f"(?:top|upper (?:part|half|third)) (?:is|shows) (?:mostly |mainly )?({COLOUR})"),
    ("bottom", f"(?:bottom|lower (?:part|half|third)) (?:is|shows) (?:mostly |mainly )?({COLOUR})"),
    ("left", f"({COLOUR}){_AT} (?:far )?left"),
    ("right", f"({COLOUR}){_AT} (?:far )?right"),
    ("left", f"left(?: side| half)? (?:is|shows) (?:mostly |mainly )?({COLOUR})"),
    ("right", f"right(?: side| half)? (?:is|shows) (?:mostly |mainly )?({COLOUR})"),
)
