"""Writes a trained network: as ONNX with what it was trained as inside, or its tensors as detectors load them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from vidcap.store import PosixStore

OPSET = 18
MOST_FRAMES = 4096


class _Probabilities(nn.Module):
    """The network as it is asked later: bytes in, probabilities out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor, histograms: Tensor) -> Tensor:
        return torch.sigmoid(self.network(frames.float(), histograms))


def export(network: nn.Module, path: Path, about: Mapping[str, str]) -> None:
    """Write `network` to `path`; `about` goes into the file's metadata.

    Inputs `frames` (1×T×27×48×3 uint8) and `histograms` (1×T×512 float32), output `probabilities` (1×2×T).
    """
    import onnx

    wrapped = _Probabilities(network.eval().cpu())
    example = (torch.zeros(1, 100, 27, 48, 3, dtype=torch.uint8), torch.zeros(1, 100, 512))
    frames = torch.export.Dim("frames", min=2, max=MOST_FRAMES)
    with warnings.catch_warnings():
        # The exporter warns of its own coming changes.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            wrapped,
            example,
            input_names=["frames", "histograms"],
            output_names=["probabilities"],
            dynamic_shapes=({1: frames}, {1: frames}),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    # Traces of the machine it was made on: paths and stack traces.
    for node in (*model.graph.node, *(n for function in model.functions for n in function.node)):
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    onnx.helper.set_model_props(model, dict(sorted(about.items())))
    onnx.checker.check_model(model)
    PosixStore(path.parent).write(path.name, model.SerializeToString(deterministic=True))


def save(network: nn.Module, path: Path, about: Mapping[str, str]) -> None:
    """The tensors by key: `.safetensors` with `about` as metadata, else in the published layout `{"net": …}`."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    store = PosixStore(path.parent)
    if path.suffix == ".safetensors":
        from safetensors.torch import save as serialised

        store.write(path.name, serialised(state, dict(sorted(about.items()))))
        return
    held = io.BytesIO()
    torch.save({"net": state}, held)
    store.write(path.name, held.getvalue())
