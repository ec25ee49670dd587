"""Makes a stage-2 model far below `tiny`, batches for it, and files of it in the published layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

VISION: dict[str, Any] = {"width": 32, "depth": 2, "heads": 4, "mlp_hidden": 48, "patch": 4, "pooled": 24}
VISION |= {"pooled_heads": 2, "layer_scale": 0.5}
AUDIO = {"encoder_layers": 2, "encoder_embed_dim": 16, "encoder_ffn_embed_dim": 32, "encoder_attention_heads": 2}
AUDIO |= {"embed_dim": 8, "conv_pos": 8, "conv_pos_groups": 2, "num_buckets": 32, "max_distance": 80}
TEXT = {"width": 32, "layers": 3, "fusion_layer": 2, "heads": 4, "feed_forward": 48, "positions": 16}
SPECIAL = {"vocab_size": 60, "pad_id": 0, "cls_id": 2, "mask_id": 4}
LENGTH = 8


def config_of(**changed: Any) -> Any:
    """A `ModelConfig`: frames of 12 pixels in 9 patches, 24 tokens of 98 steps of sound, captions of 8 tokens."""
    from vidcap.train.model import ModelConfig

    given: dict[str, Any] = {"frames": 3, "image_size": 12, "max_text": LENGTH, "contra_width": 12, "concat_width": 20}
    given |= SPECIAL | {"vision": VISION, "audio": AUDIO, "text": TEXT}
    for part in ("vision", "audio", "text"):
        given[part] = given[part] | changed.pop(part, {})
    return ModelConfig(**given | changed)


def model_of(seed: int = 0, **changed: Any) -> Any:
    """A `Stage2Model` that drops nothing, with weights of a size that makes every part of it matter."""
    import torch

    from vidcap.train.model import Stage2Model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Stage2Model(config_of(**changed))
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name != "temp":
                    value.add_(0.1 * torch.randn(value.shape))
    return model.eval()


def batch_of(count: int = 6, media_type: Any = "audio_video", *, seed: int = 1, kinds: str = "v avs s") -> Any:
    """All samples have sound and captions of all `kinds`; indices 0, 1, 0, 2, 3, 4 …: the third shares the first's."""
    import torch

    from vidcap.train.batch import Batch

    generator = torch.Generator().manual_seed(seed)
    frames = fbank = None
    if media_type != "audio":
        frames = torch.randn(count, 1 if media_type == "image" else 3, 3, 12, 12, generator=generator)
    if media_type.startswith("audio"):
        fbank = torch.randn(count, 98, 64, generator=generator)
    texts, masks = {}, {}
    for kind in kinds.split():
        length = torch.randint(4, LENGTH + 1, (count, 1), generator=generator)
        masks[kind] = torch.arange(LENGTH) < length
        ids = torch.randint(5, 60, (count, LENGTH), generator=generator)
        ids[:, 0] = 2
        texts[kind] = torch.where(masks[kind], ids.scatter(1, length - 1, 3), 0)
    index = torch.arange(count) - (torch.arange(count) > 1).long()
    if count > 2:
        index[2] = 0
    return Batch(
        media_type=media_type,
        index=index,
        frames=frames,
        fbank=fbank,
        has_audio=torch.full((count,), fbank is not None),
        texts=texts,
        text_masks=masks,
        text_valid={kind: torch.ones(count, dtype=torch.bool) for kind in texts},
        keys=[f"{at:04d}" for at in range(count)],
    )


def make_stage2(folder: Path, *, name: str = "stage2.pt", **changed: Any) -> Any:
    """Writes `folder/stage2.pt` in the layout of the released files; returns the model it is of."""
    import torch

    model = model_of(**changed)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"module": model.state_dict(), "epoch": 3, "global_step": 2040}, folder / name)
    return model
