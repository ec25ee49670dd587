"""A tiny BLIP-2 with OPT in the format of the hub: it names the colour of a picture, then says a fixed sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_models.speaking import byte_vocabulary, drawn, save, teach, word_ids

MARKS = ("<s>", "<pad>", "</s>", "<unk>", "<image>")
QUERIES = 4


def make_blip2(folder: Path) -> None:
    import torch
    import transformers as hf

    vocabulary = byte_vocabulary(MARKS)
    tokenizer = hf.GPT2Tokenizer(
        vocab=vocabulary, merges=[], bos_token="</s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    pictures = hf.BlipImageProcessor(size={"height": 32, "width": 32})
    processor = hf.Blip2Processor(pictures, tokenizer, num_query_tokens=QUERIES)
    ends = {"bos_token_id": vocabulary["</s>"], "eos_token_id": vocabulary["</s>"], "pad_token_id": vocabulary["<pad>"]}
    configuration = hf.Blip2Config(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        qformer_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "encoder_hidden_size": 32,
            "vocab_size": len(tokenizer),
        },
        text_config={
            "model_type": "opt",
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "word_embed_proj_dim": 64,
            "ffn_dim": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 256,
            "tie_word_embeddings": False,
            **ends,
        },
        num_query_tokens=QUERIES,
        image_token_index=vocabulary["<image>"],
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        network = drawn(hf.Blip2ForConditionalGeneration(configuration).eval())

    def see(picture: Any) -> list[Any]:
        pixels = pictures(images=picture, return_tensors="pt")["pixel_values"]
        before = torch.tensor([[vocabulary["<image>"]] * QUERIES + [vocabulary["</s>"]]])
        return [{"pixel_values": pixels, "input_ids": before, "attention_mask": torch.ones_like(before)}]

    first, rest = word_ids(vocabulary)
    teach(network, first, rest, vocabulary["</s>"], see)
    save(network, processor, folder)
