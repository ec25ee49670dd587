"""A tiny GIT in the format of the hub: it names the colour of a picture, then says a fixed sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_models.speaking import WORDS, drawn, save, teach

MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PIECES = {piece: at for at, piece in enumerate([*MARKS, *(word.strip().lower() for word in WORDS)])}
"""The vocabulary: every word of the sentence, as BERT's tokenizer has them."""


def make_git_caption(folder: Path) -> None:
    import torch
    import transformers as hf

    tokenizer = hf.BertTokenizer(vocab=PIECES)
    pictures = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    configuration = hf.GitConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        vocab_size=len(PIECES),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        pad_token_id=PIECES["[PAD]"],
        bos_token_id=PIECES["[CLS]"],
        eos_token_id=PIECES["[SEP]"],
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        network = drawn(hf.GitForCausalLM(configuration).eval())

    def see(picture: Any) -> list[Any]:
        before = torch.tensor([[PIECES["[CLS]"]]])
        pixels = pictures(images=picture, return_tensors="pt")["pixel_values"]
        return [{"pixel_values": pixels, "input_ids": before, "attention_mask": torch.ones_like(before)}]

    ids = [PIECES[word.strip().lower()] for word in WORDS]
    teach(network, ids[:5], ids[5:], PIECES["[SEP]"], see)
    save(network, hf.GitProcessor(pictures, tokenizer), folder)
