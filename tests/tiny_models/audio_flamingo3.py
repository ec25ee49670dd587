"""A tiny Audio Flamingo 3 in the format of the hub: it names the sound it is played, then says a fixed sentence."""

from __future__ import annotations

from pathlib import Path

from tiny_models.hearing import TEMPLATE, teach, text_sizes, tokenizer_of
from tiny_models.speaking import drawn, save

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<sound>")


def make_audio_flamingo3(folder: Path) -> dict[str, str]:
    """Writes the model into `folder`; returns the option that names it."""
    import torch
    import transformers as hf

    tokenizer, vocabulary = tokenizer_of(MARKS)
    processor = hf.AudioFlamingo3Processor(
        feature_extractor=hf.WhisperFeatureExtractor(feature_size=16, return_attention_mask=True),
        tokenizer=tokenizer,
        chat_template=TEMPLATE.replace("SOUND", "<sound>"),
    )
    configuration = hf.AudioFlamingo3Config(
        audio_config={
            "num_mel_bins": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "hidden_size": 32,
            "max_source_positions": 1500,
        },
        text_config={"model_type": "qwen2", **text_sizes(vocabulary)},
        audio_token_id=vocabulary["<sound>"],
    )
    with torch.random.fork_rng(devices=[]):
        network = drawn(hf.AudioFlamingo3ForConditionalGeneration(configuration).eval())
    teach(network, processor, vocabulary)
    save(network, processor, folder)
    return {"model": str(folder)}
