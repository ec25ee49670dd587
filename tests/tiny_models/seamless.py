"""Makes tiny SeamlessM4T models, version 1 or 2, in the format of the hub: set by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

SAYS = "we walk along the river to an old bridge."
"""What the hand-set model says of any source; no word comes twice, as a word is chosen by the one before it."""
LANGUAGES = ("eng", "fra", "deu", "cmn", "cmn_Hant", "jpn", "spa")
LEARNED = (
    SAYS,
    "nous marchons le long de la rivière",
    "wir gehen am alten fluss entlang",
    "caminamos por el río",
    "我们沿着河边走到老桥那里去 我們沿著河邊走到老橋那裏去 川に沿って歩いて行きます",
)
WIDTH = 32
LEANING = 1.0
"""How strongly the source pulls where the model is to depend on it: less than a word's own state."""


def make_seamless(folder: Path, **changed: Any) -> dict[str, Any]:
    """Writes a model that says `SAYS` in English; returns the options of the backend. See `save`."""
    save(folder, **changed)
    return {"model": str(folder), "max_new_tokens": 24, "batch_size": 2}


def save(
    folder: Path,
    *,
    version: int = 1,
    depends: bool = False,
    mapped: Sequence[str] = LANGUAGES,
    from_config: bool = False,
) -> None:
    """`depends`: what it writes depends on the source. `mapped`: languages that generation_config.json names.

    `from_config`: mark those settings as made from the configuration, which makes transformers drop the map on loading.
    """
    import torch
    import transformers as hf

    from vidcap.backends.weights.transformers_folder import quiet

    tokenizer = _tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind = "" if version == 1 else "v2"
        config = getattr(hf, f"SeamlessM4T{kind}Config")(**_sizes(len(tokenizer), version))
        network = getattr(hf, f"SeamlessM4T{kind}Model")(config).eval()
    _set(network, tokenizer, depends=depends)
    codes = {language: tokenizer.convert_tokens_to_ids(f"__{language}__") for language in mapped}
    settings = hf.GenerationConfig(pad_token_id=0, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3)
    settings._from_model_config = from_config
    settings.text_decoder_lang_to_code_id = codes
    network.generation_config = settings
    features = hf.SeamlessM4TFeatureExtractor(feature_size=80, num_mel_bins=80, sampling_rate=16000, stride=2)
    with quiet():
        network.save_pretrained(folder)
        hf.SeamlessM4TProcessor(feature_extractor=features, tokenizer=tokenizer).save_pretrained(folder)
    saved = json.loads((folder / "generation_config.json").read_text())
    saved |= {"text_decoder_lang_to_code_id": codes, "_from_model_config": from_config}
    (folder / "generation_config.json").write_text(json.dumps(saved))


def _tokenizer() -> Any:
    """Pieces of words as SentencePiece has them; the words of `SAYS` are whole."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import SeamlessM4TTokenizer

    learned = Tokenizer(models.BPE(unk_token="<unk>"))
    learned.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    marks = ["<pad>", "<unk>", "<s>", "</s>"]
    learned.train_from_iterator(
        [*LEARNED, *[SAYS] * 8], trainers.BpeTrainer(vocab_size=400, special_tokens=marks, show_progress=False)
    )
    model = json.loads(learned.to_str())["model"]
    return SeamlessM4TTokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        src_lang="eng",
        tgt_lang="eng",
        additional_special_tokens=[f"__{language}__" for language in LANGUAGES],
    )


def _sizes(vocabulary: int, version: int) -> dict[str, Any]:
    """One or two layers of everything, speech and vocoder too: the files of the hub hold them."""
    sizes: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "max_position_embeddings": 512,
        "encoder_layers": 2,
        "encoder_ffn_dim": 64,
        "encoder_attention_heads": 2,
        "decoder_layers": 2,
        "decoder_ffn_dim": 400,
        "decoder_attention_heads": 2,
        "speech_encoder_layers": 1,
        "speech_encoder_attention_heads": 2,
        "speech_encoder_intermediate_size": 64,
        "feature_projection_input_dim": 160,
        "num_adapter_layers": 1,
        "t2u_vocab_size": 64,
        "t2u_encoder_layers": 1,
        "t2u_encoder_ffn_dim": 64,
        "t2u_encoder_attention_heads": 2,
        "t2u_decoder_layers": 1,
        "t2u_decoder_ffn_dim": 64,
        "t2u_decoder_attention_heads": 2,
        "unit_hifi_gan_vocab_size": 64,
        "unit_embed_dim": 16,
        "lang_embed_dim": 8,
        "spkr_embed_dim": 8,
        "vocoder_num_langs": 3,
        "vocoder_num_spkrs": 2,
        "upsample_initial_channel": 32,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "decoder_start_token_id": 3,
    }
    if version == 2:
        sizes |= {"char_vocab_size": 64, "t2u_variance_predictor_embed_dim": WIDTH}
        sizes |= {"t2u_variance_predictor_hidden_dim": 16}
    return sizes


def _set(network: Any, tokenizer: Any, *, depends: bool) -> None:
    """Each word follows from the one before it: a row of neurons knows words, and writes what follows each.

    With `depends` the first word is what the source makes it, by attention, and the rest a walk through the vocabulary
    from there; a third of the words end it.
    """
    import torch

    generator = torch.Generator().manual_seed(3)
    for value in network.parameters():
        if value.dim() > 1:
            value.data = torch.randn(value.shape, generator=generator) * value[0].numel() ** -0.5
    decoder = network.text_decoder
    states = 4 * torch.randn(network.shared.weight.shape, generator=torch.Generator().manual_seed(5))
    begin = tokenizer.convert_tokens_to_ids("__eng__")
    if depends:
        walk = torch.randperm(begin - 4, generator=torch.Generator().manual_seed(6)) + 4
        follows = {before: 3 if at % 3 == 0 else after for at, (before, after) in enumerate(_pairs(walk.tolist()))}
        follows |= {mark: int(walk[mark % 100]) for mark in (0, 1, 2, *range(begin + 1, len(states)))}
    else:
        words = tokenizer(SAYS, add_special_tokens=False)["input_ids"]
        assert len(set(words)) == len(words), "a word of the sentence comes twice"
        follows = dict(_pairs([begin, *words, 3]))
    with torch.no_grad():
        network.shared.weight.copy_(states)
        for layer in decoder.layers:
            for module in (layer.self_attn.out_proj, layer.cross_attention.out_proj, layer.ffn.fc2, layer.ffn.fc1):
                module.weight.zero_()
                module.bias.zero_()
        known = torch.nn.functional.layer_norm(states, (WIDTH,))
        last = decoder.layers[-1]
        for neuron, (before, after) in enumerate(follows.items()):
            last.ffn.fc1.weight[neuron] = known[before]
            last.ffn.fc1.bias[neuron] = -0.6 * WIDTH
            last.ffn.fc2.weight[:, neuron] = 10 * states[after]
        if depends:
            shape = (WIDTH, WIDTH)
            draw = torch.randn(shape, generator=torch.Generator().manual_seed(7))
            decoder.layers[0].cross_attention.out_proj.weight.copy_(LEANING * draw)
            # The mark of the language is taken away again, so that the source alone is left to choose.
            last.ffn.fc1.weight[-1] = known[begin]
            last.ffn.fc1.bias[-1] = -0.6 * WIDTH
            last.ffn.fc2.weight[:, -1] = -states[begin] * WIDTH**0.5 / (0.4 * WIDTH)


def _pairs(words: Sequence[int]) -> list[tuple[int, int]]:
    return list(pairwise(words))
