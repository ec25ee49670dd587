"""A tiny Qwen2.5-VL in the format of the hub: it names the colour it is shown, then says a fixed sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_models.speaking import CHAT, asked, byte_vocabulary, drawn, save, teach, word_ids

MARKS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
TEMPLATE = CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>").replace(
    "VIDEO", "<|vision_start|><|video_pad|><|vision_end|>"
)


def tokenizer_of() -> tuple[Any, dict[str, int]]:
    """The tokenizer of the Qwen families, and its vocabulary."""
    from transformers import Qwen2Tokenizer

    vocabulary = byte_vocabulary(MARKS)
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[],
        unk_token=None,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(MARKS[1:]),
    )
    return tokenizer, vocabulary


def make_qwen25_vl(folder: Path) -> None:
    import torch
    import transformers as hf

    tokenizer, vocabulary = tokenizer_of()
    sizes = {"min_pixels": 28 * 28, "max_pixels": 28 * 28 * 16}
    processor = hf.Qwen2_5_VLProcessor(
        image_processor=hf.Qwen2VLImageProcessor(**sizes),
        tokenizer=tokenizer,
        video_processor=hf.Qwen2VLVideoProcessor(**sizes),
        chat_template=TEMPLATE,
    )
    configuration = hf.Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
            "eos_token_id": vocabulary["<|im_end|>"],
            "pad_token_id": vocabulary["<|endoftext|>"],
            "bos_token_id": None,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 64,
            "window_size": 112,
            "fullatt_block_indexes": [1],
        },
        image_token_id=vocabulary["<|image_pad|>"],
        video_token_id=vocabulary["<|video_pad|>"],
        vision_start_token_id=vocabulary["<|vision_start|>"],
        vision_end_token_id=vocabulary["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        network = drawn(hf.Qwen2_5_VLForConditionalGeneration(configuration).eval())
    first, rest = word_ids(vocabulary)
    teach(network, first, rest, vocabulary["<|im_end|>"], asked(processor))
    save(network, processor, folder)
