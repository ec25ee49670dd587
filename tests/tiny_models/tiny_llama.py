"""Makes a tiny Llama with its tokenizer, as `save_pretrained` writes it: what stands for Vicuna in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

SENTENCES = (
    "A dog barks while the rain falls on a roof.",
    "Birds sing and a man speaks in the distance.",
    "A car passes by on a wet road.",
    "Water runs, then a door closes.",
    "Music plays while people laugh and clap their hands.",
    "USER: Describe the sound. ASSISTANT: A bell rings twice.",
    "###Human: <Sound></Sound> What do you hear? ###Assistant: The wind blows.###",
    "The video shows a kite over a lake, and a voice tells of the weather.",
)
"""All that the vocabulary is learned from."""
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }} "
    "{% else %}{{ message['role'].upper() }}: {{ message['content'] }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def make_tiny_llama(
    folder: Path, *, hidden: int = 64, layers: int = 2, seed: int = 0, practice: int = 0
) -> dict[str, str]:
    """Writes a model into `folder`; returns the option that names it.

    `practice`: steps in which it learns `SENTENCES`, so that it speaks in words; 150 take some seconds.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bytes_of = Tokenizer(models.BPE())
    bytes_of.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_of.decoder = decoders.ByteLevel()
    bytes_of.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<unk>", "<s>", "</s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_of, bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_max_length=2048
    )
    tokenizer.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LlamaForCausalLM(config)
    with torch.no_grad():
        for weights in network.parameters():
            if weights.dim() == 2:  # spread wider than a fresh network's: what comes in then shows in what comes out
                weights.mul_(3)
    _practise(network, tokenizer, practice)
    folder.mkdir(parents=True, exist_ok=True)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"llm": str(folder)}


def _practise(network: Any, tokenizer: Any, steps: int) -> None:
    import torch

    lines = [[1, *tokenizer(line, add_special_tokens=False)["input_ids"], 2] for line in SENTENCES]
    longest = max(map(len, lines))
    ids = torch.tensor([line + [0] * (longest - len(line)) for line in lines])
    labels = torch.tensor([line + [-100] * (longest - len(line)) for line in lines])
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    for _ in range(steps):
        optimiser.zero_grad()
        network(input_ids=ids, attention_mask=(labels != -100).long(), labels=labels).loss.backward()
        optimiser.step()
    network.eval()
