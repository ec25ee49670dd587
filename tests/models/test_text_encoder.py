"""The text encoder has BERT's keys and numbers, computes what they stand for, and looks at media where it should."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.full
SMALL = {"width": 32, "layers": 3, "fusion_layer": 2, "heads": 4, "feed_forward": 48}
SMALL |= {"encoder_width": 20, "vocabulary": 50, "positions": 12}


@pytest.fixture(scope="module")
def torch() -> Iterator[Any]:
    module = pytest.importorskip("torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


def small(torch: Any, **changed: Any) -> Any:
    from vidcap.models.text import TextEncoder, TextShape

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = TextEncoder(TextShape(**SMALL | changed))
        with torch.no_grad():
            for value in network.parameters():
                value.add_(0.2 * torch.randn(value.shape))
    return network.eval()


def given(torch: Any) -> tuple[Any, Any, Any, Any]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 50, (2, 7), generator=generator)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    media = torch.randn(2, 5, 20, generator=generator)
    return ids, mask, media, torch.arange(5) < torch.tensor([[3], [5]])


@pytest.mark.parametrize(("size", "without_looking"), [("base", 109_514_298), ("large", 335_174_458)])
def test_numbers_are_those_of_bert_and_the_layers_that_look(torch: Any, size: str, without_looking: int) -> None:
    from vidcap.models.text import SHAPES, TextEncoder

    shape = SHAPES[size]
    with torch.device("meta"):
        network = TextEncoder(shape)
    width, media, looking = shape.width, shape.encoder_width, shape.layers - shape.fusion_layer
    cross = 2 * (width + 1) * width + 2 * (media + 1) * width + 2 * width
    assert looking == {"base": 3, "large": 5}[size]
    assert sum(value.numel() for value in network.parameters()) == without_looking + looking * cross


def test_keys_are_those_of_the_library_and_of_the_layers_that_look(torch: Any) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=12,
    )  # fmt: skip
    theirs = {key: value.shape for key, value in transformers.BertForMaskedLM(config).state_dict().items()}
    ours = {key: value.shape for key, value in small(torch).state_dict().items()}
    assert ours.pop("bert.embeddings.position_ids") == (1, 12)
    cross = {key: tuple(ours.pop(key)) for key in list(ours) if ".crossattention." in key}
    assert ours == theirs
    name = "bert.encoder.layer.2.crossattention"
    inner = {f"{name}.self.query": 32, f"{name}.self.key": 20, f"{name}.self.value": 20, f"{name}.output.dense": 32}
    expected: dict[str, tuple[int, ...]] = {f"{key}.weight": (32, width) for key, width in inner.items()}
    expected |= {f"{key}.bias": (32,) for key in inner}
    assert cross == expected | {f"{name}.output.LayerNorm.weight": (32,), f"{name}.output.LayerNorm.bias": (32,)}


def plain(torch: Any, network: Any, ids: Any, media: Any) -> tuple[Any, Any, Any]:
    """One text without filling, and media tokens without filling, in double precision, head by head."""
    s = {key: value.detach().double() for key, value in network.state_dict().items()}
    heads = network.shape.heads

    def linear(x: Any, name: str) -> Any:
        return x @ s[f"{name}.weight"].T + s[f"{name}.bias"]

    def norm(x: Any, name: str) -> Any:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-12).sqrt()
        return x * s[f"{name}.weight"] + s[f"{name}.bias"]

    def gelu(x: Any) -> Any:
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    def attention(x: Any, source: Any, name: str) -> Any:
        q, k, v = (linear(of, f"{name}.self.{each}") for of, each in ((x, "query"), (source, "key"), (source, "value")))
        size, mixed = q.shape[-1] // heads, []
        for h in range(heads):
            cut = slice(h * size, (h + 1) * size)
            mixed.append((q[:, cut] @ k[:, cut].T / math.sqrt(size)).softmax(-1) @ v[:, cut])
        return norm(linear(torch.cat(mixed, -1), f"{name}.output.dense") + x, f"{name}.output.LayerNorm")

    e = "bert.embeddings"
    x = s[f"{e}.word_embeddings.weight"][ids] + s[f"{e}.token_type_embeddings.weight"][0]
    x = norm(x + s[f"{e}.position_embeddings.weight"][: len(ids)], f"{e}.LayerNorm")
    hidden = x
    for at in range(network.shape.layers):
        if at == network.shape.fusion_layer:
            hidden = x
        name = f"bert.encoder.layer.{at}"
        x = attention(x, x, f"{name}.attention")
        if at >= network.shape.fusion_layer:
            x = attention(x, media.double(), f"{name}.crossattention")
        inner = linear(gelu(linear(x, f"{name}.intermediate.dense")), f"{name}.output.dense")
        x = norm(inner + x, f"{name}.output.LayerNorm")
    c = "cls.predictions"
    words = norm(gelu(linear(x, f"{c}.transform.dense")), f"{c}.transform.LayerNorm")
    return hidden, x, words @ s[f"{e}.word_embeddings.weight"].T + s[f"{c}.bias"]


def test_it_computes_what_the_keys_stand_for(torch: Any) -> None:
    network = small(torch)
    ids, mask, media, heard = given(torch)
    hidden = network(ids, mask)
    fused = network(hidden, mask, media, heard, mode="fusion")
    words = network.words(fused)
    assert words.shape == (2, 7, 50)
    for row in range(2):
        length, seen = int(mask[row].sum()), int(heard[row].sum())
        expected = plain(torch, network, ids[row, :length], media[row, :seen])
        for ours, theirs in zip((hidden, fused, words), expected, strict=True):
            assert torch.allclose(ours[row, :length].double(), theirs, atol=2e-5)


def test_filling_is_not_looked_at(torch: Any) -> None:
    network = small(torch)
    ids, mask, media, heard = given(torch)
    hidden = network(ids, mask)
    fused = network(hidden, mask, media, heard, mode="fusion")
    other_ids, other_media = torch.where(mask, ids, 49 - ids), torch.where(heard[..., None], media, 7.0)
    again = network(network(other_ids, mask), mask, other_media, heard, mode="fusion")
    assert torch.equal(fused[mask], again[mask])
    assert not torch.equal(fused[mask], network(hidden, mask, media.flip(0), heard, mode="fusion")[mask])
    with pytest.raises(ValueError, match="media"):
        network(hidden, mask, mode="fusion")


def test_words_are_one_table(torch: Any) -> None:
    network = small(torch)
    head = network.cls["predictions"]
    assert head.decoder.weight is network.bert["embeddings"].word_embeddings.weight
    assert head.decoder.bias is head.bias


def test_checkpointing_changes_no_number(torch: Any) -> None:
    ids, mask, media, heard = given(torch)
    found = []
    for again in (False, True):
        network = small(torch).train()
        network.gradient_checkpointing = again
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            fused = network(network(ids, mask), mask, media, heard, mode="fusion")
            fused.square().sum().backward()
        found.append((fused.detach(), [value.grad for value in network.parameters() if value.grad is not None]))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(one, other) for one, other in zip(found[0][1], found[1][1], strict=True))
