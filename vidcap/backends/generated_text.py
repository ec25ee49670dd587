"""Texts out of a generating model of transformers: tokens chosen by a seed, whole sentences, or why there are none.

Of the settings that lie beside the weights only the end, begin and fill tokens count; how tokens are chosen is said
here. Chance does not come from PyTorch's own state: each item has a generator of its own (the Gumbel trick: the token
of the largest logit + noise is a sample), so that an item's text is the same in any batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vidcap.backends.roles import Outcome
from vidcap.backends.sentences import whole_sentences
from vidcap.errors import ItemError

REASON = "caption.failed"
SEED_BITS = 63
"""What PyTorch's generators take."""
_NOT_FINITE = "the model gave numbers that are not finite; `precision: fp32` helps where fp16 overflows"
_THOUGHTS = "</think>"
"""Where models that think aloud end doing so."""


class Writer:
    """`network`: on its device, of transformers; `tokenizer`: its own. Texts of at most `max_new_tokens` tokens.

    `temperature` 0 takes the likeliest token; above it `top_p` is the share of probability that is drawn from.
    `reason`: the code of errors. Without `cut_off` a text that did not end is an error whatever it holds.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        reason: str = REASON,
        cut_off: bool = True,
    ) -> None:
        self._network = network
        self._reason, self._cut_off = reason, cut_off
        self._tokenizer = tokenizer
        self._most = max_new_tokens
        self._temperature = temperature
        self._top_p = top_p
        self._settings = _settings(network, tokenizer, max_new_tokens, repetition_penalty)
        self._ends = frozenset(self._settings.eos_token_id or ())
        for module in network.modules():
            # What stands there would fill what these leave open; some models ask an inner one to generate.
            if getattr(module, "generation_config", None) is not None:
                module.generation_config = self._settings

    def write(self, inputs: Mapping[str, Any], seeds: Sequence[int]) -> list[Outcome[str]]:
        """A text per row of `inputs` (tensors on the device); an `ItemError` where it is empty, endless, not finite.

        A text that is cut off ends with its last whole sentence; one without any is an error.
        """
        import torch
        from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

        choosing: list[Any] = []
        if self._temperature > 0:
            choosing.append(TemperatureLogitsWarper(self._temperature))
            if self._top_p < 1:
                choosing.append(TopPLogitsWarper(self._top_p))
        choice = _Choice(seeds if self._temperature > 0 else None)
        with torch.inference_mode():
            rows = self._network.generate(
                **inputs, generation_config=self._settings, logits_processor=LogitsProcessorList([*choosing, choice])
            )
        broken = choice.broken.tolist()
        return [
            ItemError(self._reason, _NOT_FINITE) if wrong else self._text(row[choice.start :].tolist())
            for row, wrong in zip(rows, broken, strict=True)
        ]

    def _text(self, tokens: list[int]) -> Outcome[str]:
        ends = [at for at, token in enumerate(tokens) if token in self._ends]
        text = self._tokenizer.decode(tokens[: ends[0]] if ends else tokens, skip_special_tokens=True)
        said = text.rpartition(_THOUGHTS)[2]
        text = "" if said.lstrip().startswith("<think>") else said.replace("\ufffd", "").strip()
        if ends:
            return text or ItemError(self._reason, "the model has no words for it")
        whole = whole_sentences(text) if self._cut_off else ""
        return whole or ItemError(self._reason, f"the text is cut off after {self._most} tokens")


class _Choice:
    """Notes where the new tokens start and which rows are not finite; with `seeds` adds each row's own noise."""

    def __init__(self, seeds: Sequence[int] | None) -> None:
        self.start = -1
        self.broken: Any = None
        self._seeds = seeds
        self._generators: list[Any] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        wrong = (scores.isnan() | scores.isposinf()).any(dim=-1)
        if self.start < 0:
            self.start, self.broken = input_ids.shape[1], wrong
            self._generators = [torch.Generator().manual_seed(seed % 2**SEED_BITS) for seed in self._seeds or ()]
        self.broken = self.broken | wrong
        if self._seeds is None:
            return scores
        # Drawn on the CPU: the same seed means the same noise on any device.
        noise = [torch.empty(scores.shape[1]).exponential_(generator=each).log_() for each in self._generators]
        return scores.float() - torch.stack(noise).to(scores.device)


def _settings(network: Any, tokenizer: Any, most: int, penalty: float) -> Any:
    from transformers import GenerationConfig

    own = network.generation_config
    text = network.config.get_text_config(decoder=True)
    found = {
        name: next(
            (value for value in (getattr(own, name, None), getattr(text, name, None)) if value is not None),
            getattr(tokenizer, name, None),
        )
        for name in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    }
    ends = found["eos_token_id"]
    if ends is not None:
        found["eos_token_id"] = list(ends) if isinstance(ends, (list, tuple)) else [ends]
    if found["pad_token_id"] is None:
        found["pad_token_id"] = (found["eos_token_id"] or [0])[0]
    return GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=most,
        repetition_penalty=penalty,
        **{name: value for name, value in found.items() if value is not None},
    )
