"""BEATs has the published keys and numbers, computes what they stand for, and loads published files strictly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tiny_models.beats import CFG, make_beats, state_of

from vidcap.errors import BackendError

pytestmark = pytest.mark.full
HINT = "get it there"


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


def test_tensors_and_numbers_of_the_published_size(torch: Any) -> None:
    from vidcap.models.beats import Beats

    with torch.device("meta"):
        network = Beats()
    state = network.state_dict()
    assert len(state) == 250
    assert sum(value.numel() for value in network.parameters()) == 90_311_792
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert shapes["encoder.pos_conv.0.weight_g"] == (1, 1, 128)
    assert shapes["encoder.pos_conv.0.weight_v"] == (768, 48, 128)
    assert shapes["patch_embedding.weight"] == (512, 1, 16, 16)
    assert shapes["encoder.layers.11.self_attn.relative_attention_bias.weight"] == (320, 12)
    assert shapes["encoder.layers.7.self_attn.grep_linear.weight"] == (8, 64)
    assert shapes["encoder.layers.7.self_attn.grep_a"] == (1, 12, 1, 1)
    assert network(torch.zeros(1, 998, 128, device="meta")).shape == (1, 496, 768)
    assert network(torch.zeros(2, 998, 64, device="meta")).shape == (2, 248, 768)


def plain(state: dict[str, Any], cfg: dict[str, Any], spectrum: Any) -> Any:
    """The network in double precision, step by step, without the guard against overflow."""
    import torch
    from torch.nn import functional

    s = {key: value.double() for key, value in state.items()}
    width, heads = cfg["encoder_embed_dim"], cfg["encoder_attention_heads"]
    head = width // heads

    def norm(x: Any, name: str) -> Any:
        return functional.layer_norm(x, x.shape[-1:], s[f"{name}.weight"], s[f"{name}.bias"], 1e-5)

    def linear(x: Any, name: str) -> Any:
        return x @ s[f"{name}.weight"].T + s[f"{name}.bias"]

    patches = []
    for t in range(len(spectrum) // 16):
        for m in range(spectrum.shape[1] // 16):
            patch = spectrum[16 * t : 16 * t + 16, 16 * m : 16 * m + 16].double()
            patches.append(torch.einsum("ohw,hw->o", s["patch_embedding.weight"][:, 0], patch))
    x = linear(norm(torch.stack(patches), "layer_norm"), "post_extract_proj")

    v, g, taps = s["encoder.pos_conv.0.weight_v"], s["encoder.pos_conv.0.weight_g"], cfg["conv_pos"]
    weight = torch.stack([v[..., k] / v[..., k].pow(2).sum().sqrt() * g[0, 0, k] for k in range(taps)], -1)
    places = functional.conv1d(x.T[None], weight, s["encoder.pos_conv.0.bias"], padding=taps // 2, groups=4)
    x = norm(x + functional.gelu(places[0, :, :-1].T), "encoder.layer_norm")

    count = len(x)
    table = s["encoder.layers.0.self_attn.relative_attention_bias.weight"]
    half, exact = cfg["num_buckets"] // 2, cfg["num_buckets"] // 4
    bias = torch.zeros(heads, count, count, dtype=torch.float64)
    for i in range(count):
        for j in range(count):
            d = abs(j - i)
            far = exact
            if d >= exact:
                far += int(math.log(d / exact) / math.log(cfg["max_distance"] / exact) * (half - exact))
            bias[:, i, j] = table[(half if j > i else 0) + (d if d < exact else min(far, half - 1))]
    alpha = (2 * cfg["encoder_layers"]) ** 0.25
    for at in range(cfg["encoder_layers"]):
        name = f"encoder.layers.{at}"
        q, k, value = (linear(x, f"{name}.self_attn.{each}_proj") for each in "qkv")
        mixed = torch.zeros_like(x)
        for h in range(heads):
            part = slice(h * head, (h + 1) * head)
            both = linear(q[:, part], f"{name}.self_attn.grep_linear")
            a, b = both[:, :4].sum(1).sigmoid(), both[:, 4:].sum(1).sigmoid()
            gate = a * (b * s[f"{name}.self_attn.grep_a"][0, h, 0, 0] - 1) + 2
            logits = q[:, part] @ k[:, part].T / math.sqrt(head) + gate[:, None] * bias[h]
            mixed[:, part] = logits.softmax(1) @ value[:, part]
        x = norm(alpha * x + linear(mixed, f"{name}.self_attn.out_proj"), f"{name}.self_attn_layer_norm")
        hidden = functional.gelu(linear(x, f"{name}.fc1"))
        x = norm(alpha * x + linear(hidden, f"{name}.fc2"), f"{name}.final_layer_norm")
    return x


def test_it_computes_what_the_keys_stand_for(torch: Any, tmp_path: Path) -> None:
    from vidcap.models.beats import load_beats

    make_beats(tmp_path)
    network = load_beats(tmp_path / "beats.pt", hint=HINT).network
    spectrum = torch.randn(2, 400, 64, generator=torch.Generator().manual_seed(3))
    ours = network(spectrum)
    assert ours.shape == (2, 100, 48)
    for row in range(2):
        assert torch.allclose(ours[row].double(), plain(state_of(), CFG, spectrum[row]), atol=2e-5)


def test_large_logits_do_not_overflow_half_precision(torch: Any, tmp_path: Path) -> None:
    from vidcap.models.beats import load_beats

    make_beats(tmp_path)
    network = load_beats(tmp_path / "beats.pt", hint=HINT).network
    with torch.no_grad():
        for layer in network.encoder.layers:
            layer.self_attn.q_proj.weight.mul_(300)
            layer.self_attn.k_proj.weight.mul_(300)
    spectrum = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        x = network.layer_norm(network.patch_embedding(spectrum[:, None]).flatten(2).transpose(1, 2))
        first = network.encoder.layers[0].self_attn
        q, k = first.q_proj(network.post_extract_proj(x)), first.k_proj(network.post_extract_proj(x))
        assert float((q @ k.transpose(1, 2)).abs().max()) > 65504  # it would
    assert bool(network.half()(spectrum.half()).isfinite().all())


def test_training_drops_layers_and_shrinks_gradients_downwards(torch: Any) -> None:
    from vidcap.models.beats import Beats, BeatsShape

    sizes = {key: value for key, value in CFG.items() if key in BeatsShape.__dataclass_fields__}
    spectrum = torch.randn(1, 64, 32, generator=torch.Generator().manual_seed(3))

    def gradient(decay: float) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            shape = BeatsShape(**sizes | {"layer_wise_gradient_decay_ratio": decay, "encoder_layerdrop": 0.0})
            network = Beats(shape).train()
            network(spectrum).square().sum().backward()
        return network.post_extract_proj.weight.grad, network.encoder.layers[1].fc1.weight.grad

    (bottom, top), (bottom_whole, top_whole) = gradient(0.5), gradient(1.0)
    assert torch.allclose(top, top_whole)
    assert torch.allclose(bottom, bottom_whole / 4, rtol=1e-4, atol=1e-7)
    with torch.random.fork_rng(devices=[]):
        network = Beats(BeatsShape(**sizes | {"encoder_layerdrop": 1.0}))
        assert torch.equal(network.train()(spectrum), network.train()(spectrum))
        assert not torch.equal(network.train()(spectrum), network.eval()(spectrum))


class TestFiles:
    def test_a_fine_tuned_file_hands_its_classifier_over(self, torch: Any, tmp_path: Path) -> None:
        from vidcap.models.beats import load_beats

        make_beats(tmp_path, name="plain.pt")
        make_beats(tmp_path, classes=527, name="tuned.pt")
        before = torch.random.get_rng_state()
        plain_file = load_beats(tmp_path / "plain.pt", hint=HINT)
        tuned = load_beats(tmp_path / "tuned.pt", hint=HINT)
        assert torch.equal(before, torch.random.get_rng_state())
        assert plain_file.predictor == {}
        assert {key: tuple(value.shape) for key, value in tuned.predictor.items()} == {
            "weight": (527, 48),
            "bias": (527,),
        }
        spectrum = torch.zeros(1, 64, 32)
        assert torch.equal(plain_file.network(spectrum), tuned.network(spectrum))
        assert not tuned.network.training
        assert not any(value.requires_grad for value in tuned.network.parameters())

    def test_the_table_stays_one(self, torch: Any, tmp_path: Path) -> None:
        from vidcap.models.beats import load_beats

        make_beats(tmp_path)
        network = load_beats(tmp_path / "beats.pt", hint=HINT).network
        first, second = (layer.self_attn.relative_attention_bias for layer in network.encoder.layers)
        assert first is second
        state = state_of()
        state["encoder.layers.1.self_attn.relative_attention_bias.weight"] += 1
        torch.save({"cfg": CFG, "model": state}, tmp_path / "two.pt")
        with pytest.raises(BackendError, match="share one table"):
            load_beats(tmp_path / "two.pt", hint=HINT)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"layer_norm_first": True}, "`layer_norm_first: True`"),
            ({"deep_norm": False}, "`deep_norm: False`"),
            ({"encoder_layers": 3}, "missing: encoder.layers.2.self_attn"),
            ({"encoder_layers": -1}, "`encoder_layers: -1`"),
            ({"encoder_layers": 10**9}, "`encoder_layers: 1000000000`"),
            ({"encoder_embed_dim": "48"}, "`encoder_embed_dim: 48`"),
            ({"encoder_attention_heads": 5}, "fit no network"),
            ({"embed_dim": 64}, r"patch_embedding.weight is \(32, 1, 16, 16\), not \(64, 1, 16, 16\)"),
        ],
    )
    def test_what_the_network_cannot_be_is_refused(
        self, torch: Any, tmp_path: Path, change: dict[str, Any], message: str
    ) -> None:
        from vidcap.models.beats import load_beats

        torch.save({"cfg": CFG | change, "model": state_of()}, tmp_path / "odd.pt")
        with pytest.raises(BackendError, match=message) as caught:
            load_beats(tmp_path / "odd.pt", hint=HINT)
        assert caught.value.hint == HINT

    @pytest.mark.parametrize("held", [{"model": {}}, {"cfg": CFG, "model": [1]}, {"cfg": [1], "model": {}}, [1, 2]])
    def test_other_files_are_refused(self, torch: Any, tmp_path: Path, held: Any) -> None:
        from vidcap.models.beats import load_beats

        torch.save(held, tmp_path / "other.pt")
        with pytest.raises(BackendError, match=r"other\.pt"):
            load_beats(tmp_path / "other.pt", hint=HINT)
