"""The English phrases about what is heard first and what then, and about beats and notes."""

from __future__ import annotations

_VOICE = (
    "(?:an? |the |some(?= )|one )?(?:\\w+ )?"
    "(?:person|people|speech|someone|somebody|voices?|man|woman|speaker|talk(?:ing)?)\\b"
)
_MUSIC = "(?:\\w+ )?(?:music|song|melody)\\b"
_FIRST = "(?:at first|first|initially|beginning with|begins with|opens with)"
_THEN = "(?:then|afterwards|after that|later|followed by)"

SEQUENCE_PHRASES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "first",
        "silence",
        (
            "(?:begins|starts|opens) (?:in|with) silence",
            "after (?:some |a )?(?:moments? of )?silence",
            "(?:silent|quiet|still) at first",
            "silence comes first",
        ),
    ),
    (
        "first",
        "speech",
        (f"{_FIRST}(?=,? {_VOICE})", "(?<=speaks )(?:at )?first", "(?<=talks )(?:at )?first", "(?<=speech )gives"),
    ),
    ("first", "music", (f"{_FIRST}(?=,? {_MUSIC})", "(?<=plays )(?:at )?first", "(?<=music )gives")),
    (
        "then",
        "silence",
        (
            "(?:then|before|until)(?: \\w+)? (?:there is silence|silence (?:falls|follows))",
            "(?:then|before|until)(?: \\w+)? (?:it )?(?:is|falls|goes|turns) silent",
            "falls silent",
            "ends in silence",
            "gives way to silence",
            "way to silence",
            "silence follows",
        ),
    ),
    (
        "then",
        "speech",
        (
            f"{_THEN}(?=,? {_VOICE})",
            f"way to(?= {_VOICE})",
            "(?<=person )follows",
            "(?<=speech )follows",
        ),
    ),
    ("then", "music", (f"{_THEN}(?=,? {_MUSIC})", f"way to(?= {_MUSIC})", "(?<=music )follows")),
    (
        "texture",
        "percussive",
        (
            "percussi(?:ve|on)",
            "drum(?:s|ming|beats?)?",
            "(?:hand)?clap(?:s|ping)",
            "knock(?:s|ing)",
            "drum ?beats?",
            "thuds?",
        ),
    ),
    ("texture", "tonal", ("tonal", "(?:held|long|sustained|ringing) (?:notes|tones)", "chimes?", "hum(?:s|ming)?")),
)
