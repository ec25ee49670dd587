"""Translates with SeamlessM4T, version 1 (large, medium) or 2, sentence by sentence, through transformers."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from vidcap.backends.installed import version_of
from vidcap.backends.roles import BackendConfig, Outcome
from vidcap.backends.sentences import sentences
from vidcap.backends.text_pieces import pieces
from vidcap.backends.weights.transformers_folder import TransformersModel
from vidcap.errors import BackendError, ItemError
from vidcap.languages import seamless_code
from vidcap.speech import join_words
from vidcap.torch_device import Precision, checked_device, cpu_threads, dtype_of, in_batches, out_of_memory

EXTRA = "seamless"
WHERE = (
    "give `model: path/to/folder` with config.json, generation_config.json, weights and tokenizer as the hub has them "
    "(facebook/hf-seamless-m4t-large, …-medium, facebook/seamless-m4t-v2-large; CC-BY-NC-4.0), or a hub name and "
    "`download: true`"
)
CLASSES = {"seamless_m4t": "SeamlessM4TForTextToText", "seamless_m4t_v2": "SeamlessM4Tv2ForTextToText"}
"""`model_type` of config.json → the class of transformers that holds its text part only."""
LENGTHS = (16, 32, 64, 128, 256, 512, 1024)
"""Sources are filled up to one of these numbers of tokens, so that a sentence meets the same shapes in any batch."""
MARKS = 2
"""Tokens around a source: its language and its end."""
_REASON = "translate.failed"
# Full stops of scripts whose sentences need no space after them, or have marks of their own.
_STOPS = re.compile(r"(?<=[。！？｡।॥؟۔።፧။។])\s*(?=\S)")


class SeamlessConfig(BackendConfig):
    incidental: ClassVar[frozenset[str]] = frozenset({"model", "revision", "download", "batch_size", "threads"})

    model: str = Field(default="facebook/hf-seamless-m4t-large", min_length=1)
    """A folder as `save_pretrained` writes it, or a name on the hub. Version 1 is the paper's."""
    revision: str | None = None
    """Of a hub name: a commit or tag."""
    download: bool = False
    """Fetch absent files of a hub name when loading."""
    precision: Precision = "auto"
    """`auto`: bf16 (or fp16) on a GPU, fp32 on a CPU."""
    beam_size: int = Field(default=5, ge=1, le=32)
    """Of the search; 5 is SeamlessM4T's own. Nothing is drawn by lot."""
    max_source_tokens: int = Field(default=256, ge=8, le=LENGTHS[-1])
    """A sentence with more tokens is cut in parts."""
    max_new_tokens: int = Field(default=256, ge=1, le=4096)
    """Of a translated sentence; one that does not end before is an error, as it is a loop."""
    batch_size: int = Field(default=8, ge=1, le=512)
    """Sentences at a time. A batch that is not full is filled up: 1 is fastest where there are few, on a CPU."""
    threads: int = Field(default=1, ge=1)
    """Of the CPU, per worker process."""


