"""Asks a language model with vLLM inside the worker: whole batches, no server."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from vidcap.backends.roles import BackendConfig, Outcome, Request
from vidcap.backends.served import conversation
from vidcap.backends.served.asking import REASON, SEED_BITS, AskingConfig
from vidcap.backends.weights.transformers_folder import TransformersModel
from vidcap.errors import BackendError, ItemError, TransientError
from vidcap.torch_device import Precision

VERSION = 1
"""In the identity: raise it whenever the same request is put to the model in other words."""
WHERE = (
    "give `model: path/to/folder` with config.json, weights and tokenizer as the hub has them (e.g. "
    "lmsys/vicuna-13b-v1.5), or a hub name and `download: true`"
)
INSTALL = (
    "`pip install vllm` into an environment of its own, beside VidCap's core, for the workers of this stage's pool; or "
    "serve the model (`vidcap serve-llm`) and take the backend `openai` (docs/llm.md)"
)
_DTYPES = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_ENVIRONMENT = {
    # The engine stays in this process: workers are daemons, which may start none, and its schedule is then the same
    # in every run.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""What vLLM reads from the environment, unless it is set there already."""


class VllmConfig(AskingConfig):
    # What vLLM does with memory changes how many requests run side by side, not what is asked. `model` and `revision`
    # are in the identity.
    incidental: ClassVar[frozenset[str]] = frozenset(
        {"model", "download", "gpu_memory_utilization", "tensor_parallel_size"}
    )

    model: str = Field(min_length=1, max_length=300)
    """A folder as `save_pretrained` writes it, or a name on the hub."""
    precision: Precision = "auto"
    """`fp32`, `bf16`, `fp16`, or `auto`: as the weights are stored, fp32 as bf16 or fp16."""
    quantization: str | None = Field(default=None, pattern=r"^[a-z0-9_-]+$", max_length=40)
    """As vLLM names it (`awq`, `gptq`, `fp8` …); by default what the model's config.json says."""
    tensor_parallel_size: int = Field(default=1, ge=1, le=64)
    """GPUs that share the model. More than one needs a worker that may start processes."""
    max_model_len: int | None = Field(default=None, ge=16)
    """Tokens of a prompt and its answer together; by default as many as the model was made for."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of the GPU's memory (of the machine's, in vLLM's CPU build) for weights and cache."""
    enforce_eager: bool = False
    """Compile nothing: the engine starts in half the time and answers more slowly."""
    download: bool = False
    """Let the hub client fetch what is not here; otherwise nothing is asked of the network."""


