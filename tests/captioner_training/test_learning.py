"""Training moves what it should and nothing else; the same seed gives the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models.beats import make_beats
from tiny_models.sound_captioner import SHAPE
from tiny_models.tiny_llama import make_tiny_llama

from vidcap.captioner_training.examples import Example
from vidcap.errors import UsageError

pytestmark = pytest.mark.full
CAPTIONS = ("A dog barks.", "Birds sing.")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers")
    made = tmp_path_factory.mktemp("parts")
    make_beats(made)
    make_tiny_llama(made / "llm", practice=20)
    return made


@pytest.fixture
def captioner(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from vidcap.models.beats import load_beats
    from vidcap.models.qformer import QFormerShape, SoundPrefix
    from vidcap.models.sound_captioner import SoundCaptioner

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prefix = SoundPrefix(QFormerShape(encoder_width=48, **SHAPE), 64)
    llm = AutoModelForCausalLM.from_pretrained(folder / "llm").eval().requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(folder / "llm")
    return SoundCaptioner(load_beats(folder / "beats.pt", hint="").network, prefix, llm, tokenizer, windows=1)


def examples(count: int = 4) -> list[Example]:
    t = np.arange(16_000) / 16_000
    sounds = [(0.4 * np.sin(2 * np.pi * hertz * t)).astype(np.float32) for hertz in (90, 3000)]
    return [Example(f"s/{at}", sounds[at % 2], "What do you hear?", CAPTIONS[at % 2]) for at in range(count)]


def options(steps: int, **more: Any) -> Any:
    from vidcap.captioner_training.options import LearningOptions

    return LearningOptions(steps=steps, warm_up=3, **{"learning_rate": 2e-3} | more)


def test_the_loss_falls_and_the_frozen_parts_stay_bit_identical(captioner: Any) -> None:
    from vidcap.captioner_training.learning import train

    def state(network: Any) -> dict[str, Any]:
        return {key: value.clone() for key, value in network.state_dict().items()}

    parts = (captioner.encoder, captioner.llm)
    frozen, fresh = [state(part) for part in parts], state(captioner.prefix)
    told: list[Any] = []
    losses = train(captioner, [examples(2)] * 30, options(30), told.append)
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
    for part, before in zip(parts, frozen, strict=True):
        assert all(bool((value == before[key]).all()) for key, value in part.state_dict().items())
        assert not any(value.requires_grad or value.grad is not None for value in part.parameters())
    same = [key for key, value in captioner.prefix.state_dict().items() if bool((value == fresh[key]).all())]
    assert same == []
    assert [each.step for each in told] == list(range(1, 31)) and told[-1].loss == losses[-1]


def test_the_same_seed_gives_the_same_weights(captioner: Any) -> None:
    import copy

    from vidcap.captioner_training.learning import train

    def weights(seed: int) -> Any:
        mine = copy.deepcopy(captioner)
        train(mine, [examples(2)] * 2, options(2, seed=seed))
        return mine.prefix.llama_proj.weight

    assert bool((weights(1) == weights(1)).all())
    assert not bool((weights(1) == weights(2)).all())  # dropout


def test_only_the_caption_and_its_end_are_learned(captioner: Any) -> None:
    """The loss equals one computed token by token from whole texts, one sound at a time."""
    import torch

    from vidcap.models.sound_captioner import AFTER, BEFORE, END

    given = [Example("s/0", examples()[0].sound, "What do you hear?", "A dog barks.")]
    given.append(Example("s/1", examples()[1].sound, "Say in a few words what is going on here.", "Rain."))
    captioner.prefix.eval()
    tokens, heard = captioner.tokens([each.sound for each in given], 2)
    with torch.no_grad():
        asked = ([each.instruction for each in given], [each.caption for each in given])
        loss = float(captioner.loss(tokens, heard, *asked, 32))
        cut = float(captioner.loss(tokens, heard, *asked, 2))
        prefix = captioner.prefix(tokens, heard)
        table, parts = captioner.llm.get_input_embeddings(), []
        for row, each in enumerate(given):
            ids = [
                captioner.tokenizer(text, add_special_tokens=False)["input_ids"]
                for text in (BEFORE, AFTER.format(instruction=each.instruction), each.caption + END)
            ]
            before, after, said = (table(torch.tensor(part)) for part in ids)
            whole = torch.cat([table(torch.tensor([1])), before, prefix[row], after, said])[None]
            chances = captioner.llm(inputs_embeds=whole).logits[0].log_softmax(-1)
            first = whole.shape[1] - len(ids[2])
            parts.append([-float(chances[first + at - 1, token]) for at, token in enumerate(ids[2])])
    assert loss == pytest.approx(np.mean([one for part in parts for one in part]), rel=1e-4)
    assert cut == pytest.approx(np.mean([one for part in parts for one in part[:2]]), rel=1e-4)


def test_the_rate_rises_and_falls() -> None:
    from vidcap.captioner_training.learning import schedule

    rates = [schedule(step, 100, 20) for step in range(100)]
    assert rates[0] == pytest.approx(0.05) and rates[19] == rates[20] == 1
    assert rates[:20] == sorted(rates[:20]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] == pytest.approx(0.01) and schedule(140, 100, 20) == pytest.approx(0.01)
    assert schedule(0, 1, 0) == 1


def test_a_loss_that_is_no_number_stops_the_training(captioner: Any) -> None:
    import torch

    from vidcap.captioner_training.learning import train

    with torch.no_grad():
        captioner.prefix.llama_proj.bias[0] = float("inf")
    with pytest.raises(UsageError, match="at step 1") as caught:
        train(captioner, [examples()], options(1))
    assert "--learning-rate" in caught.value.hint


def test_queries_biases_and_norms_do_not_decay(captioner: Any) -> None:
    from vidcap.captioner_training.learning import _groups

    decaying, kept = _groups(captioner.prefix, 0.02)
    names = {id(value): name for name, value in captioner.prefix.named_parameters()}
    assert all(names[id(value)].endswith("weight") for value in decaying["params"])
    assert {"query_tokens", "extra_query_tokens", "ln_audio.weight"} <= {names[id(value)] for value in kept["params"]}
    assert (decaying["weight_decay"], kept["weight_decay"]) == (0.02, 0.0)
