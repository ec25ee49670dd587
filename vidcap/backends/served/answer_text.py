"""Takes off what language models like to put around an answer: lead-in, end marks, quotes, emphasis."""

from __future__ import annotations

import re

from vidcap.prompts import plain

_END_MARKS = re.compile(r"(</s>|<\|[a-z_]+\|>|###)")
_PAIRS = (('"', '"'), ("“", "”"), ("'", "'"), ("‘", "’"), ("«", "»"), ("`", "`"), ("**", "**"), ("*", "*"), ("_", "_"))


def trimmed(answer: str, lead_in: str) -> str:
    """The answer up to an end mark, without the prompt's `lead_in`, surrounding quotes and blank lines; lines stay."""
    text = _END_MARKS.split(answer.strip(), maxsplit=1)[0] if not _END_MARKS.match(answer.strip()) else ""
    lines = [line for line in (plain(line) for line in text.splitlines()) if line]
    text = "\n".join(lines)
    before = ""
    while before != text:
        before = text
        if lead_in and text.casefold().startswith(lead_in.casefold()):
            text = text[len(lead_in) :].strip()
        text = _unwrapped(text).strip()
    return text


def _unwrapped(text: str) -> str:
    """Without a pair of quotes or emphasis marks around the whole of it."""
    for opening, closing in _PAIRS:
        inner = text[len(opening) : len(text) - len(closing)]
        if len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing):
            # `"Stop," he says, "or I shoot."` only looks wrapped.
            if opening in inner or closing in inner:
                continue
            return inner
    return text
