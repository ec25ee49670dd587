"""How a question is put to a chat model and its answer read: the Vicuna template, and a caption inside JSON."""

from __future__ import annotations

import json
import re
from typing import Any

VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
"""The words that Vicuna v1.1 to v1.5 were trained with; another text is another model."""
VICUNA_STOP = ("</s>", "USER:")
"""The end of a turn, and the turn that the model must not write itself."""

FIELD = "caption"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {FIELD: {"type": "string", "minLength": 1}},
    "required": [FIELD],
    "additionalProperties": False,
}
"""JSON schema of a structured answer."""
AS_JSON = f'\nAnswer with a JSON object of one field: {{"{FIELD}": "…"}}'

_MARKS = re.compile(r"<(?=/?s>|unk>|pad>|\|)")
_TURNS = re.compile(r"\b(USER|ASSISTANT):")


def disarmed(prompt: str) -> str:
    """The prompt with a blank inside control tokens such as `</s>`: captions and speech are strangers' words."""
    return _MARKS.sub("< ", prompt)


def vicuna(prompt: str) -> str:
    """One turn of the Vicuna v1.1 template, without the begin token, which the server's tokenizer adds.

    The model continues after `ASSISTANT:`. Turns that strangers' words would open become lower case.
    """
    asked = _TURNS.sub(lambda match: match[0].lower(), prompt.strip())
    return f"{VICUNA_SYSTEM} USER: {asked} ASSISTANT:"


def response_format() -> dict[str, Any]:
    """What asks an OpenAI-compatible server for an answer of `SCHEMA`."""
    return {"type": "json_schema", "json_schema": {"name": FIELD, "strict": True, "schema": SCHEMA}}


def from_json(text: str) -> str:
    """The caption inside a structured answer. Raises `ValueError` saying what is wrong with it."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("the structured answer is no JSON") from None
    caption = found.get(FIELD) if isinstance(found, dict) else None
    if not isinstance(caption, str):
        raise ValueError(f"the structured answer has no text `{FIELD}`")
    return caption
