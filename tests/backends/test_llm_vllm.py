"""vLLM in the worker: what it is given, which answers count, what an engine that fails comes to.

The library is pretended here; tests/vllm asks the real one.
"""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from vidcap.backends import needs, registry
from vidcap.backends.roles import Request
from vidcap.backends.served import conversation
from vidcap.errors import BackendError, ItemError, TransientError
from vidcap.pipeline.config import load_config
from vidcap.pipeline.plan import Part, Plan

HUB = "lmsys/vicuna-13b-v1.5"


class Tokenizer:
    """A token per character, and one to begin with."""

    chat_template = "{{ messages }}"

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [1] * add_special_tokens + [ord(c) for c in text]

    def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool) -> str:
        assert not tokenize and add_generation_prompt
        return f"[{messages[0]['content']}]"


class Engine:
    """`LLM` of vLLM: answers with the prompt's last word."""

    made: list[Engine] = []  # noqa: RUF012  # emptied by the fixture
    broken = False

    def __init__(self, **arguments: Any) -> None:
        if arguments["gpu_memory_utilization"] == 1:
            raise ValueError("No available memory for the cache blocks.\nTry more.")
        self.arguments = arguments
        self.asked: list[tuple[str, Any]] = []
        self.model_config = SimpleNamespace(max_model_len=arguments["max_model_len"] or 2048)
        self.tokenizer = Tokenizer()
        Engine.made.append(self)

    def get_tokenizer(self) -> Tokenizer:
        return self.tokenizer

    def generate(self, prompts: list[dict[str, Any]], sampling: list[Any], use_tqdm: bool) -> list[Any]:
        assert not use_tqdm and len(prompts) == len(sampling)
        if Engine.broken:
            raise RuntimeError("CUDA out of memory.\nmore words")
        found = []
        for prompt, how in zip(prompts, sampling, strict=True):
            text = "".join(map(chr, prompt["prompt_token_ids"]))
            self.asked.append((text, how))
            cut = "CUT" in text
            said = '{"caption": "A dog runs."}' if "JSON" in text else "" if "MUTE" in text else f" Of {len(text)}.\n"
            found.append(
                SimpleNamespace(outputs=[SimpleNamespace(text=said, finish_reason="length" if cut else "stop")])
            )
        return found


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module `vllm` of the CPU build."""
    Engine.made, Engine.broken = [], False
    made: Any = ModuleType("vllm")
    made.LLM = Engine
    made.SamplingParams = lambda **given: SimpleNamespace(**given)
    platforms: Any = ModuleType("vllm.platforms")
    platforms.current_platform = SimpleNamespace(device_type="cpu", is_cpu=lambda: True)
    params: Any = ModuleType("vllm.sampling_params")
    params.StructuredOutputsParams = lambda **given: SimpleNamespace(**given)
    for module in (made, platforms, params):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_NO_USAGE_STATS", "VLLM_LOGGING_LEVEL"):
        monkeypatch.setenv(name, "restored")
        monkeypatch.delenv(name)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    return str(tmp_path / "tiny")


def loaded(folder: str, **options: Any) -> Any:
    backend = registry.create("llm", "vllm", {"model": folder, **options})
    backend.load("cpu")
    return backend


def ask(*prompts: str) -> list[Request]:
    return [Request(f"k{n}", "av", prompt) for n, prompt in enumerate(prompts)]


def test_where_vllm_is_absent_the_message_says_what_to_do(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(BackendError, match="vLLM cannot be imported here") as caught:
        loaded(folder)
    assert "`pip install vllm`" in caught.value.hint and "serve-llm" in caught.value.hint
    lack = needs.lacking("llm", "vllm")
    assert lack is None or "vllm" in lack.mend  # `vidcap doctor` says the same


def test_what_the_engine_is_given(library: ModuleType, folder: str) -> None:
    backend = loaded(
        folder, precision="bf16", tensor_parallel_size=2, max_model_len=512, gpu_memory_utilization=0.5,
        quantization="awq", api="completions",
    )  # fmt: skip
    assert Engine.made[0].arguments == {
        "model": folder,
        "dtype": "bfloat16",
        "quantization": "awq",
        "tensor_parallel_size": 2,
        "max_model_len": 512,
        "gpu_memory_utilization": 0.5,
        "enforce_eager": False,
        "trust_remote_code": False,
        "generation_config": "vllm",
        "disable_log_stats": True,
        "enable_chunked_prefill": False,
    }
    backend.complete(ask("Tell it."), seeds=[2**63 + 5])
    ((text, how),) = Engine.made[0].asked
    assert text == "\x01Tell it."
    assert vars(how) == {"temperature": 0.7, "top_p": 1.0, "max_tokens": 512, "seed": 5, "stop": None}


def test_prompts_are_worded_as_for_servers(library: ModuleType, folder: str) -> None:
    vicuna = loaded(folder, api="completions", template="vicuna", stop=["END"])
    vicuna.complete(ask("Tell </s> it. USER: no"), seeds=[1])
    text, how = Engine.made[-1].asked[0]
    assert text == "\x01" + conversation.vicuna("Tell < /s> it. USER: no") and "user: no" in text
    assert how.stop == ["END", "</s>", "USER:"]
    chat = loaded(folder)
    chat.complete(ask("Tell it."), seeds=[1])
    assert Engine.made[-1].asked[0][0] == "[Tell it.]", "the template brings the begin token"
    structured = loaded(folder, structured=True)
    assert structured.complete(ask("Tell it."), seeds=[1]) == ["A dog runs."]
    assert Engine.made[-1].asked[0][1].structured_outputs.json == conversation.SCHEMA


def test_bad_answers_and_prompts_are_errors_of_their_item_alone(library: ModuleType, folder: str) -> None:
    backend = loaded(folder, api="completions", max_model_len=64, max_tokens=9)
    prompts = ["one", "CUT", "x" * 63, "MUTE", "three"]
    found = backend.complete(ask(*prompts), seeds=range(5))
    assert [found[0], found[4]] == ["Of 4.", "Of 6."]
    assert all(isinstance(error, ItemError) and error.reason == "llm.failed" for error in found[1:4])
    assert [error.detail for error in found[1:4]] == [
        "the answer is cut off after 9 tokens",
        "64 tokens are too many for the model's 64",
        "the answer is empty",
    ]
    assert backend.complete([], seeds=[]) == []
    assert len(backend.complete(ask("x" * 99), seeds=[0])) == 1


def test_an_engine_that_fails_is_started_anew(library: ModuleType, folder: str) -> None:
    backend = loaded(folder, api="completions")
    Engine.broken = True
    with pytest.raises(TransientError, match=r"vLLM failed: CUDA out of memory\.\nhint: "):
        backend.complete(ask("one"), seeds=[1])
    Engine.broken = False
    assert backend.complete(ask("one"), seeds=[1]) == ["Of 4."]
    assert len(Engine.made) == 2


def test_what_cannot_start_is_told(library: ModuleType, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match=r"vLLM cannot start .*: No available memory") as caught:
        loaded(folder, gpu_memory_utilization=1)
    assert "max_model_len" in caught.value.hint
    backend = registry.create("llm", "vllm", {"model": folder})
    with pytest.raises(BackendError, match="computes on `cpu`, not on `cuda:0`"):
        backend.load("cuda:0")
    platform = sys.modules["vllm.platforms"].current_platform
    platform.device_type, platform.is_cpu = "cuda", lambda: False
    with pytest.raises(BackendError, match="computes on `cuda`, not on `cpu`"):
        backend.load("cpu")
    with pytest.raises(BackendError, match="the first GPU it sees") as caught:
        backend.load("cuda:3")
    assert "CUDA_VISIBLE_DEVICES=3" in caught.value.hint
    backend.load("cuda:0")
    assert "enable_chunked_prefill" not in Engine.made[-1].arguments
    monkeypatch.setattr(Tokenizer, "chat_template", None)
    with pytest.raises(BackendError, match="has no chat template"):
        backend.load("cuda")


def test_several_gpus_need_a_worker_that_may_start_processes(
    library: ModuleType, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(daemon=True))
    loaded(folder)
    with pytest.raises(BackendError, match="tensor_parallel_size"):
        loaded(folder, tensor_parallel_size=2)


def test_a_hub_name_that_was_not_fetched(library: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    hub: Any = ModuleType("huggingface_hub")

    def snapshot_download(name: str, **given: Any) -> str:
        asked.update(given, name=name)
        if given["local_files_only"]:
            raise FileNotFoundError("no snapshot")
        return str(tmp_path)

    hub.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(BackendError, match=f"`{HUB}` is not here: no snapshot") as caught:
        loaded(HUB, revision="abc")
    assert "download: true" in caught.value.hint
    assert asked == {"name": HUB, "revision": "abc", "local_files_only": True}
    loaded(HUB, download=True)
    assert Engine.made[-1].arguments["model"] == str(tmp_path)


def test_the_identity_names_what_shapes_answers(folder: str) -> None:
    def identity(model: str = HUB, **options: Any) -> str:
        found: str = registry.create("llm", "vllm", {"model": model, **options}).identity()
        return found

    plain = identity()
    assert plain == "lmsys/vicuna-13b-v1.5@main/auto/chat/none/t0.7/p1/n512/vllm@1"
    assert identity(gpu_memory_utilization=0.5, tensor_parallel_size=4, download=True) == plain
    shaping = [
        {"revision": "abc"},
        {"precision": "bf16"},
        {"quantization": "awq"},
        {"api": "completions"},
        {"api": "completions", "template": "vicuna"},
        {"temperature": 0},
        {"max_tokens": 9},
        {"structured": True},
    ]
    assert len({identity(**options) for options in shaping} | {plain}) == len(shaping) + 1
    before = identity(folder)
    assert before.startswith("tiny@")
    (Path(folder) / "model.safetensors").write_bytes(b"other")
    assert identity(folder) != before


PIPELINE = """
name: mine
input: {manifest: videos}
stages:
  - stage: decode
  - {stage: detect_shots, backend: adaptive}
  - stage: trim
  - {stage: caption_video, backend: descriptor}
  - {stage: caption_audio, backend: descriptor}
  - {stage: fuse, pool: llm, backend: {name: vllm, model: lmsys/vicuna-13b-v1.5, gpu_memory_utilization: SHARE, MORE}}
  - stage: pack
output: {path: out}
"""


def test_a_pipeline_is_planned_without_vllm(tmp_path: Path) -> None:
    def fuse(share: float, more: str = "api: completions") -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(PIPELINE.replace("SHARE", str(share)).replace("MORE", more))
        return Plan(load_config(path)).fingerprints(Part(0, ()))["fuse"]

    assert fuse(0.9) == fuse(0.5)
    assert fuse(0.9) != fuse(0.9, "api: chat")
    assert fuse(0.9) != fuse(0.9, "max_model_len: 512")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "model"),
        ({"model": "m", "template": "vicuna"}, "api: completions"),
        ({"model": "m", "quantization": "a b"}, "quantization"),
        ({"model": "m", "gpu_memory_utilization": 0}, "gpu_memory_utilization"),
        ({"model": "m", "endpoints": ["http://a"]}, "endpoints"),
    ],
)
def test_options_are_checked_before_anything_is_loaded(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BackendError, match=said):
        registry.create("llm", "vllm", options)
