"""A tiny InternVL3 (-hf) in the format of the hub: it names the colour it is shown, then says a fixed sentence."""

from __future__ import annotations

from pathlib import Path

from tiny_models.speaking import CHAT, asked, byte_vocabulary, drawn, save, teach, word_ids

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")
TEMPLATE = CHAT.replace("IMAGE", "<IMG_CONTEXT>\n").replace("VIDEO", "<video>\n")


def make_internvl(folder: Path) -> None:
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
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    size = {"height": 32, "width": 32}
    processor = hf.InternVLProcessor(
        image_processor=hf.GotOcr2ImageProcessor(size=size, max_patches=4),
        tokenizer=tokenizer,
        video_processor=hf.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=TEMPLATE,
    )
    configuration = hf.InternVLConfig(
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
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": [32, 32],
            "patch_size": [8, 8],
        },
        image_token_id=vocabulary["<IMG_CONTEXT>"],
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        network = drawn(hf.InternVLForConditionalGeneration(configuration).eval())
    first, rest = word_ids(vocabulary)
    teach(network, first, rest, vocabulary["<|im_end|>"], asked(processor))
    save(network, processor, folder)
