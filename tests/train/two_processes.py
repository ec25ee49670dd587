"""One of several processes that compute losses and gradients of their share of a batch; run by test_gathering.py.

python two_processes.py RANK PROCESSES FOLDER MODE
"""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tiny_models.stage2 import batch_of, model_of

from vidcap.train import losses as learned
from vidcap.train.losses import LossSpec
from vidcap.train.model import Stage2Model

PAIRS = [{"media": "v", "text": "v"}, {"media": "a", "text": "avs"}, {"media": "av", "text": "avs"}]


def hidden(ids: Any, probability: float, generator: Any, *, mask_id: int, vocabulary: int, spared: Any) -> Any:
    """Which words are hidden follows from the words, so it is the same however samples are shared out."""
    chosen = (ids % 3 == 0) & (ids != spared[0])
    return torch.where(chosen, mask_id, ids), chosen


def whole_batch() -> Any:
    """8 samples; what lacks sound or a caption is not shared out evenly. Samples 0, 2, 4, 6 are one, 1, 3 are another:
    a wrong partner is then always the same one, in whichever part of the batch it is looked for."""
    batch = batch_of(8)
    for field in fields(batch):
        value = getattr(batch, field.name)
        for tensor in value.values() if isinstance(value, dict) else [value]:
            if isinstance(tensor, torch.Tensor):
                for copies, source in (((2, 4, 6), 0), ((3, 5, 7), 1)):
                    for row in copies:
                        tensor[row] = tensor[source]
    generator = torch.Generator().manual_seed(8)
    batch.index = torch.tensor([0, 1, 0, 1, 0, 1, 2, 3])
    batch.frames[6:] = torch.randn(2, *batch.frames.shape[1:], generator=generator)
    batch.has_audio[6:] = False
    batch.text_valid["v"][[6, 7]] = False
    batch.text_valid["avs"][[1, 6]] = False
    return batch


def share(batch: Any, rank: int, processes: int) -> Any:
    def of(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: of(each) for key, each in value.items()}
        return value.chunk(processes)[rank] if isinstance(value, torch.Tensor) else value

    return type(batch)(**{field.name: of(getattr(batch, field.name)) for field in fields(batch)})


def losses_and_gradients(rank: int, processes: int, mode: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Means over the processes, as a distributed optimiser makes them."""
    learned.hidden_words = hidden
    model: Stage2Model = model_of(matching_heads=("v", "a", "av")).double()
    batch = share(whole_batch(), rank, processes)
    batch.frames, batch.fbank = batch.frames.double(), batch.fbank.double()
    spec = LossSpec.model_validate({"pairs": PAIRS, "avc": 1.0, "gather": mode})
    found = model(batch, spec, generator=torch.Generator().manual_seed(rank))
    sum(found.values()).backward()
    gradients = {
        name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in model.named_parameters()
    }
    losses = {name: value.detach().clone() for name, value in found.items()}
    if processes > 1:
        for value in (*losses.values(), *gradients.values()):
            dist.all_reduce(value)
            value /= processes
    return losses, gradients


def main(rank: int, processes: int, folder: Path, mode: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder / 'meeting'}", rank=rank, world_size=processes)
    found = losses_and_gradients(rank, processes, mode)
    if rank == 0:
        torch.save(found, folder / "found.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
