"""A tiny BLIP in the format of the hub: it names the colour of a picture, then says a fixed sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_models.git_caption import PIECES
from tiny_models.speaking import WORDS, drawn, save, teach


def make_blip_caption(folder: Path) -> None:
    import torch
    import transformers as hf

    begin = len(PIECES)
    tokenizer = hf.BertTokenizer(vocab={**PIECES, "[DEC]": begin}, bos_token="[DEC]")
    pictures = hf.BlipImageProcessor(size={"height": 32, "width": 32})
    sizes = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32}
    configuration = hf.BlipConfig(
        vision_config=sizes | {"image_size": 32, "patch_size": 8},
        text_config=sizes
        | {
            "hidden_size": 128,
            "encoder_hidden_size": 32,
            "vocab_size": begin + 1,
            "max_position_embeddings": 256,
            "bos_token_id": begin,
            "eos_token_id": PIECES["[SEP]"],
            "sep_token_id": PIECES["[SEP]"],
            "pad_token_id": PIECES["[PAD]"],
            "is_decoder": True,
            "tie_word_embeddings": False,
        },
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        network = drawn(hf.BlipForConditionalGeneration(configuration).eval())

    def see(picture: Any) -> list[Any]:
        before = torch.tensor([[begin]])
        pixels = pictures(images=picture, return_tensors="pt")["pixel_values"]
        return [{"pixel_values": pixels, "input_ids": before, "attention_mask": torch.ones_like(before)}]

    ids = [PIECES[word.strip().lower()] for word in WORDS]
    teach(network, ids[:5], ids[5:], PIECES["[SEP]"], see)
    save(network, hf.BlipProcessor(pictures, tokenizer), folder)
