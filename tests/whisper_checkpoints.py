"""Makes tiny Whisper models in openai-whisper's `.pt` layout: of random weights, or set by hand to say a text."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

WIDTH = 64
SAYS = " a red kite flies over the quiet lake"
WORDS = SAYS.split()
SECONDS = 2.0
"""What the hand-set model says of every window, and where it says that it ends."""


def dims(*, vocabulary: int = 51_865) -> Any:
    """One layer, two heads, 64 wide; 51,864 tokens are an English-only model."""
    from whisper.model import ModelDimensions

    return ModelDimensions(
        n_mels=80,
        n_audio_ctx=1500,
        n_audio_state=WIDTH,
        n_audio_head=2,
        n_audio_layer=1,
        n_vocab=vocabulary,
        n_text_ctx=448,
        n_text_state=WIDTH,
        n_text_head=2,
        n_text_layer=1,
    )


def random_state(sizes: Any, seed: int = 0) -> dict[str, Any]:
    """Weights of the size that a fresh model has, the same ones every time."""
    import torch
    from whisper.model import Whisper

    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        network = Whisper(sizes)
    state = {}
    for key, value in network.state_dict().items():
        scale = 1.0 if value.dim() == 1 else value[0].numel() ** -0.5
        noise = scale * torch.randn(value.shape, generator=generator)
        norm = ".ln" in key or "_ln" in key or "ln_post" in key
        state[key] = value if key == "encoder.positional_embedding" else 1 + 0.1 * noise if norm else noise
    return state


def saying(text: str = SAYS, *, language: str = "fr", seconds: float = SECONDS, vocabulary: int = 51_865) -> Any:
    """Weights with which every window holds `text`, from its start to `seconds`, in `language`, at any temperature.

    What comes next depends on the position alone: the blocks add nothing to the stream, and a position's vector points
    at the token that follows it. Which word is when depends on the sound: word times come from cross-attention, whose
    queries and keys are random.
    """
    import torch
    from whisper.tokenizer import get_tokenizer

    state = random_state(dims(vocabulary=vocabulary))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the library leaves its vocabulary's file open
        tokenizer = get_tokenizer(vocabulary >= 51_865, num_languages=99, language=language, task="transcribe")
    for key in state:
        if key.startswith("decoder.blocks.") and (".out." in key or "mlp.2." in key):
            state[key].zero_()
    state["decoder.ln.weight"].fill_(1)
    state["decoder.ln.bias"].zero_()
    tokens = torch.nn.functional.normalize(torch.randn(vocabulary, WIDTH, generator=torch.Generator().manual_seed(1)))
    state["decoder.token_embedding.weight"] = 5 * tokens
    begin = tokenizer.timestamp_begin
    said = [begin, *tokenizer.encode(text), begin + round(seconds / 0.02), tokenizer.eot]
    start = len(tokenizer.sot_sequence) - 1
    places = torch.zeros(448, WIDTH)
    places[0] = tokens[tokenizer.sot_sequence[1]] if start else 0
    for at in range(start, 448):
        places[at] = tokens[said[min(at - start, len(said) - 1)]]
    state["decoder.positional_embedding"] = 100 * places
    return state


def babbling(length: int = 12) -> Any:
    """Weights with which a window holds `length` tokens that depend on the sound and on chance, in no sure language."""
    state, random = saying(" a" * length), random_state(dims())
    state["decoder.positional_embedding"][0] = 0
    state["decoder.positional_embedding"][3 : 3 + length] = 0
    for key in ("query.weight", "out.weight", "out.bias"):
        state[f"decoder.blocks.0.cross_attn.{key}"] = 3 * random[f"decoder.blocks.0.cross_attn.{key}"]
    return state


def save(state: Any, path: Path, *, vocabulary: int = 51_865) -> Path:
    """In the published layout."""
    import torch

    torch.save({"dims": dataclasses.asdict(dims(vocabulary=vocabulary)), "model_state_dict": state}, path)
    return path
