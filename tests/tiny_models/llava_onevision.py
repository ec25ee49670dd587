"""A tiny LLaVA-OneVision in the format of the hub: it names the colour it is shown, then says a fixed sentence."""

from __future__ import annotations

from pathlib import Path

from tiny_models.speaking import CHAT, asked, byte_vocabulary, drawn, save, teach, word_ids

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
TEMPLATE = CHAT.replace("IMAGE", "<image>").replace("VIDEO", "<video>")


def make_llava_onevision(folder: Path) -> None:
    import torch
    import transformers as hf

    vocabulary = byte_vocabulary(MARKS)
    tokenizer = hf.Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[],
        unk_token=None,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<image>", "<video>"],
    )
    size, grids = {"height": 32, "width": 32}, [[32, 32], [32, 64], [64, 32], [64, 64]]
    processor = hf.LlavaOnevisionProcessor(
        image_processor=hf.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grids),
        tokenizer=tokenizer,
        video_processor=hf.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
    )
    configuration = hf.LlavaOnevisionConfig(
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "eos_token_id": vocabulary["<|im_end|>"],
            "pad_token_id": vocabulary["<|endoftext|>"],
            "bos_token_id": None,
            "tie_word_embeddings": False,
        },
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "vision_use_head": False,
        },
        image_token_id=vocabulary["<image>"],
        video_token_id=vocabulary["<video>"],
        image_grid_pinpoints=grids,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        network = drawn(hf.LlavaOnevisionForConditionalGeneration(configuration).eval())
    first, rest = word_ids(vocabulary)
    teach(network, first, rest, vocabulary["<|im_end|>"], asked(processor))
    save(network, processor, folder)
