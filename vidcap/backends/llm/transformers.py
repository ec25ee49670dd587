"""Asks a language model of transformers inside the worker: no server, for laptops and small models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from vidcap.backends.generated_text import Writer
from vidcap.backends.installed import version_of
from vidcap.backends.roles import BackendConfig, Outcome, Request
from vidcap.backends.served import conversation
from vidcap.backends.weights.transformers_folder import TransformersModel, quiet
from vidcap.errors import BackendError, ItemError
from vidcap.torch_device import Precision, checked_device, cpu_threads, dtype_of, in_batches

VERSION = 1
"""In the identity: raise it whenever the same request is put to the model in other words."""
REASON = "llm.failed"
ON_CPU, ON_GPU = 1, 16
"""Requests per batch unless told."""
WHERE = (
    "give `model: path/to/folder` with config.json, model.safetensors and tokenizer as the hub has them (e.g. "
    "Qwen/Qwen2.5-1.5B-Instruct, lmsys/vicuna-7b-v1.5), or a hub name and `download: true`"
)


class TransformersLlmConfig(BackendConfig):
    incidental: ClassVar[frozenset[str]] = frozenset({"model", "requests_per_batch", "threads", "download"})

    model: str
    """A folder as `save_pretrained` writes it, or a name on the hub."""
    revision: str | None = None
    """Of a hub name: a commit or tag."""
    template: Literal["chat", "vicuna", "none"] = "chat"
    """`chat`: the model's own chat template; `vicuna`: that of Vicuna v1.1 to v1.5, whose tokenizer carries none;
    `none`: the text is continued as it is."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """0: always the likeliest token; another attempt then gives the same answer again. Above it the seed decides."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: int = Field(default=256, ge=1, le=32_768)
    """Of an answer; one that does not end before is not used."""
    requests_per_batch: int | None = Field(default=None, ge=1, le=256)
    """Requests of one length at once; by default 1 on a CPU, 16 on a GPU. Halved where memory runs out."""
    precision: Precision = "auto"
    """`fp32`, `bf16`, `fp16` (GPUs only), or `auto`: on GPUs bf16 where they have it, else fp16; on a CPU fp32."""
    threads: int = Field(default=1, ge=1)
    """Of the CPU, per worker process."""
    download: bool = False
    """Let the library fetch what is not here; otherwise nothing is asked of the network."""


class Backend:
    """Language models of transformers in the worker itself; servers (`openai`) are many times faster.

    Requests of one length in tokens share a batch, which is filled up to its full size with copies of the last: nothing
    in it is padded, and an answer does not depend on what is asked beside it.
    """

    Config: ClassVar[type[BackendConfig]] = TransformersLlmConfig
    embedded: ClassVar[bool] = False
    extra: ClassVar[str] = "captions"

    def __init__(self, config: Any) -> None:
        self.config: TransformersLlmConfig = config
        self._model = TransformersModel(config.model, config.revision, config.download, WHERE, self.extra)
        self._writer: Writer | None = None

    def identity(self) -> str:
        """Precision is named as it was asked for: what `auto` means depends on the device, the identity must not."""
        config = self.config
        chosen = f"t{config.temperature:g}/p{config.top_p:g}/n{config.max_tokens}"
        return (
            f"{self._model.identity()}/{config.precision}/{config.template}/{chosen}/llm@{VERSION}"
            f"/transformers-{version_of('transformers', self.extra)}"
        )

    def load(self, device: str) -> None:
        """Reads the weights. Raises `BackendError` where they, or the template asked for, are not there."""
        for needed in ("torch", "transformers"):
            version_of(needed, self.extra)
        config = self.config
        place = checked_device(device)
        library = self._model.library()
        import torch

        # A new network draws first weights, which are replaced: not from the numbers that others in this process draw.
        with torch.random.fork_rng(devices=[]), cpu_threads(config.threads):
            dtype = dtype_of(config.precision, place)
            network = self._model.weights(library.AutoModelForCausalLM, dtype=dtype).to(place)
            self._tokenizer = self._model.part(library.AutoTokenizer)
        if config.template == "chat" and not self._tokenizer.chat_template:
            raise BackendError(
                f"`{config.model}` has no chat template", hint="`template: vicuna` for Vicuna, else `template: none`"
            )
        self._context = getattr(network.config.get_text_config(decoder=True), "max_position_embeddings", None)
        self._device = place
        self._size = config.requests_per_batch or (ON_CPU if place.type == "cpu" else ON_GPU)
        self._writer = Writer(
            network,
            self._tokenizer,
            max_new_tokens=config.max_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            reason=REASON,
            cut_off=False,
        )

    def complete(self, requests: Sequence[Request], *, seeds: Sequence[int]) -> list[Outcome[str]]:
        """Loads on the CPU where not loaded. Raises `TransientError` where memory does not do for a single request."""
        if self._writer is None:
            self.load("cpu")
        found: dict[int, Outcome[str]] = {}
        lengths: dict[int, list[tuple[int, list[int], int]]] = {}
        for at, (request, seed) in enumerate(zip(requests, seeds, strict=True)):
            tokens = self._tokens(request.prompt)
            if self._context and len(tokens) + self.config.max_tokens > self._context:
                found[at] = ItemError(REASON, f"{len(tokens)} tokens are too many for the model's {self._context}")
            else:
                lengths.setdefault(len(tokens), []).append((at, tokens, seed))
        with cpu_threads(self.config.threads), quiet():
            for group in lengths.values():
                asked = [(tokens, seed) for _, tokens, seed in group]
                filled = asked + [asked[-1]] * (-len(asked) % self._size)
                texts, self._size = in_batches(filled, self._size, self._answers, "request")
                found.update(zip([at for at, *_ in group], texts, strict=False))
        return [found[at] for at in range(len(requests))]

    def _tokens(self, prompt: str) -> list[int]:
        text = conversation.disarmed(prompt)
        if self.config.template == "chat":
            messages = [{"role": "user", "content": text}]
            text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        elif self.config.template == "vicuna":
            text = conversation.vicuna(text)
        # A template that writes the begin token itself must not get a second one.
        begins = self._tokenizer.bos_token and text.startswith(self._tokenizer.bos_token)
        tokens: list[int] = self._tokenizer(text, add_special_tokens=not begins)["input_ids"]
        return tokens

    def _answers(self, asked: Sequence[tuple[list[int], int]]) -> list[Outcome[str]]:
        import torch

        ids = torch.tensor([tokens for tokens, _ in asked], device=self._device)
        assert self._writer is not None
        return self._writer.write(
            {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, [seed for _, seed in asked]
        )
