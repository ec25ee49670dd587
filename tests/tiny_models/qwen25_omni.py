"""A tiny Qwen2.5-Omni in the format of the hub, of which only the thinker has weights: it names the sound it is played.

Published files hold a talker beside it, which is not read: here a stray tensor stands for it.
"""

from __future__ import annotations

import json
from pathlib import Path

from tiny_models.hearing import TEMPLATE, teach, text_sizes, tokenizer_of
from tiny_models.speaking import drawn, save

NAMED = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *NAMED.values())


def make_qwen25_omni(folder: Path) -> dict[str, str]:
    """Writes the model into `folder`; returns the option that names it."""
    import torch
    import transformers as hf
    from safetensors.torch import load_file, save_file

    tokenizer, vocabulary = tokenizer_of(MARKS, extra_special_tokens=NAMED)
    processor = hf.Qwen2_5OmniProcessor(
        image_processor=hf.Qwen2VLImageProcessor(),
        video_processor=hf.Qwen2VLVideoProcessor(),
        feature_extractor=hf.WhisperFeatureExtractor(feature_size=16, chunk_length=60),
        tokenizer=tokenizer,
        chat_template=TEMPLATE.replace("SOUND", "<|audio_bos|><|AUDIO|><|audio_eos|>"),
    )
    configuration = hf.Qwen2_5OmniThinkerConfig(
        audio_config={
            "num_mel_bins": 16,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "d_model": 32,
            "output_dim": 128,
            "n_window": 100,
            "max_source_positions": 1500,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": 128,
            "fullatt_block_indexes": [0],
        },
        text_config=text_sizes(vocabulary)
        | {"rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0}},
        audio_token_id=vocabulary["<|AUDIO|>"],
        image_token_id=vocabulary["<|IMAGE|>"],
        video_token_id=vocabulary["<|VIDEO|>"],
        audio_start_token_id=vocabulary["<|audio_bos|>"],
        audio_end_token_id=vocabulary["<|audio_eos|>"],
        vision_start_token_id=vocabulary["<|vision_bos|>"],
        vision_end_token_id=vocabulary["<|vision_eos|>"],
        pad_token_id=vocabulary["<|endoftext|>"],
    )
    with torch.random.fork_rng(devices=[]):
        network = drawn(hf.Qwen2_5OmniThinkerForConditionalGeneration(configuration).eval())
    teach(network, processor, vocabulary)
    save(network, processor, folder)
    about, weights = folder / "config.json", folder / "model.safetensors"
    thinker = json.loads(about.read_text())
    about.write_text(
        json.dumps({"architectures": ["Qwen2_5OmniModel"], "model_type": "qwen2_5_omni", "thinker_config": thinker})
    )
    published = {f"thinker.{key}": value for key, value in load_file(weights).items()}
    save_file(published | {"talker.codec_head.weight": torch.zeros(2, 2)}, weights, metadata={"format": "pt"})
    return {"model": str(folder)}
