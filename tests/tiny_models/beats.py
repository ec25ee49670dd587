"""Makes a tiny BEATs file in the published layout: `{"cfg": …, "model": …}`, all keys, small sizes, random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CFG: dict[str, Any] = {
    "encoder_layers": 2,
    "encoder_embed_dim": 48,
    "encoder_ffn_embed_dim": 96,
    "encoder_attention_heads": 4,
    "activation_fn": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.0,
    "encoder_layerdrop": 0.05,
    "dropout_input": 0.1,
    "layer_norm_first": False,
    "conv_bias": False,
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "relative_position_embedding": True,
    "num_buckets": 32,
    "max_distance": 80,
    "gru_rel_pos": True,
    "deep_norm": True,
    "input_patch_size": 16,
    "layer_wise_gradient_decay_ratio": 0.6,
    "embed_dim": 32,
    "finetuned_model": False,
}
"""All keys that published files have."""


def state_of(cfg: dict[str, Any] | None = None, seed: int = 0) -> dict[str, Any]:
    """Random weights by published key, of the size that makes every part of the network matter."""
    import torch

    from vidcap.models.beats import Beats, BeatsShape

    names = BeatsShape.__dataclass_fields__
    with torch.device("meta"):
        network = Beats(BeatsShape(**{key: value for key, value in (cfg or CFG).items() if key in names}))
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Any] = {}
    for key, value in network.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if key.endswith("relative_attention_bias.weight"):
            state[key] = state.get("encoder.layers.0.self_attn.relative_attention_bias.weight", noise).clone()
        elif key.endswith(("weight_g", "grep_a")):
            state[key] = 1 + 0.2 * noise
        elif value.dim() == 1:
            state[key] = (1 if key.endswith("norm.weight") else 0) + 0.1 * noise
        else:
            state[key] = noise / value[0].numel() ** 0.5
    return state


def make_beats(folder: Path, *, classes: int = 0, name: str = "beats.pt", seed: int = 0) -> dict[str, str]:
    """Writes `folder/beats.pt`; with `classes` as a fine-tuned file. Returns the option that names it."""
    import torch

    state, cfg = state_of(seed=seed), dict(CFG)
    more: dict[str, Any] = {}
    if classes:
        cfg |= {"finetuned_model": True, "predictor_dropout": 0.1, "predictor_class": classes}
        state |= {"predictor.weight": torch.zeros(classes, 48), "predictor.bias": torch.zeros(classes)}
        more["label_dict"] = {at: f"/m/{at:05d}" for at in range(classes)}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"cfg": cfg, "model": state, **more}, folder / name)
    return {"encoder": str(folder / name)}
