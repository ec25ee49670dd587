"""A Llama so small that it is trained in seconds, which answers the fusion prompts with whole sentences.

    PYTHON_OF_VLLM tests/tiny_models/tiny_vicuna.py FOLDER

Real format: config, safetensors, tokenizer, without a chat template, as Vicuna's. What it says has nothing to do with
what it is asked; which of the sentences it says is decided by the sampling, and so by the seed.
"""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path
from typing import Any

# Run as a script, the first entry is this folder, whose modules are called like libraries.
if __name__ == "__main__":
    sys.path[:1] = [str(Path(__file__).resolve().parents[2])]

from vidcap.backends.served import conversation

SENTENCES = (
    "A person walks along the shore while waves roll in and gulls cry overhead.",
    "Rain falls on a quiet street as a slow melody drifts out of an open window.",
    "A small boat crosses the lake while its motor hums and the water shimmers.",
    "Children run over a meadow as a dog barks and the wind moves the tall grass.",
    "A train passes behind the trees while its wheels clatter and the light fades.",
    "Two hands knead dough on a wooden table as somebody explains the next step.",
)
WORDS = "a the calm bright shot of blue green dark red motion camera moves left right music plays person speaks".split()
PROMPTS = Path(__file__).resolve().parents[2] / "prompts"
ASKED = ("fuse_av", "fuse_avs", "merge_frames", "translate")
STEPS = 300
PER_STEP = 6
VOCABULARY = 2048
LONGEST = 640
"""Tokens of a question and its answer; a longer one loses its beginning."""


def make_tiny_vicuna(folder: Path) -> None:
    """Train it and write it to `folder`, as `save_pretrained` does. Takes less than a minute on one core."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(1)
    torch.manual_seed(5)
    rng = random.Random(5)
    tokenizer = _tokenizer([_question(rng) for _ in range(60)])
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    steps = torch.optim.lr_scheduler.OneCycleLR(
        torch.optim.AdamW(network.parameters(), lr=4e-3), max_lr=4e-3, total_steps=STEPS
    )
    for step in range(STEPS):
        inputs, labels = _batch(tokenizer, rng, torch)
        loss = network(**inputs, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        steps.optimizer.step()
        steps.step()
        network.zero_grad()
        if step % 20 == 0 or step == STEPS - 1:
            print(f"step {step}: {loss.item():.3f}", flush=True)
    network.to(torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _question(rng: random.Random) -> str:
    """A prompt that asks for a sentence, as a stage or captioner renders it, or a plain question; Vicuna's template."""

    def words() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(4, 14))) + "."

    if rng.random() < 0.2:
        return conversation.vicuna(words())
    body = (PROMPTS / f"{rng.choice(ASKED)}.md").read_text().split("---\n", 2)[2]
    return conversation.vicuna(re.sub(r"\{\w+\}", lambda _: words(), body))


def _tokenizer(texts: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([*texts, *SENTENCES], trainer)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _batch(tokenizer: Any, rng: random.Random, torch: Any) -> tuple[dict[str, Any], Any]:
    """Questions and answers, filled up at the left; only the answer is learned. Some answers are JSON."""
    rows = []
    for _ in range(PER_STEP):
        answer = rng.choice(SENTENCES)
        question = _question(rng)
        if rng.random() < 0.2:
            question = question.replace(" ASSISTANT:", f"{conversation.AS_JSON} ASSISTANT:")
            answer = f'{{"{conversation.FIELD}": "{answer}"}}'
        asked = tokenizer(question)["input_ids"]
        said = [*tokenizer(f" {answer}", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        rows.append((asked[len(said) - LONGEST :], said))
    longest = max(len(asked) + len(said) for asked, said in rows)
    ids = torch.full((len(rows), longest), tokenizer.eos_token_id)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, (asked, said) in enumerate(rows):
        ids[row, longest - len(asked) - len(said) :] = torch.tensor([*asked, *said])
        mask[row, longest - len(asked) - len(said) :] = 1
        labels[row, longest - len(said) :] = torch.tensor(said)
    return {"input_ids": ids, "attention_mask": mask}, labels


if __name__ == "__main__":
    make_tiny_vicuna(Path(sys.argv[1]))
