"""The English phrases about the camera, faces and writing, as claim_words.py holds those about the rest."""

from __future__ import annotations

_GOES = "(?:mov(?:es|ing)|pan(?:s|ning)?|turn(?:s|ing)|sweep(?:s|ing)|swing(?:s|ing)?|drift(?:s|ing)?|glid(?:es|ing))"
_WAY = "(?: \\w+ly)? (?:to(?:wards?)? )?(?:the )?"
_LYING = "(?:at|on|in|to|near|along|across|towards?) the (?:far )?"


def _pan(side: str) -> tuple[str, ...]:
    return (
        f"pan(?:s|ning)?{_WAY}{side}(?:wards?)?",
        f"(?<=camera ){_GOES}{_WAY}{side}(?:wards?)?",
        f"(?<=view ){_GOES}{_WAY}{side}(?:wards?)?",
    )


def _after(nouns: str, pattern: str) -> tuple[str, ...]:
    """The pattern where one of the nouns stands right before it; the noun stays for others to take."""
    return tuple(f"(?<={noun} ){pattern}" for noun in nouns.split())


_FACES = "face faces"
_WRITING = "text writing lettering letters words subtitles captions caption"

CAMERA_PHRASES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("camera", "pan right", _pan("right")),
    ("camera", "pan left", _pan("left")),
    ("camera", "tilt up", ("tilt(?:s|ing)?(?: \\w+ly)? (?:up(?:wards?)?|to the top)",)),
    ("camera", "tilt down", ("tilt(?:s|ing)?(?: \\w+ly)? (?:down(?:wards?)?|to the bottom)",)),
    ("camera", "zoom in", ("zoom(?:s|ing)?(?: \\w+ly)? in", "clos(?:es|ing) in", "mov(?:es|ing) closer")),
    ("camera", "zoom out", ("zoom(?:s|ing)?(?: \\w+ly)? out", "pull(?:s|ing) (?:back|out)", "widen(?:s|ing)")),
    (
        "camera",
        "static",
        (
            "(?:static|fixed|stationary|steady|locked(?:[- ]off)?) (?:camera|shot|view)",
            "(?:motionless|unmoving) camera",
            "camera (?:is|stays|remains|holds|stands)(?: \\w+ly)? (?:static|fixed|steady|still|put)",
            "camera (?:does not|doesn't|never) moves?",
            "tripod",
        ),
    ),
    (
        "camera",
        "moving",
        ("moving camera", "hand[- ]?held", "camera (?:moves|is moving|moving|shakes|wobbles|follows|tracks)"),
    ),
    ("face place", "left", _after(_FACES, f"{_LYING}left")),
    ("face place", "right", _after(_FACES, f"{_LYING}right")),
    ("face place", "middle", _after(_FACES, f"{_LYING}(?:middle|cent(?:re|er))")),
    ("shot scale", "medium", ("medium[ -](?:close[ -]ups?|shots?)", "head[ -]and[ -]shoulders")),
    ("shot scale", "close-up", ("(?:extreme )?close[ -]ups?",)),
    ("faces", "several", ("(?:three|four|five|several|many|some|a few)(?: \\w+)? faces",)),
    ("faces", "two", ("(?:two|both|a pair of)(?: \\w+)? faces",)),
    (
        "faces",
        "one",
        (
            "(?:a|one|the|his|her|their|single) "
            "(?!rock|clock|cliff|watch|cube|(?:nor|sou)th|east|west)(?:\\w+ )?face(?! of\\b)",
            "(?:the|their|these|human) faces(?! (?:the|an?|us|each)\\b)",
            "(?<=no )faces?",
        ),
    ),
    ("text place", "top", _after(_WRITING, f"{_LYING}(?:very )?(?:top|upper \\w+)")),
    ("text place", "bottom", _after(_WRITING, f"{_LYING}(?:very )?(?:bottom|lower \\w+)")),
    (
        "text",
        "present",
        (
            "(?:some |lines of |a line of )?(?:text|writing|lettering|subtitles?|captions?|inscriptions?)",
            "words(?= (?:at|on|in|along) the)",
        ),
    ),
)
