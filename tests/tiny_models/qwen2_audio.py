"""A tiny Qwen2-Audio in the format of the hub: it names the sound it is played, then says a fixed sentence."""

from __future__ import annotations

from pathlib import Path

from tiny_models.hearing import TEMPLATE, teach, text_sizes, tokenizer_of
from tiny_models.speaking import drawn, save

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|audio_bos|>", "<|AUDIO|>", "<|audio_eos|>")
CHAT = TEMPLATE.replace("SOUND", "Audio 1: <|audio_bos|><|AUDIO|><|audio_eos|>\n")


def make_qwen2_audio(folder: Path) -> dict[str, str]:
    """Writes the model into `folder`; returns the option that names it."""
    import torch
    import transformers as hf

    tokenizer, vocabulary = tokenizer_of(MARKS)
    processor = hf.Qwen2AudioProcessor(
        feature_extractor=hf.WhisperFeatureExtractor(feature_size=16), tokenizer=tokenizer, chat_template=CHAT
    )
    configuration = hf.Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "num_mel_bins": 16,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "d_model": 32,
            "max_source_positions": 1500,
        },
        text_config={"model_type": "qwen2", **text_sizes(vocabulary)},
        audio_token_id=vocabulary["<|AUDIO|>"],
    )
    with torch.random.fork_rng(devices=[]):
        network = drawn(hf.Qwen2AudioForConditionalGeneration(configuration).eval())
    teach(network, processor, vocabulary)
    save(network, processor, folder)
    return {"model": str(folder)}
