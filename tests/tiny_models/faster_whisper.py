"""Makes tiny Whisper models in the converted layout that faster-whisper reads: set by hand to say a text, or to babble.

The way real ones are made: a transformers model with its tokenizer, put through CTranslate2's own converter.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

WIDTH = 64
SAYS = " a red kite flies over the quiet lake"
SECONDS = 2.0
"""What the hand-set model says of every window, and where it says that it ends."""
REGULAR = 50_257
"""Tokens of text; the special ones follow."""
ENGLISH_ONLY, MULTILINGUAL = 51_864, 51_865
FILES = ("tokenizer.json", "preprocessor_config.json")
"""What the converter copies beside the weights."""


def make_faster_whisper(folder: Path, **changed: Any) -> dict[str, Any]:
    """Writes a model that says `SAYS` in French of any sound; returns the options of the backend. See `convert`."""
    convert(folder, **changed)
    return {"model": str(folder)}


def convert(
    folder: Path, *, text: str = SAYS, language: str = "fr", babble: int = 0, english: bool = False, mels: int = 80
) -> None:
    """`babble`: so many tokens depend on the sound instead of being `text`; `english`: a model of English only."""
    from ctranslate2.converters import TransformersConverter
    from transformers import WhisperFeatureExtractor

    tokenizer = _tokenizer(text, english=english)
    network = _network(english=english, mels=mels)
    with tempfile.TemporaryDirectory() as source:
        tokenizer.save_pretrained(source)
        WhisperFeatureExtractor(feature_size=mels).save_pretrained(source)
        _say(network, tokenizer, text, language, babble=babble, english=english)
        network.save_pretrained(source)
        TransformersConverter(source, copy_files=list(FILES)).convert(str(folder), force=True)


def _tokenizer(text: str, *, english: bool) -> Any:
    """Byte-level BPE that knows the words of `text`, filled up to Whisper's size, with Whisper's special tokens."""
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import WhisperTokenizer
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    learned.train_from_iterator([text] * 4, trainer)
    model = json.loads(learned.to_str())["model"]
    vocabulary = dict(model["vocab"])
    regular = REGULAR - english
    vocabulary |= {f"filler{at}": at for at in range(len(vocabulary), regular)}
    if not english:
        # Published multilingual vocabularies end with an empty token; CTranslate2 knows them by it.
        del vocabulary[f"filler{regular - 1}"]
        vocabulary[""] = regular - 1
    languages = list(LANGUAGES)[:99]
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in languages)]
    special += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"]
    special += ["<|notimestamps|>"]
    made = WhisperTokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in model["merges"]])
    made.add_special_tokens({"additional_special_tokens": special})
    ids = made.convert_tokens_to_ids(special)
    assert ids == list(range(regular, regular + len(special))), ids
    return made


def _network(*, english: bool, mels: int) -> Any:
    """One layer, two heads, 64 wide, the same random weights every time."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=ENGLISH_ONLY if english else MULTILINGUAL,
        num_mel_bins=mels,
        d_model=WIDTH,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=2 * WIDTH,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=2 * WIDTH,
    )
    with torch.random.fork_rng(devices=[]):
        network = WhisperForConditionalGeneration(config).eval()
    generator = torch.Generator().manual_seed(0)
    for key, value in network.state_dict().items():
        if key != "model.encoder.embed_positions.weight":
            scale = 0.1 if value.dim() == 1 else value[0].numel() ** -0.5
            centre = 1 if "norm.weight" in key else 0
            value.copy_(centre + scale * torch.randn(value.shape, generator=generator))
    return network


def _say(network: Any, tokenizer: Any, text: str, language: str, *, babble: int, english: bool) -> None:
    """What comes next depends on the position alone: the layers add nothing, and a position points at what follows.

    Which word is when depends on the sound: word times come from cross-attention, whose queries and keys are random.
    """
    import torch

    decoder = network.model.decoder
    layer = decoder.layers[0]
    with torch.no_grad():
        for module in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
            if not (babble and module is layer.encoder_attn.out_proj):
                module.weight.zero_()
                module.bias.zero_()
        if babble:
            layer.encoder_attn.q_proj.weight.mul_(40)
            layer.encoder_attn.out_proj.weight.mul_(2)
        decoder.layer_norm.weight.fill_(0.6 if babble else 1)  # what it babbles it is not sure of
        decoder.layer_norm.bias.zero_()
        size = network.config.vocab_size
        tokens = torch.randn(size, WIDTH, generator=torch.Generator().manual_seed(1))
        tokens = torch.nn.functional.normalize(tokens)
        decoder.embed_tokens.weight.copy_(5 * tokens)
        code = tokenizer.convert_tokens_to_ids
        begin = code("<|notimestamps|>") + 1
        end = code("<|endoftext|>")
        words = tokenizer(text, add_special_tokens=False)["input_ids"]
        said = [begin, *words, begin + round(SECONDS / 0.02), end]
        start = 0 if english else 2
        places = torch.zeros(448, WIDTH)
        if not english:
            places[0] = tokens[code(f"<|{language}|>")]
        for at in range(start, 448):
            places[at] = tokens[said[min(at - start, len(said) - 1)]]
        if babble:
            places[0] = 0
            # A little of the place in it, so that no token comes twice in a row for ever: that would be a loop.
            noise = torch.randn(babble + 1, WIDTH, generator=torch.Generator().manual_seed(2))
            places[start + 1 : start + 2 + babble] = 0.3 * torch.nn.functional.normalize(noise)
        decoder.embed_positions.weight.copy_(100 * places)
    # As published models have it: the mean over these heads gives the word times.
    network.generation_config.alignment_heads = [[0, 0], [0, 1]]
    network.generation_config.suppress_tokens = []
    network.generation_config.begin_suppress_tokens = [end]
    network.generation_config._from_model_config = False  # else the loader drops what it does not know
    if not english:
        ids = range(end + 2, end + 2 + 99)
        network.generation_config.lang_to_id = {tokenizer.convert_ids_to_tokens(at): at for at in ids}
