"""What the encoders know before the study: they name shape, colour, motion and sound of shots drawn for this alone.

It stands for the pretrained vision and audio encoders that the paper begins with. All arms begin with the same weights.
No word is taught, and no caption.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import world
from clips import FRAMES, HEARD, MELS, PIXELS
from torch import Tensor, nn
from torch.nn import functional

from vidcap.models.fbank import encoder_input
from vidcap.train import decode, optimiser
from vidcap.train.config import OptimiserConfig

SEED = 13
WEIGHTS_SEED = 67280421310721
"""Of the weights that the encoders begin with; torch's own where none is set."""
SHOTS = {"vision_encoder": 3000, "audio_encoder": 800}
STEPS = {"vision_encoder": 600, "audio_encoder": 150}
BATCH = 32
OPTIMISER = OptimiserConfig(learning_rate=2e-3, warm_up_steps=20)
SECONDS = ((HEARD - 1) * 160 + 400) / 16_000


def seen(count: int) -> tuple[Tensor, Tensor]:
    """N×4×3×56×56 frames over about 3 s, and the numbers N×3 of shape, colour and motion."""
    draw = np.random.default_rng(SEED)
    frames, names = [], []
    for _ in range(count):
        latents = world.drawn(draw)
        painted = world.pictures(latents, FRAMES, draw, step=int(draw.integers(6, 12)))
        frames.append(decode.pictures_tensor(list(painted), PIXELS, None))
        kinds = (world.SHAPES, tuple(world.COLOURS), world.MOTIONS)
        names.append([kind.index(value) for kind, value in zip(kinds, latents.seen, strict=True)])
    return torch.stack(frames), torch.tensor(names)


def heard(count: int) -> tuple[Tensor, Tensor]:
    """N×256×64 spectra with words spoken in them, and the numbers N×1 of the sounds."""
    draw = np.random.default_rng(SEED)
    spectra, names = [], []
    for _ in range(count):
        latents = world.drawn(draw)
        wave, _ = world.sound(latents, SECONDS, draw, world.speaker())
        spectra.append(encoder_input(torch.from_numpy(wave), MELS))
        names.append([world.SOUNDS.index(latents.sound)])
    return torch.stack(spectra), torch.tensor(names)


def encoders(model: Any) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Weights of the vision and the audio encoder of a model of the study; and how often they are right at the end."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    vision = (len(world.SHAPES), len(world.COLOURS), len(world.MOTIONS))
    found = {}
    right: dict[str, Any] = {}
    for part, made, kinds in (("vision_encoder", seen, vision), ("audio_encoder", heard, (len(world.SOUNDS),))):
        given, wanted = made(SHOTS[part])
        network = getattr(model, part).train()
        heads = nn.Linear(64, sum(kinds))
        both = nn.ModuleDict({"network": network, "heads": heads})
        learner = optimiser.made(both, OPTIMISER, fused=False)
        draw = np.random.default_rng(SEED)
        hits = []
        for step in range(STEPS[part]):
            rows = torch.from_numpy(draw.integers(0, len(given), BATCH))
            batch = given[rows]
            if part == "vision_encoder" and step % 2:
                batch = batch.flip(-1)
            pooled = network(batch).pooled if part == "vision_encoder" else network(batch).mean(1)
            answers = heads(pooled).split(kinds, 1)
            loss = sum(functional.cross_entropy(a, wanted[rows, at]) for at, a in enumerate(answers))
            share = optimiser.rate(step, STEPS[part], OPTIMISER.warm_up_steps or 0, OPTIMISER.floor)
            optimiser.set_rate(learner, OPTIMISER.learning_rate * share)
            loss.backward()
            optimiser.clip(list(both.parameters()), OPTIMISER.clip_norm)
            learner.step()
            learner.zero_grad(set_to_none=True)
            hits.append([float((a.argmax(1) == wanted[rows, at]).float().mean()) for at, a in enumerate(answers)])
        right[part] = [round(float(value), 3) for value in np.mean(hits[-40:], 0)]
        print(f"{part}: right in the last steps {right[part]}", flush=True)
        found[part] = {name: value.detach().clone() for name, value in network.state_dict().items()}
    return found, right
