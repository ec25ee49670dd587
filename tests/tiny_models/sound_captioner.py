"""Makes all three parts of a tiny `beats_qformer` captioner: BEATs, a language model, and a prefix between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_models.beats import make_beats
from tiny_models.tiny_llama import make_tiny_llama

SHAPE: dict[str, Any] = {"hidden": 32, "layers": 2, "heads": 4, "feed_forward": 64, "queries": 4, "extra_queries": 4}


def make_sound_captioner(folder: Path, *, practice: int = 0) -> dict[str, str]:
    """Writes the parts into `folder` and returns the backend's options; the prefix has random weights."""
    import torch
    from transformers import AutoModelForCausalLM

    from vidcap.models.prefix_file import PrefixFacts, probe_of, save_prefix
    from vidcap.models.qformer import QFormerShape, SoundPrefix
    from vidcap.store import sha256_of

    options = make_beats(folder) | make_tiny_llama(folder / "llm", practice=practice)
    llm = AutoModelForCausalLM.from_pretrained(options["llm"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        prefix = SoundPrefix(QFormerShape(encoder_width=48, **SHAPE), 64)
        with torch.no_grad():
            for value in prefix.parameters():
                value.add_(torch.randn(value.shape) * (0.5 if value.dim() == 2 else 0.1))
    facts = PrefixFacts(prefix.shape, 64, 128, 3, sha256_of(Path(options["encoder"])), "tiny", probe_of(llm))
    save_prefix(prefix, facts, folder / "prefix.safetensors")
    return options | {"weights": str(folder / "prefix.safetensors")}
