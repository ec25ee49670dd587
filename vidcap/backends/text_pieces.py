"""Cuts a caption into pieces that a text encoder of limited context reads whole: sentences, then parts of sentences."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from vidcap.backends.sentences import sentences

VERSION = 1
"""In the identity of the backends that use it: raise it whenever a text is cut in other pieces."""
CHARACTERS_PER_TOKEN = 40
"""More than any vocabulary puts into one token: texts above this are cut before they are tokenised."""
_ESCAPES = 8
_CLAUSE_ENDS = (",", ";", ":", "–", "—")


def cleaned(text: str) -> str:
    """`text` on one line, without character references and angle brackets.

    Tokenisers read `<end_of_text>` and its like as their own marks, also where it is written `&lt;end_of_text&gt;`: a
    caption must not be able to hide what follows it.
    """
    for _ in range(_ESCAPES):
        plain = html.unescape(text)
        if plain == text:
            break
        text = plain
    else:
        text = text.replace("&", " ")
    return " ".join(re.sub(r"[<>]", " ", text).split())


def pieces(text: str, tokens_of: Callable[[str], int], context: int) -> list[str]:
    """The whole text where it fits, else its sentences, those that are too long halved until they fit.

    `tokens_of`: tokens of a text, the marks at its ends included; `context`: how many the encoder reads. Sentences are
    halved at the words, best after a comma, so that no piece is a mere scrap; a word that is too long itself at the
    characters. Nothing is left out, and nothing is in two pieces. [] for a text without characters.
    """

    def fits(piece: str) -> bool:
        return len(piece) <= CHARACTERS_PER_TOKEN * context and tokens_of(piece) <= context

    text = cleaned(text)
    if not text:
        return []
    if fits(text):
        return [text]
    found: list[str] = []
    todo = sentences(text)[::-1]
    while todo:
        piece = todo.pop()
        # A single character that does not fit cannot be mended: the tokeniser cuts it.
        if len(piece) == 1 or fits(piece):
            found.append(piece)
        else:
            todo += [half for half in reversed(_halves(piece)) if half]
    return found


def _halves(sentence: str) -> tuple[str, str]:
    """Cut near the middle of its characters: after a clause in the middle third, else between two words."""
    middle = len(sentence) / 2
    gaps = [match.start() for match in re.finditer(" ", sentence)]
    clauses = [at for at in gaps if sentence[at - 1] in _CLAUSE_ENDS and abs(at - middle) <= len(sentence) / 6]
    if not gaps:
        return sentence[: len(sentence) // 2], sentence[len(sentence) // 2 :]
    at = min(clauses or gaps, key=lambda gap: abs(gap - middle))
    return sentence[:at], sentence[at + 1 :]
