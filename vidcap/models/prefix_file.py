"""The file of what was trained of an audio captioner: safetensors, and as its metadata what the tensors belong to."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vidcap.errors import BackendError
from vidcap.models.qformer import QFormerShape, SoundPrefix
from vidcap.safe_checkpoints import fill, metadata_of, tensors_of
from vidcap.store import replacing

KIND = "vidcap-sound-prefix/1"
PROBES = 32
MOST = 16_384
"""No size in a file is believed beyond it."""


@dataclass(frozen=True, slots=True)
class PrefixFacts:
    """What a prefix was trained between, and how; a captioner put together otherwise would talk nonsense."""

    shape: QFormerShape
    llm_width: int
    mels: int
    windows: int
    encoder_sha256: str
    llm: str
    """Identity of the language model: to read, it depends on where the model lies."""
    llm_probe: tuple[float, ...]
    """Numbers out of its table of tokens (`probe_of`): they tell one model from another wherever it lies."""
    about: dict[str, Any] = field(default_factory=dict)
    """Of the training: seed, steps, sources of the captions."""


def save_prefix(prefix: SoundPrefix, facts: PrefixFacts, path: Path) -> None:
    """Write `path`, whole or not at all."""
    from safetensors.torch import save_file

    tensors = {key: value.detach().float().cpu().contiguous() for key, value in prefix.state_dict().items()}
    with replacing(path) as temporary:
        # One entry: the library writes several in an order that changes from run to run.
        about = json.dumps({"kind": KIND, "facts": asdict(facts)}, sort_keys=True)
        save_file(tensors, temporary, metadata={"vidcap": about})


def read_facts(path: Path, *, hint: str) -> PrefixFacts:
    """What a file says of itself. Raises `BackendError` where it was not written by `save_prefix`."""
    about = metadata_of(path, hint=hint).get("vidcap", "")
    if f'"kind": "{KIND}"' not in about:
        raise BackendError(f"`{path}` is no file of `vidcap train-captioner`", hint=hint)
    try:
        found = json.loads(about)["facts"]
        sizes = found["shape"]
        kinds: dict[str, Any] = {each.name: type(each.default) for each in fields(QFormerShape)}
        shape = QFormerShape(**{name: kind(sizes[name]) for name, kind in kinds.items()})
        facts = PrefixFacts(
            shape=shape,
            llm_width=int(found["llm_width"]),
            mels=int(found["mels"]),
            windows=int(found["windows"]),
            encoder_sha256=str(found["encoder_sha256"]),
            llm=str(found["llm"]),
            llm_probe=tuple(float(number) for number in found["llm_probe"]),
            about=dict(found["about"]),
        )
        numbers = [value for value in asdict(shape).values() if isinstance(value, int)]
        numbers += [facts.llm_width, facts.mels, facts.windows]
        if not all(0 <= number <= MOST for number in numbers) or shape.hidden % shape.heads or facts.windows < 1:
            raise ValueError(f"sizes {sizes}")
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise BackendError(f"`{path}` does not say what its tensors belong to: {error}", hint=hint) from error
    return facts


def load_prefix(path: Path, facts: PrefixFacts, *, hint: str) -> SoundPrefix:
    """The trained part on the CPU, in float32, ready to infer. Raises `BackendError` where tensors differ."""
    with torch.device("meta"):  # sizes that a file only claims to have cost nothing
        prefix = SoundPrefix(facts.shape, facts.llm_width)
    fill(prefix, tensors_of(path, hint=hint), path, hint=hint, assign=True)
    return prefix.float().eval().requires_grad_(False)


def probe_of(llm: Any) -> tuple[float, ...]:
    """`PROBES` numbers from all over the model's table of tokens, as far as every precision keeps them."""
    table: nn.Embedding = llm.get_input_embeddings()
    flat = table.weight.detach().reshape(-1)
    places = torch.linspace(0, len(flat) - 1, PROBES, dtype=torch.float64).long()
    return tuple(round(float(number), 6) for number in flat[places.to(flat.device)])


def same_probe(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """bfloat16 keeps numbers to 1/256 of themselves."""
    if len(one) != len(other):
        return False
    return torch.allclose(torch.tensor(one), torch.tensor(other), rtol=1 / 100, atol=1e-5)
