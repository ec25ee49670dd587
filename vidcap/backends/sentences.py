"""Where English sentences end, and which words are quoted: for composing fused captions and for checking them."""

from __future__ import annotations

import re

_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st sr jr vs etc no vol fig dept est approx e.g i.e a.m p.m inc ltd co corp capt col gen lt sgt "
    "rev hon mt ave blvd".split()
)
_QUOTED = re.compile(r'"[^"]*"|“[^”]*”|«[^»]*»')
_END = re.compile(r"""(?P<stop>[.!?…]+)(?P<close>["'”’»)\]]*)\s+(?=(?P<next>\S))|(?P<wide>[。！？])(?=\S)""")
_FINISHED = re.compile(r"""[.!?…。！？]["'”’»)*]*\Z""")
_LAST_WORD = re.compile(r"[^\s\"“”'(]+\Z")


def without_quoted(text: str) -> str:
    """`text` with the words inside double quotes taken out; a quote's final stop stays, as it may end the sentence."""

    def keep_stop(match: re.Match[str]) -> str:
        inner = match[0][1:-1].rstrip()
        stop = inner[-1] if inner and inner[-1] in ".!?…" else ""
        return f"{match[0][0]}{stop}{match[0][-1]}"

    return _QUOTED.sub(keep_stop, text)


def sentences(text: str) -> list[str]:
    """Split at sentence ends; stops inside double quotes, abbreviations, initials and numbers end nothing."""
    spans = [match.span() for match in _QUOTED.finditer(text)]
    found: list[str] = []
    begin = 0
    for match in _END.finditer(text):
        at = match.start()
        inside = any(
            first < at < last - 1 and match.end("close" if match["stop"] else "wide") < last for first, last in spans
        )
        if not inside and _ends(text, begin, match):
            found.append(text[begin : match.end()].strip())
            begin = match.end()
    rest = text[begin:].strip()
    return [*found, rest] if rest else found


def finished(text: str) -> bool:
    """Whether the text ends as a sentence does."""
    return _FINISHED.search(text) is not None


def whole_sentences(text: str) -> str:
    """The finished sentences that a text begins with, or ""; what breaks off is left out."""
    text = text.strip()
    if finished(text):
        return text
    parts = sentences(text)
    return text[: len(text) - len(parts[-1])].strip() if len(parts) > 1 else ""


def words(text: str) -> list[str]:
    """The words of a text, lower-cased, without punctuation."""
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text.casefold())


def lower_first(text: str) -> str:
    """The first letter in lower case, unless it begins a name, an acronym or the word I."""
    first, _, rest = text.partition(" ")
    plain = first.rstrip(",.;:")
    name = rest[:1].isupper() and plain.lower() not in {"a", "an", "the"}
    if plain == "I" or plain.startswith("I'") or name or (len(plain) > 1 and plain.isupper()):
        return text
    return text[:1].lower() + text[1:]


def shorten(text: str, limit: int) -> str:
    """At most `limit` words, cut at a word boundary; without a dangling function word or comma at the end."""
    parts = text.split()
    if len(parts) <= limit:
        return text
    kept = parts[: max(limit, 1)]
    while len(kept) > 1 and kept[-1].strip(",;:").lower() in _DANGLING:
        kept.pop()
    return " ".join(kept).rstrip(",;:-")


_DANGLING = frozenset(
    "a an the and or but of in on at to with by for from over under into as while that is are".split()
)


def _ends(text: str, begin: int, match: re.Match[str]) -> bool:
    if match["wide"]:
        return True
    before = _LAST_WORD.search(text, begin, match.start())
    word = before[0].lower() if before else ""
    follower = match["next"]
    if match["stop"] == ".":
        initial = len(word) == 1 and word.isalpha() and word != "i"
        dotted = "." in word and all(len(piece) == 1 for piece in word.split("."))
        if word in _ABBREVIATIONS or ((initial or dotted) and not match["close"]):
            return False
    if follower.islower():
        # `says "Stop!" and runs` goes on; `barks. it runs` does not.
        return match["stop"] == "." and not match["close"]
    return True
