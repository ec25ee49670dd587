"""A tiny LLaVA-NeXT-Video in the format of the hub: it names the colour it is shown, then says a fixed sentence."""

from __future__ import annotations

from pathlib import Path

from tiny_models.speaking import asked, drawn, save, teach, word_ids

MARKS = ("<unk>", "<s>", "</s>", "<image>", "<video>", "<pad>")
TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'text' %}{{ c['text'] }}{% else %}<{{ c['type'] }}>\n{% endif %}{% endfor %} {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def make_llava_next_video(folder: Path) -> None:
    import torch
    import transformers as hf
    from tiny_models.speaking import byte_vocabulary
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    vocabulary = byte_vocabulary(MARKS)
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    # The begin token comes from the tokenizer here, not from the template.
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    tokenizer = hf.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<image>", "<video>"],
    )
    size, grids = {"shortest_edge": 32}, [[32, 64], [64, 32], [64, 64]]
    crop = {"height": 32, "width": 32}
    processor = hf.LlavaNextVideoProcessor(
        video_processor=hf.LlavaNextVideoVideoProcessor(size=size, crop_size=crop),
        image_processor=hf.LlavaNextImageProcessor(size=size, crop_size=crop, image_grid_pinpoints=grids),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    configuration = hf.LlavaNextVideoConfig(
        text_config={
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 4096,
            "eos_token_id": vocabulary["</s>"],
            "pad_token_id": vocabulary["<pad>"],
            "bos_token_id": vocabulary["<s>"],
            "tie_word_embeddings": False,
        },
        vision_config={
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        image_token_index=vocabulary["<image>"],
        video_token_index=vocabulary["<video>"],
        image_grid_pinpoints=grids,
        vision_feature_select_strategy="default",
        vision_feature_layer=-2,
        spatial_pool_stride=2,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        network = drawn(hf.LlavaNextVideoForConditionalGeneration(configuration).eval())
    first, rest = word_ids(vocabulary)
    teach(network, first, rest, vocabulary["</s>"], asked(processor))
    save(network, processor, folder)
