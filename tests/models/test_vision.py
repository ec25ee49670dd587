"""The vision encoder has the published keys and numbers, computes what they stand for, and sees what it is told to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.full
LISTING = Path(__file__).with_name("vision_tensors.txt")
"""Keys and shapes of a published file, 2 of its 40 blocks and 2 of its 6 heads for a teacher."""


@pytest.fixture(scope="module")
def torch() -> Iterator[Any]:
    module = pytest.importorskip("torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


def on_meta(torch: Any, **changed: Any) -> Any:
    from dataclasses import replace

    from vidcap.models.vision import SHAPES, VisionEncoder

    size = changed.pop("of", "1B")
    with torch.device("meta"):
        return VisionEncoder(replace(SHAPES[size], **changed))


def small(torch: Any, **changed: Any) -> Any:
    """Two blocks, weights of a size that makes every part of the network matter."""
    from vidcap.models.vision import VisionEncoder, VisionShape

    sizes = {"width": 32, "depth": 2, "heads": 4, "mlp_hidden": 48, "drop_path": 0.0, "patch": 4, "size": 12}
    sizes |= {"frames": 3, "pooled": 24, "pooled_heads": 2, "layer_scale": 0.5}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VisionEncoder(VisionShape(**sizes | changed))
        with torch.no_grad():
            for value in network.parameters():
                value.add_(0.15 * torch.randn(value.shape))
    return network.eval()


def frames_of(torch: Any, *shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def test_keys_and_shapes_of_the_published_layout(torch: Any) -> None:
    listed = dict(line.split(" ", 1) for line in LISTING.read_text().splitlines())
    network = on_meta(torch, depth=2, teacher_layers=2)
    found = {key: str(tuple(value.shape)) for key, value in network.state_dict().items()}
    extra = {key for key in found if key.startswith(("blocks.1.", "clip_decoder.1."))}
    assert {key: value for key, value in found.items() if key not in extra} == listed
    assert {key.replace("blocks.1.", "blocks.0.").replace("decoder.1.", "decoder.0.") for key in extra} <= set(listed)


@pytest.mark.parametrize(
    ("size", "width", "depth", "hidden", "teacher", "images"),
    [
        ("tiny", 96, 3, 384, 0, False),
        ("S", 384, 12, 1536, 0, False),
        ("B", 768, 12, 3072, 0, False),
        ("L", 1024, 24, 4096, 0, False),
        ("1B", 1408, 40, 6144, 6, True),
        ("6B", 3200, 48, 12800, 6, False),
    ],
)
def test_numbers_of_every_size(
    torch: Any, size: str, width: int, depth: int, hidden: int, teacher: int, images: bool
) -> None:
    tokens, pooled = (16, 96) if size == "tiny" else (256, 768)
    block = 4 * width**2 + width + 2 * width + 2 * width + 2 * width + 2 * width * hidden + hidden + width
    tables = 1 + 4 * tokens + (1 + tokens if images else 0)
    pool = 6 * width + 3 * width**2 + 3 * width + pooled * (width + 1)
    total = depth * block + pool + width + tables * width + width * (3 * 14 * 14 + 1)
    if teacher:
        total += tables * width + teacher * 3200 * (width + 3) + 768 * (768 + 3)
    network = on_meta(torch, of=size)
    assert sum(value.numel() for value in network.parameters()) == total
    assert len(network.blocks) == depth


def test_visible_tokens(torch: Any) -> None:
    from vidcap.models.masking import MaskSpec, kept, visible

    spec = MaskSpec()
    assert (visible(4, 256, spec), visible(1, 256, spec)) == (205, 128)
    network = on_meta(torch, of="B")
    for frames, count in ((4, 205), (1, 128)):
        keep = kept(2, frames, 256, spec, torch.Generator().manual_seed(0)).to("meta")
        seen = network(torch.zeros(2, frames, 3, 224, 224, device="meta"), keep)
        assert seen.tokens.shape == (2, count + 1, 768) and seen.pooled.shape == (2, 768)
    assert network(torch.zeros(1, 4, 3, 224, 224, device="meta")).tokens.shape == (1, 1025, 768)


def test_positions_begin_as_sines(torch: Any) -> None:
    from vidcap.models.positions import sine_positions

    table = sine_positions(32, 3, 5)[0].double()
    assert not table[0].any()
    for t, y, x in ((0, 0, 0), (2, 1, 4), (1, 4, 0)):
        expected = []
        for place, width in ((t, 8), (x, 12), (y, 12)):
            angles = [place / 10_000 ** (k / (width // 2)) for k in range(width // 2)]
            expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert table[1 + (t * 5 + y) * 5 + x].tolist() == pytest.approx(expected, abs=1e-6)


def plain(torch: Any, network: Any, frames: Any, keep: list[int], positions: Any) -> tuple[Any, Any, list[Any]]:
    """One sample in double precision, patch by patch and head by head; and the tokens behind each block."""
    s = {key: value.detach().double() for key, value in network.state_dict().items()}
    shape = network.shape
    p, grid = shape.patch, shape.size // shape.patch

    def rms(x: Any, name: str) -> Any:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * s[f"{name}.weight"]

    def norm(x: Any, name: str) -> Any:
        mean, spread = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / (spread + 1e-5).sqrt() * s[f"{name}.weight"] + s[f"{name}.bias"]

    def attend(q: Any, k: Any, v: Any, heads: int) -> Any:
        size = q.shape[-1] // heads
        parts = []
        for h in range(heads):
            cut = slice(h * size, (h + 1) * size)
            parts.append((q[:, cut] @ k[:, cut].T / math.sqrt(size)).softmax(-1) @ v[:, cut])
        return torch.cat(parts, -1)

    tokens = [s["cls_token"][0, 0] + positions[0]]
    for place in keep:
        t, y, x = place // grid**2, place // grid % grid, place % grid
        patch = frames[t, :, y * p : y * p + p, x * p : x * p + p].double()
        value = torch.einsum("ochw,chw->o", s["patch_embed.proj.weight"][:, :, 0], patch)
        tokens.append(value + s["patch_embed.proj.bias"] + positions[1 + place])
    x, after = torch.stack(tokens), []
    for at in range(shape.depth):
        b = f"blocks.{at}"
        q, k, v = (rms(x, f"{b}.norm1") @ s[f"{b}.attn.qkv.weight"].T).chunk(3, -1)
        mixed = attend(rms(q, f"{b}.attn.q_norm"), rms(k, f"{b}.attn.k_norm"), v, shape.heads)
        mixed = mixed @ s[f"{b}.attn.proj.weight"].T + s[f"{b}.attn.proj.bias"]
        x = x + mixed * s[f"{b}.ls1.gamma"]
        hidden = rms(x, f"{b}.norm2") @ s[f"{b}.mlp.fc1.weight"].T + s[f"{b}.mlp.fc1.bias"]
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = x + (hidden @ s[f"{b}.mlp.fc2.weight"].T + s[f"{b}.mlp.fc2.bias"]) * s[f"{b}.ls2.gamma"]
        after.append(x)
    c = "clip_projector"
    q = norm(x.mean(0, keepdim=True), f"{c}.norm1_q") @ s[f"{c}.cross_attn.q.weight"].T + s[f"{c}.cross_attn.q_bias"]
    k = norm(x, f"{c}.norm1_k") @ s[f"{c}.cross_attn.k.weight"].T + s[f"{c}.cross_attn.k_bias"]
    v = norm(x, f"{c}.norm1_v") @ s[f"{c}.cross_attn.v.weight"].T + s[f"{c}.cross_attn.v_bias"]
    pooled = attend(q, k, v, shape.pooled_heads) @ s[f"{c}.cross_attn.proj.weight"].T
    return x, (pooled + s[f"{c}.cross_attn.proj.bias"])[0], after


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_it_computes_what_the_keys_stand_for(torch: Any, images: bool, masked: bool) -> None:
    network = small(torch, image_positions=images)
    for count in (3, 1):
        table = network.pos_embed[0].detach().double()
        if count == 1 and images:
            table = network.img_pos_embed[0].detach().double()
        elif count == 1:
            table = torch.cat([table[:1], sum(table[1 + 9 * t : 10 + 9 * t] for t in range(3)) / 3])
        frames = frames_of(torch, 2, count, 3, 12, 12)
        rows = [[0, 4, 8], [1, 2, 7]] if masked else [list(range(9 * count))] * 2
        seen = network(frames, torch.tensor(rows) if masked else None)
        for at in range(2):
            tokens, pooled, _ = plain(torch, network, frames[at], rows[at], table)
            assert torch.allclose(seen.tokens[at].double(), tokens, atol=2e-5)
            assert torch.allclose(seen.pooled[at].double(), pooled, atol=2e-5)


def test_what_a_teacher_is_compared_with(torch: Any) -> None:
    network = small(torch, teacher_layers=1, teacher_width=20, teacher_pooled=10)
    frames, rows = frames_of(torch, 1, 3, 3, 12, 12), [2, 5, 11, 26]
    seen = network(frames, torch.tensor([rows]), for_teacher=True)
    s = {key: value.detach().double() for key, value in network.state_dict().items()}
    _, pooled, after = plain(torch, network, frames[0], rows, s["pos_embed"][0])

    def head(x: Any, name: str) -> Any:
        x = x @ s[f"{name}.head.weight"].T + s[f"{name}.head.bias"]
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        x = x * s[f"{name}.norm.weight"] + s[f"{name}.norm.bias"]
        return x / x.square().sum(-1, keepdim=True).sqrt()

    places = s["clip_pos_embed"][0, [0, *[1 + place for place in rows]]]
    assert len(seen.compared) == 1
    assert torch.allclose(seen.compared[0][0].double(), head(after[-1] + places, "clip_decoder.0"), atol=1e-5)
    assert torch.allclose(seen.compared_pooled[0].double(), head(pooled, "final_clip_decoder"), atol=1e-5)
    assert network(frames).compared == () and network(frames).compared_pooled is None


def test_checkpointing_changes_no_number(torch: Any) -> None:
    frames, found = frames_of(torch, 4, 3, 3, 12, 12), []
    for again in (False, True):
        network = small(torch, drop_path=0.5).train()
        network.gradient_checkpointing = again
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            seen = network(frames)
            (seen.tokens.square().mean() + seen.pooled.sum()).backward()
        found.append((seen.tokens.detach(), [value.grad for value in network.parameters() if value.grad is not None]))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(one, other) for one, other in zip(found[0][1], found[1][1], strict=True))


def test_a_branch_is_left_out_for_whole_samples_and_made_up_for(torch: Any) -> None:
    network = small(torch, drop_path=0.5).train()
    block = network.blocks[1]
    assert (network.blocks[0].drop, block.drop) == (0.0, 0.5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        branch = torch.ones(2000, 2, 3)
        kept = block._some(branch)
    values = kept.flatten(1)
    assert set(values.unique().tolist()) == {0.0, 2.0} and bool((values == values[:, :1]).all())
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.1)
    assert torch.equal(block.eval()._some(branch), branch)


def test_frames_of_another_kind_are_refused(torch: Any) -> None:
    network = small(torch)
    with pytest.raises(ValueError, match="2 frames were given to an encoder of 3"):
        network(frames_of(torch, 1, 2, 3, 12, 12))
    with pytest.raises(ValueError, match="16×12 pixels"):
        network(frames_of(torch, 1, 3, 3, 12, 16))


class TestStretched:
    def test_over_time_values_lie_on_the_line_between_neighbours(self, torch: Any) -> None:
        from vidcap.models.positions import stretched

        table = torch.zeros(1, 1 + 2 * 4, 1)
        table[0, 1:5], table[0, 5:], table[0, 0] = 1.0, 3.0, 9.0
        wide = stretched(table, (2, 2), (4, 2))[0, :, 0]
        assert wide.tolist() == pytest.approx([9.0, *[1.0] * 4, *[1.5] * 4, *[2.5] * 4, *[3.0] * 4])

    def test_over_the_picture_by_rows_and_columns(self, torch: Any) -> None:
        from vidcap.models.positions import stretched

        table = torch.cat(
            [torch.zeros(1, 1, 2), torch.randn(1, 2 * 9, 2, generator=torch.Generator().manual_seed(0))], 1
        )
        wide = stretched(table, (2, 3), (2, 6))
        assert wide.shape == (1, 1 + 2 * 36, 2)
        for frame in range(2):
            picture = table[0, 1 + 9 * frame : 10 + 9 * frame, 1].reshape(1, 1, 3, 3)
            expected = torch.nn.functional.interpolate(picture, (6, 6), mode="bicubic").flatten()
            assert torch.allclose(wide[0, 1 + 36 * frame : 37 + 36 * frame, 1], expected)
        assert stretched(table, (2, 3), (2, 3)) is table


class TestMasks:
    def test_each_sample_has_its_own_and_a_generator_gives_them_again(self, torch: Any) -> None:
        from vidcap.models.masking import MaskSpec, kept

        one, same, other = (kept(3, 4, 16, MaskSpec(), torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
        assert one.shape == (3, 13) and torch.equal(one, same) and not torch.equal(one, other)
        assert not torch.equal(one[0], one[1])
        assert bool((one.diff(dim=1) > 0).all()) and int(one.min()) >= 0 and int(one.max()) < 64

    def test_every_place_is_as_likely(self, torch: Any) -> None:
        from vidcap.models.masking import MaskSpec, kept

        places = kept(4000, 2, 8, MaskSpec(video=0.75), torch.Generator().manual_seed(0))
        assert places.shape == (4000, 4)
        share = places.flatten().bincount(minlength=16) / 4000
        assert share.tolist() == pytest.approx([0.25] * 16, abs=0.04)

    def test_a_tube_is_the_same_in_every_frame(self, torch: Any) -> None:
        from vidcap.models.masking import MaskSpec, kept, visible

        spec = MaskSpec(kind="tube")
        places = kept(2, 4, 16, spec, torch.Generator().manual_seed(0))
        assert places.shape == (2, visible(4, 16, spec)) == (2, 16)
        first = places[:, :4]
        assert torch.equal(places, torch.cat([first + 16 * t for t in range(4)], 1)) and int(first.max()) < 16

    def test_attention_chooses_what_is_attended_to(self, torch: Any) -> None:
        from vidcap.models.masking import MaskSpec, kept

        attention = torch.full((2, 16), 1e-9)
        attention[0, [3, 5, 9]] = 1.0
        attention[1, [0, 8, 15]] = 1.0
        places = kept(2, 1, 16, MaskSpec(image=0.85, kind="attention"), torch.Generator().manual_seed(0), attention)
        assert places.tolist() == [[3, 5, 9], [0, 8, 15]]
        with pytest.raises(ValueError, match="attention"):
            kept(2, 1, 16, MaskSpec(kind="attention"), torch.Generator())
