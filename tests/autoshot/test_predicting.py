"""Windows run in batches that memory allows; the probabilities do not depend on the batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vidcap.errors import BackendError, TransientError

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture
def network(torch: Any) -> Any:
    """Its logits are a pixel's brightness, of the frame itself and of the one before; it notes what it is given."""

    class Brightness(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(0.1))
            self.most = 10**9
            self.failure: type[Exception] = torch.OutOfMemoryError
            self.batches: list[int] = []
            self.threads: set[int] = set()

        def arranged(self, thumbnails: Any) -> Any:
            return thumbnails

        def forward(self, frames: Any) -> Any:
            assert not torch.is_grad_enabled()
            self.threads.add(torch.get_num_threads())
            if len(frames) > self.most:
                raise self.failure("simulated")
            self.batches.append(len(frames))
            seen = (frames[:, :, 0, 0, :1].float() - 128) * self.scale
            return seen, seen.roll(1, 1)

    return Brightness()


def predictor(network: Any, **options: Any) -> Any:
    from vidcap.autoshot.predicting import Predictor

    return Predictor(network, "cpu", **options)


VIDEO = np.random.default_rng(0).integers(0, 256, (430, 27, 48, 3)).astype(np.uint8)


def expected() -> Any:
    return 1 / (1 + np.exp(-(VIDEO[:, 0, 0, 0].astype(float) - 128) * 0.1))


@pytest.mark.parametrize("windows", [None, 1, 2, 4, 100])
def test_every_frame_gets_its_own_probabilities(network: Any, windows: int | None) -> None:
    one_hot, many_hot = predictor(network, windows_per_batch=windows)(VIDEO)
    assert one_hot.dtype == many_hot.dtype == np.float32
    assert np.allclose(one_hot, expected(), atol=1e-6)
    assert np.allclose(many_hot[1:], expected()[:-1], atol=1e-6)
    assert sum(network.batches) == 9
    assert max(network.batches) == min(windows or 1, 9)


@pytest.mark.parametrize("frames", [1, 2, 50, 51])
def test_short_videos(network: Any, frames: int) -> None:
    one_hot, many_hot = predictor(network, windows_per_batch=3)(VIDEO[:frames])
    assert np.allclose(one_hot, expected()[:frames], atol=1e-6)
    assert len(many_hot) == frames


def test_out_of_memory_halves_the_batch_and_goes_on(network: Any) -> None:
    network.most = 2
    run = predictor(network, windows_per_batch=8)
    one_hot, _ = run(VIDEO)
    assert np.allclose(one_hot, expected(), atol=1e-6)
    assert network.batches == [2, 2, 2, 2, 1]
    run(VIDEO)
    assert network.batches[5:] == [2, 2, 2, 2, 1]  # not tried again


def test_the_cpu_allocator_counts_as_memory(network: Any) -> None:
    class CpuError(RuntimeError):
        def __init__(self, _: str) -> None:
            super().__init__("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")

    network.most, network.failure = 1, CpuError
    assert np.allclose(predictor(network, windows_per_batch=5)(VIDEO)[0], expected(), atol=1e-6)


def test_no_memory_for_one_window_is_worth_another_try(network: Any) -> None:
    network.most = 0
    with pytest.raises(TransientError, match="no memory left for a single window"):
        predictor(network, windows_per_batch=4)(VIDEO)


def test_other_failures_are_not_hidden(network: Any) -> None:
    network.most, network.failure = 0, RuntimeError
    with pytest.raises(RuntimeError, match="simulated"):
        predictor(network)(VIDEO)


@pytest.mark.parametrize("fails", [False, True])
def test_threads_are_as_told_and_afterwards_as_before(torch: Any, network: Any, fails: bool) -> None:
    before = torch.get_num_threads()
    network.most, network.failure = (0 if fails else 9), RuntimeError
    run = predictor(network, threads=before + 1)
    if fails:
        with pytest.raises(RuntimeError):
            run(VIDEO)
    else:
        run(VIDEO)
    assert network.threads == {before + 1}
    assert torch.get_num_threads() == before
    assert torch.is_grad_enabled()


def test_a_device_that_is_not_there_names_the_mend(torch: Any, network: Any) -> None:
    from vidcap.autoshot.predicting import Predictor

    for device in ("cuda:77", "abacus", "meta:x"):
        with pytest.raises(BackendError, match=f"device `{device}` cannot be used.*\n?.*hint: `cpu`"):
            Predictor(network, device)


def test_bf16_is_near_fp32(torch: Any) -> None:
    from shot_checkpoints import random_state

    from vidcap.autoshot.networks.autoshot import AutoShotNetwork

    network = AutoShotNetwork()
    network.load_state_dict(random_state(network))
    exact = predictor(network, precision="fp32")(VIDEO[:60])[0]
    near = predictor(network, precision="bf16")(VIDEO[:60])[0]
    assert 0 < np.abs(near - exact).max() < 0.05
    assert np.array_equal(predictor(network)(VIDEO[:60])[0], exact)  # auto, on a CPU


@pytest.mark.gpu
def test_a_gpu_gives_the_cpus_probabilities(torch: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    from shot_checkpoints import random_state

    from vidcap.autoshot.networks.autoshot import AutoShotNetwork
    from vidcap.autoshot.predicting import Predictor

    network = AutoShotNetwork()
    network.load_state_dict(random_state(network))
    exact = predictor(network)(VIDEO)[0]
    assert np.abs(Predictor(network, "cuda:0", precision="fp32")(VIDEO)[0] - exact).max() < 0.01  # TF32 convolutions
    assert np.abs(Predictor(network, "cuda:0")(VIDEO)[0] - exact).max() < 0.05
