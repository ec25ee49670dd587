"""Sets a tiny audio-language network by hand to name the sound it is played, and to say a fixed sentence after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tiny_models.speaking import byte_symbols

from vidcap import prompts

RATE = 16_000
NAMES = ("Low", "High", "Rough")
REST = " tones ring over the quiet lake in this calm evening light."
PROMPT = "Listen."
SHIPPED = prompts.load("audio").body
WORDS = [*NAMES, *(f" {word}" for word in REST.strip(" .").split()), "."]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'audio' %}SOUND"
    "{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat template in the form of ChatML; `SOUND` stands for the marks of the family."""


def sound_of(kind: int, seconds: float = 4.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The sound that word `kind` of `NAMES` is said of."""
    t = np.arange(round(seconds * RATE)) / RATE
    low, high = np.sin(2 * np.pi * 110 * t), np.sin(2 * np.pi * 3000 * t)
    rough = np.random.default_rng(1).normal(size=len(t)) / 3
    return (0.3 * (low, high, rough)[kind]).astype(np.float32)


def vocabulary_of(marks: Sequence[str]) -> dict[str, int]:
    """Marks, bytes and the words of the sentence: texts are read byte by byte, words are only said."""
    symbols = [*marks, *byte_symbols(), *(word.replace(" ", "Ġ") for word in WORDS)]
    return {symbol: at for at, symbol in enumerate(dict.fromkeys(symbols))}


def tokenizer_of(marks: Sequence[str], **more: Any) -> tuple[Any, dict[str, int]]:
    """The tokenizer of the Qwen families, and its vocabulary. Of `marks` the first fills up, the third ends."""
    from transformers import Qwen2Tokenizer

    vocabulary = vocabulary_of(marks)
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[],
        unk_token=None,
        bos_token=None,
        eos_token=marks[2],
        pad_token=marks[0],
        additional_special_tokens=list(marks[1:]),
        **more,
    )
    return tokenizer, vocabulary


def text_sizes(vocabulary: dict[str, int]) -> dict[str, Any]:
    return {
        "vocab_size": len(vocabulary),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "eos_token_id": vocabulary["<|im_end|>"],
        "pad_token_id": vocabulary["<|endoftext|>"],
        "bos_token_id": None,
        "tie_word_embeddings": False,
    }


def teach(network: Any, processor: Any, vocabulary: dict[str, int]) -> None:
    """Make it say the name of a sound, then `REST`, then the end: sounds of several lengths, asked in several ways.

    The states before each word are looked at, and the rows that choose words are solved for (ridge regression) so that
    the right one comes next. Rows of words are loud, so that what was said last shows in the state.
    """
    import torch

    from vidcap.torch_device import cpu_threads

    ids = [vocabulary[word.replace(" ", "Ġ")] for word in WORDS]
    end = vocabulary["<|im_end|>"]
    table, chooser = network.get_input_embeddings(), network.get_output_embeddings()
    with torch.no_grad():
        table.weight.copy_(16 * torch.randn(table.weight.shape, generator=torch.Generator().manual_seed(11)))
    states, following = [], []
    kept: list[Any] = []
    hook = chooser.register_forward_pre_hook(lambda module, given: kept.append(given[0][0].double()))
    with torch.inference_mode(), cpu_threads(1):
        for kind, sounds in enumerate(
            [*([sound_of(kind, s) for s in (2.0, 4.0, 8.0)] for kind in range(3)), _others()]
        ):
            spoken = [ids[kind % len(NAMES)], *ids[len(NAMES) :]]
            for inputs in _questions(processor, sounds):
                words = torch.tensor([spoken])
                inputs["input_ids"] = torch.cat([inputs["input_ids"], words], 1)
                inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
                network(**inputs)
                states.append(kept.pop()[-len(spoken) - 1 :])
                following += [*spoken, end]
    hook.remove()
    seen = torch.cat(states)
    wanted = torch.zeros(len(seen), len(vocabulary), dtype=torch.double)
    wanted[range(len(seen)), following] = 20.0
    # The first word hangs on the sound alone, which shows little in a state behind a long question.
    first = [row for row, word in enumerate(following) if word in ids[: len(NAMES)]]
    seen[first] *= 5
    wanted[first] *= 5
    ridge = 1e-5 * seen.square().mean() * len(seen) * torch.eye(seen.shape[1], dtype=torch.double)
    with torch.no_grad():
        chooser.weight.copy_(torch.linalg.solve(seen.T @ seen + ridge, seen.T @ wanted).T)


def _others() -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    """Sounds of no name, of which one of the names must do: the sentence comes out of any sound."""
    random = np.random.default_rng(5)
    found = []
    for at in range(16):
        t = np.arange(round((1.0, 3.0, 6.0, 20.0)[at % 4] * RATE)) / RATE
        tones = sum(np.sin(2 * np.pi * hertz * t) for hertz in random.uniform(60, 6000, 1 + at % 3))
        swell = np.interp(t, np.arange(0, t[-1] + 0.2, 0.2), random.random(len(np.arange(0, t[-1] + 0.2, 0.2))))
        rough = (0.0, 0.02, 1.0)[at // 2 % 3] * random.normal(size=len(t))
        found.append((0.15 * (swell if at % 2 else 1) * (tones + rough)).astype(np.float32))
    return found


def _questions(processor: Any, sounds: Sequence[Any]) -> list[dict[str, Any]]:
    """What the network is asked of sounds while it is taught."""
    found = []
    for prompt in (PROMPT, SHIPPED, ""):
        content = [{"type": "audio"}, *([{"type": "text", "text": prompt}] if prompt else [])]
        messages = [{"role": "user", "content": content}]
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        found += [
            dict(processor(text=[text], audio=[sound], sampling_rate=RATE, return_tensors="pt")) for sound in sounds
        ]
    return found