class Backend:
    """SeamlessM4T: some ninety languages, beam search; weights are yours to fetch, and are for non-commercial use.

    A text is translated sentence by sentence, as the model was trained, and joined again. What a sentence becomes does
    not depend on the others: every batch has `batch_size` rows of one of a few lengths.
    """

    Config: ClassVar[type[BackendConfig]] = SeamlessConfig
    embedded: ClassVar[bool] = False
    extra: ClassVar[str] = EXTRA

    def __init__(self, config: SeamlessConfig) -> None:
        self.config = config
        self._weights = TransformersModel(config.model, config.revision, config.download, WHERE, EXTRA)
        self._network: Any = None

    def identity(self) -> str:
        """Precision is named as it was asked for, whatever the device."""
        version = version_of("transformers", EXTRA)
        manner = f"{self.config.precision}-beam-{self.config.beam_size}"
        versions = f"transformers-{version}/torch-{importlib.metadata.version('torch')}"
        return f"{self._weights.identity()}/{manner}/{versions}"

    def load(self, device: str) -> None:
        """The part of the model that reads and writes text; speech, units and vocoder stay on the disk."""
        library = self._weights.library()
        place = checked_device(device)
        dtype = dtype_of(self.config.precision, place)
        kind = self._weights.part(library.AutoConfig).model_type
        if kind not in CLASSES:
            raise BackendError(f"`{self.config.model}` is a model of the type `{kind}`, no SeamlessM4T", hint=WHERE)
        languages = self._languages
        network = self._weights.weights(getattr(library, CLASSES[kind]), dtype=dtype)
        most = min(self.config.max_source_tokens, self.config.max_new_tokens)
        if network.config.max_position_embeddings < most:
            raise BackendError(
                f"`{self.config.model}` has a context of {network.config.max_position_embeddings} tokens",
                hint="lower `max_source_tokens` and `max_new_tokens`",
            )
        network.generation_config = self._settings(library, network, languages)
        self._network = network.to(place)

    def supports(self, language: str, to: str) -> bool:
        """Whether the code map has the language and the model's own files name it and `to`: loaded or not, the same.

        Raises `BackendError` where there are no such files.
        """
        code = seamless_code(language)
        return code is not None and code != to and {code, to} <= set(self._languages)

    def translate(self, texts: Sequence[str], *, languages: Sequence[str], to: str) -> list[Outcome[str]]:
        """The texts in `to`. A text of an unsupported language, or one that a sentence of goes wrong in, is an error.

        Raises `TransientError` where there is no memory for a single sentence.
        """
        if self._network is None:
            self.load("cpu")
        outcomes: list[Outcome[str]] = []
        sources: list[list[int]] = []
        parts: list[range] = []
        for text, language in zip(texts, languages, strict=True):
            first = len(sources)
            if self.supports(language, to):
                sources += self._sources(text, self._code(language, text))
                outcomes.append("")
            else:
                outcomes.append(ItemError(_REASON, f"SeamlessM4T does not translate `{language}` into `{to}`"))
            parts.append(range(first, len(sources)))
        with cpu_threads(self.config.threads):
            translated = self._translated(sources, to)
        for at, part in enumerate(parts):
            if part:
                wrong = next((found for i in part if isinstance(found := translated[i], ItemError)), None)
                outcomes[at] = wrong or join_words([str(translated[i]) for i in part])
        return outcomes

    def _code(self, language: str, text: str) -> str:
        """The model's code of a supported language; Chinese in traditional characters has one of its own."""
        code = seamless_code(language) or ""
        traditional = f"{code}_Hant"
        return traditional if traditional in self._languages and is_traditional(text) else code

    def _sources(self, text: str, code: str) -> list[list[int]]:
        """Token ids per sentence: its language, its words, its end. What stands in a text cannot pass for a mark."""
        tokenizer = self._tokenizer
        room = self.config.max_source_tokens - MARKS

        def ids(piece: str) -> list[int]:
            return list(tokenizer(piece, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])

        return [
            [self._languages[code], *ids(piece)[:room], tokenizer.eos_token_id]
            for sentence in split(text.replace("__", " "))
            for piece in pieces(sentence, lambda part: len(ids(part)), room)
        ]

    def _translated(self, sources: Sequence[list[int]], to: str) -> list[Outcome[str]]:
        found: list[Outcome[str]] = [""] * len(sources)
        for length in LENGTHS:
            shorter = max((other for other in LENGTHS if other < length), default=0)
            these = [at for at, source in enumerate(sources) if shorter < len(source) <= length]
            rows = self.config.batch_size

            def answer(batch: Sequence[int], length: int = length) -> list[Outcome[str]]:
                nonlocal rows
                try:
                    return self._generated([sources[at] for at in batch], rows, length, to)
                except RuntimeError as error:
                    if out_of_memory(error):
                        rows //= 2
                    raise

            answers, _ = in_batches(these, rows, answer, "sentence")
            for at, answered in zip(these, answers, strict=True):
                found[at] = answered
        return found

    def _generated(self, sources: Sequence[list[int]], rows: int, length: int, to: str) -> list[Outcome[str]]:
        """Translations of at most `rows` sources, as a batch of exactly `rows` × `length`."""
        import torch
        from transformers import LogitsProcessorList

        network = self._network
        settings = network.generation_config
        filled = [*sources, *[sources[-1]] * (rows - len(sources))]
        ids = torch.tensor([source + [settings.pad_token_id] * (length - len(source)) for source in filled])
        mask = torch.tensor([[1] * len(source) + [0] * (length - len(source)) for source in filled])
        watch = _Finite()
        with torch.inference_mode():
            written = network.generate(
                input_ids=ids.to(network.device),
                attention_mask=mask.to(network.device),
                tgt_lang=to,
                logits_processor=LogitsProcessorList([watch]),
            ).tolist()
        broken = watch.broken.view(rows, -1).any(dim=1).tolist()
        return [
            ItemError(_REASON, "the model gives numbers that are none; `precision: fp32` may help")
            if broken[at]
            else self._text(written[at])
            for at in range(len(sources))
        ]

    def _text(self, tokens: Sequence[int]) -> Outcome[str]:
        settings = self._network.generation_config
        # The first token of what is written is the end mark too: generation starts with it.
        written = list(tokens[1:])
        if settings.eos_token_id not in written:
            return ItemError(_REASON, f"the translation does not end within {self.config.max_new_tokens} tokens")
        kept = written[: written.index(settings.eos_token_id)]
        text = " ".join(self._tokenizer.decode(kept, skip_special_tokens=True).split())
        return text or ItemError(_REASON, "the translation is empty")

    def _settings(self, library: Any, network: Any, languages: Mapping[str, int]) -> Any:
        """Only the marks are taken from beside the weights: how is searched is said here."""
        own = network.generation_config
        marks = {name: getattr(own, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        settings = library.GenerationConfig(
            do_sample=False,
            num_beams=self.config.beam_size,
            max_new_tokens=self.config.max_new_tokens,
            decoder_start_token_id=own.decoder_start_token_id or marks["eos_token_id"],
            **marks,
        )
        settings.text_decoder_lang_to_code_id = dict(languages)
        return settings

    @cached_property
    def _tokenizer(self) -> Any:
        return self._weights.part(self._weights.library().AutoTokenizer)

    @cached_property
    def _languages(self) -> dict[str, int]:
        """The model's text languages → their token, where model and tokenizer agree.

        The file is read as it lies there: transformers drops the map of a configuration that it takes for its own.
        """
        from transformers.utils import cached_file

        self._weights.library()
        try:
            source = str(self._weights.folder or self._weights.model)
            path = cached_file(source, "generation_config.json", **self._hub_options())
            named = json.loads(Path(path).read_text("utf-8")).get("text_decoder_lang_to_code_id")
        except (OSError, ValueError) as error:
            raise BackendError(f"`{self.config.model}` has no readable generation_config.json", hint=WHERE) from error
        code_of = self._tokenizer.convert_tokens_to_ids
        agreed = {name: code for name, code in (named or {}).items() if code_of(f"__{name}__") == code}
        if not agreed:
            raise BackendError(
                f"`{self.config.model}` names no language that its tokenizer has "
                "(`text_decoder_lang_to_code_id` of generation_config.json)",
                hint=WHERE,
            )
        return agreed

    def _hub_options(self) -> dict[str, Any]:
        options = self._weights.options()
        return {name: options[name] for name in ("local_files_only", "revision") if name in options}


class _Finite:
    """Notes the rows (items × beams) whose numbers are none."""

    def __init__(self) -> None:
        self.broken: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        wrong = (scores.isnan() | scores.isposinf()).any(dim=-1)
        self.broken = wrong if self.broken is None else self.broken | wrong
        return scores


def split(text: str) -> list[str]:
    """The sentences of a text in any script."""
    return [part.strip() for sentence in sentences(text) for part in _STOPS.split(sentence) if part.strip()]


def is_traditional(text: str) -> bool:
    """Whether more characters are in use in traditional Chinese only than in simplified Chinese only.

    Big5 holds the former, GB 2312 the latter; most characters are in both.
    """

    def among(encoding: str) -> set[str]:
        return {character for character in set(text) if character.encode(encoding, "ignore")}

    big5, gb2312 = among("big5"), among("gb2312")
    return len(big5 - gb2312) > len(gb2312 - big5)