class Backend:
    """Language models through vLLM inside the worker, whole batches at once; its environment needs vLLM."""

    Config: ClassVar[type[BackendConfig]] = VllmConfig
    embedded: ClassVar[bool] = False

    def __init__(self, config: VllmConfig) -> None:
        self.config = config
        self._model = TransformersModel(config.model, config.revision or None, config.download, WHERE, "")
        self._device = "cpu"
        self._engine: Any = None
        self._tokenizer: Any = None
        self._longest = 0

    def identity(self) -> str:
        """The model and all that shapes its answers. No library version: the driver need not have vLLM."""
        config = self.config
        made = [config.precision, *([config.quantization] if config.quantization else [])]
        return f"{self._model.identity()}/{'/'.join(made)}/{config.traits()}/vllm@{VERSION}"

    def load(self, device: str) -> None:
        """Starts the engine on `device`. Raises `BackendError` where vLLM, the weights or the device are not there."""
        self._device = device
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            import vllm
            from vllm.platforms import current_platform
        except ImportError as error:
            raise BackendError(f"vLLM cannot be imported here: {_first_line(error)}", hint=INSTALL) from error
        self._check(device, current_platform.device_type)
        config = self.config
        folder = self._folder()
        # vLLM's CPU build dies where a prompt is cut into chunks and the sampling has a seed.
        whole = {"enable_chunked_prefill": False} if current_platform.is_cpu() else {}
        try:
            engine = vllm.LLM(
                model=folder,
                dtype=_DTYPES[config.precision],
                quantization=config.quantization,
                tensor_parallel_size=config.tensor_parallel_size,
                max_model_len=config.max_model_len,
                gpu_memory_utilization=config.gpu_memory_utilization,
                enforce_eager=config.enforce_eager,
                trust_remote_code=False,
                generation_config="vllm",  # nothing but what is asked decides, as with `openai`
                disable_log_stats=True,
                **whole,
            )
        except Exception as error:  # weights of any content, a device of any state
            hint = f"where memory is short: `gpu_memory_utilization`, `max_model_len`, `tensor_parallel_size`; {WHERE}"
            raise BackendError(f"vLLM cannot start `{config.model}`: {_first_line(error)}", hint=hint) from error
        self._tokenizer = engine.get_tokenizer()
        if config.api == "chat" and not self._tokenizer.chat_template:
            raise BackendError(
                f"`{config.model}` has no chat template",
                hint="`api: completions`, and for Vicuna `template: vicuna`",
            )
        self._longest = int(engine.model_config.max_model_len)
        self._engine = engine

    def complete(self, requests: Sequence[Request], *, seeds: Sequence[int]) -> list[Outcome[str]]:
        """Answers in the order of the requests, computed side by side; each has its own seed.

        Raises `TransientError` where the engine fails; it is started anew with the next batch.
        """
        if self._engine is None:
            self.load(self._device)
        found: dict[int, Outcome[str]] = {}
        asked, prompts, sampling = [], [], []
        for number, (request, seed) in enumerate(zip(requests, seeds, strict=True)):
            tokens = self._tokens(request.prompt)
            # A prompt that is too long would fail its whole batch.
            if len(tokens) >= self._longest:
                found[number] = ItemError(REASON, f"{len(tokens)} tokens are too many for the model's {self._longest}")
                continue
            asked.append(number)
            prompts.append({"prompt_token_ids": tokens})
            sampling.append(self._sampling(seed))
        try:
            outputs = self._engine.generate(prompts, sampling, use_tqdm=False) if prompts else []
        except Exception as error:
            self._engine = None  # what it holds of this batch would come back with the next one
            raise TransientError(
                f"vLLM failed: {_first_line(error)}", hint="look at the worker's log; is there memory left?"
            ) from error
        for number, output in zip(asked, outputs, strict=True):
            answer = output.outputs[0]
            found[number] = self.config.checked(answer.text, answer.finish_reason)
        return [found[number] for number in range(len(requests))]

    def _tokens(self, prompt: str) -> list[int]:
        """As a server makes them: with the begin token, which a chat template carries itself."""
        text = self.config.worded(prompt)
        if self.config.api == "completions":
            return list(self._tokenizer.encode(text))
        messages = [{"role": "user", "content": text}]
        text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _sampling(self, seed: int) -> Any:
        from vllm import SamplingParams

        config = self.config
        more: dict[str, Any] = {}
        if config.structured:
            from vllm.sampling_params import StructuredOutputsParams

            more["structured_outputs"] = StructuredOutputsParams(json=conversation.SCHEMA)
        return SamplingParams(
            temperature=config.temperature,
            top_p=config.top_p,
            max_tokens=config.max_tokens,
            seed=seed % 2**SEED_BITS,
            stop=config.stops() or None,
            **more,
        )

    def _check(self, device: str, built_for: str) -> None:
        """Raises `BackendError` where the stage asks for what this process cannot be given."""
        asked, _, index = device.partition(":")
        if asked != built_for:
            raise BackendError(
                f"this vLLM computes on `{built_for}`, not on `{device}`", hint=f"give the stage `device: {built_for}`"
            )
        if index not in ("", "0"):
            raise BackendError(
                f"vLLM takes the first GPU it sees, not `{device}`",
                hint=f"start the worker with CUDA_VISIBLE_DEVICES={index}, and give the stage `device: {asked}`",
            )
        if self.config.tensor_parallel_size > 1 and multiprocessing.current_process().daemon:
            raise BackendError(
                "`tensor_parallel_size` above 1 needs a worker that may start processes",
                hint="start Dask workers with DASK_DISTRIBUTED__WORKER__DAEMON=False, or serve the model "
                "(`vidcap serve-llm`) and take the backend `openai`",
            )

    def _folder(self) -> str:
        """Where the weights lie: vLLM is given a folder, so that it asks no network. Raises `BackendError`."""
        folder: Path | None = self._model.folder
        if folder is not None:
            return str(folder)
        from huggingface_hub import snapshot_download

        config = self.config
        try:
            return str(
                snapshot_download(config.model, revision=config.revision or None, local_files_only=not config.download)
            )
        except (OSError, ValueError) as error:
            raise BackendError(f"`{config.model}` is not here: {_first_line(error)}", hint=WHERE) from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
