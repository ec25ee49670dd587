"""The Q-Former has the published names and computes what the library's own one does with the same weights."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.full
SMALL = {"encoder_width": 20, "hidden": 32, "layers": 4, "heads": 4, "feed_forward": 48, "queries": 3}


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


def prefix_of(torch: Any, **changed: Any) -> Any:
    from vidcap.models.qformer import QFormerShape, SoundPrefix

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prefix = SoundPrefix(QFormerShape(**SMALL | {"extra_queries": 5} | changed), 40)
        with torch.no_grad():
            for value in prefix.parameters():
                value.add_(0.2 * torch.randn(value.shape))
    return prefix.eval()


def test_names_and_sizes_of_the_published_layout(torch: Any) -> None:
    from vidcap.models.qformer import QFormerShape, SoundPrefix

    with torch.device("meta"):
        prefix = SoundPrefix(QFormerShape(), 4096)
    shapes = {key: tuple(value.shape) for key, value in prefix.state_dict().items()}
    assert shapes["query_tokens"] == (1, 32, 768) and shapes["extra_query_tokens"] == (1, 64, 768)
    assert shapes["llama_proj.weight"] == (4096, 768)
    layer = "qformer.bert.encoder.layer"
    looking = sorted({int(key.split(".")[4]) for key in shapes if "crossattention" in key})
    assert looking == [0, 2, 4, 6, 8, 10]
    assert shapes[f"{layer}.10.crossattention.self.key.weight"] == (768, 768)
    assert shapes[f"{layer}.11.intermediate_query.dense.weight"] == (3072, 768)
    assert shapes[f"{layer}.11.output_query.LayerNorm.bias"] == (768,)
    assert shapes["qformer.bert.embeddings.LayerNorm.weight"] == (768,)
    assert not [key for key in shapes if "word_embeddings" in key or ".intermediate." in key or ".cls." in key]
    assert len(shapes) == 260
    assert prefix(torch.zeros(2, 496, 768, device="meta")).shape == (2, 96, 4096)


def test_queries_begin_as_they_should(torch: Any) -> None:
    from vidcap.models.qformer import QFormerShape, SoundPrefix

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prefix = SoundPrefix(QFormerShape(layers=2), 8)
    assert float(prefix.query_tokens.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not bool(prefix.extra_query_tokens.detach().any())
    dense = prefix.qformer["bert"].encoder["layer"][0].intermediate_query["dense"]
    assert float(dense.weight.detach().std()) == pytest.approx(0.02, rel=0.05) and not bool(dense.bias.any())


def test_it_computes_what_the_library_computes(torch: Any) -> None:
    transformers = pytest.importorskip("transformers")
    prefix = prefix_of(torch)
    config = transformers.Blip2QFormerConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=48,
        encoder_hidden_size=20,
        attn_implementation="eager",
    )
    from transformers.models.blip_2.modeling_blip_2 import Blip2QFormerModel

    theirs = Blip2QFormerModel(config).eval()
    renamed = {}
    for key, value in prefix.qformer.state_dict().items():
        name = key.removeprefix("bert.").replace("embeddings.LayerNorm", "layernorm")
        renamed[name.replace("attention.self.", "attention.attention.")] = value
    theirs.load_state_dict(renamed, strict=True)
    tokens = torch.randn(2, 9, 20, generator=torch.Generator().manual_seed(1))
    heard = torch.ones(2, 9, dtype=torch.bool)
    heard[1, 6:] = False
    queries = torch.cat([prefix.query_tokens, prefix.extra_query_tokens], 1).expand(2, -1, -1)
    with torch.no_grad():
        expected = theirs(
            query_embeds=queries,
            encoder_hidden_states=prefix.ln_audio(tokens),
            encoder_attention_mask=heard.long(),
        ).last_hidden_state
        found = prefix(tokens, heard)
    assert torch.allclose(found, prefix.llama_proj(expected), atol=1e-5)


def test_filling_is_not_looked_at(torch: Any) -> None:
    prefix = prefix_of(torch)
    tokens = torch.randn(1, 9, 20, generator=torch.Generator().manual_seed(1))
    heard = torch.arange(9)[None] < 6
    other = torch.where(heard[..., None], tokens, torch.full_like(tokens, 7.0))
    with torch.no_grad():
        assert torch.allclose(prefix(tokens, heard), prefix(other, heard))
        assert torch.allclose(prefix(tokens, heard), prefix(tokens[:, :6]), atol=1e-5)
        assert not torch.allclose(prefix(tokens), prefix(other), atol=1e-2)


def test_zero_queries_come_apart_where_dropout_tells_them_apart(torch: Any) -> None:
    from vidcap.models.qformer import QFormerShape, SoundPrefix

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prefix = SoundPrefix(QFormerShape(**SMALL, extra_queries=5), 40).train()
        tokens = torch.randn(2, 9, 20)
        optimiser = torch.optim.AdamW(prefix.parameters(), lr=1e-3)
        for _ in range(2):
            optimiser.zero_grad()
            prefix(tokens).square().sum().backward()
            optimiser.step()
    extra = prefix.extra_query_tokens.detach()[0]
    assert float((extra[0] - extra[1]).abs().max()) > 1e-4
