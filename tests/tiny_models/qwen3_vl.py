"""A tiny Qwen3-VL in the format of the hub: it names the colour it is shown, then says a fixed sentence."""

from __future__ import annotations

from pathlib import Path

from tiny_models.qwen25_vl import TEMPLATE, tokenizer_of
from tiny_models.speaking import asked, drawn, save, teach, word_ids

# Its processor writes the marks around a video itself, one pair a moment.
TEMPLATE_3 = TEMPLATE.replace("<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>")


def make_qwen3_vl(folder: Path) -> None:
    import torch
    import transformers as hf

    tokenizer, vocabulary = tokenizer_of()
    size = {"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 16}
    processor = hf.Qwen3VLProcessor(
        image_processor=hf.Qwen2VLImageProcessor(size=size, patch_size=16),
        tokenizer=tokenizer,
        video_processor=hf.Qwen3VLVideoProcessor(size=size),
        chat_template=TEMPLATE_3,
    )
    configuration = hf.Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "mrope_section": [6, 5, 5], "rope_theta": 10000.0},
            "eos_token_id": vocabulary["<|im_end|>"],
            "pad_token_id": vocabulary["<|endoftext|>"],
            "bos_token_id": None,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 128,
            "patch_size": 16,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=vocabulary["<|image_pad|>"],
        video_token_id=vocabulary["<|video_pad|>"],
        vision_start_token_id=vocabulary["<|vision_start|>"],
        vision_end_token_id=vocabulary["<|vision_end|>"],
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        network = drawn(hf.Qwen3VLForConditionalGeneration(configuration).eval())
    first, rest = word_ids(vocabulary)
    teach(network, first, rest, vocabulary["<|im_end|>"], asked(processor))
    save(network, processor, folder)
