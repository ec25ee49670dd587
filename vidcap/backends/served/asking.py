"""What language-model backends share: the options that shape an answer, the words sent, which answers count."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vidcap.backends.roles import BackendConfig, Outcome
from vidcap.backends.served import conversation
from vidcap.errors import ItemError

REASON = "llm.failed"
SEED_BITS = 31
"""Servers differ in the seeds they take; all take these."""


class AskingConfig(BackendConfig):
    model: str = Field(min_length=1, max_length=300)
    """Which model answers."""
    revision: str = Field(default="", max_length=100)
    """Of the weights: a commit or tag."""
    api: Literal["chat", "completions"] = "chat"
    """`chat`: the model's own template is applied; `completions`: the text is continued as it is sent."""
    template: Literal["none", "vicuna"] = "none"
    """`vicuna`: the conversation template of Vicuna v1.1 to v1.5, for `api: completions`."""
    temperature: float = Field(default=0.7, ge=0, le=2)
    """At 0 another attempt gives the same answer again."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=512, ge=1, le=32_768)
    """Of an answer; one that does not end before is not used."""
    stop: tuple[str, ...] = Field(default=(), max_length=4)
    """Texts that end an answer, besides those of the template."""
    structured: bool = False
    """Ask for JSON of one field, `caption`, which the server enforces."""

    @model_validator(mode="after")
    def _template_needs_completions(self) -> AskingConfig:
        if self.template != "none" and self.api != "completions":
            raise ValueError(f"`template: {self.template}` needs `api: completions`; `chat` applies the server's own")
        return self

    def traits(self) -> str:
        """All that shapes answers besides the model, for an identity."""
        asked = [self.api, self.template, f"t{self.temperature:g}", f"p{self.top_p:g}", f"n{self.max_tokens}"]
        if self.stop:
            asked.append("stop:" + "|".join(ascii(text)[1:-1] for text in self.stop))
        if self.structured:
            asked.append("json")
        return "/".join(asked)

    def worded(self, prompt: str) -> str:
        """The prompt as it is sent: harmless, asking for JSON where that is wanted, in the template."""
        text = conversation.disarmed(prompt) + (conversation.AS_JSON if self.structured else "")
        return conversation.vicuna(text) if self.template == "vicuna" else text

    def stops(self) -> list[str]:
        return [*self.stop, *(conversation.VICUNA_STOP if self.template == "vicuna" else ())]

    def checked(self, text: object, finish_reason: object) -> Outcome[str]:
        """The answer where it is whole, else what is wrong with it. `finish_reason`: as the OpenAI API calls it."""
        if finish_reason == "length":
            return ItemError(REASON, f"the answer is cut off after {self.max_tokens} tokens")
        if not isinstance(text, str) or not text.strip():
            return ItemError(REASON, "the answer is empty")
        if self.structured:
            try:
                text = conversation.from_json(text)
            except ValueError as error:
                return ItemError(REASON, str(error))
        # Half a surrogate pair can stand in JSON, but in no file.
        text = text.encode("utf-8", "ignore").decode().strip()
        return text or ItemError(REASON, "the answer is empty")
