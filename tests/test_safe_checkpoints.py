"""Files of weights are read without running anything, networks are filled whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vidcap import safe_checkpoints
from vidcap.errors import BackendError

HINT = "get them there"


class TestDifferences:
    """No torch is needed to compare listings."""

    def test_equal_listings_have_none(self) -> None:
        assert safe_checkpoints.differences({"a": (1, 2), "b": ()}, {"b": (), "a": [1, 2]}) == []

    def test_every_kind_is_named(self) -> None:
        wrong = safe_checkpoints.differences({"a": (1,), "b": (2,), "c": ()}, {"b": (2, 1), "c": (), "d": (1,)})
        assert wrong == ["missing: a", "unexpected: d", "shape: b is (2, 1), not (2,)"]

    def test_many_are_counted(self) -> None:
        (missing,) = safe_checkpoints.differences({f"k{i}": () for i in range(25)}, {})
        assert missing.startswith("missing: k0, k1, ")
        assert missing.endswith(", k9 and 15 more")


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.mark.full
class TestFiles:
    def test_tensors_stand_under_a_key_or_by_themselves(self, torch: Any, tmp_path: Path) -> None:
        tensors = {"a": torch.arange(3.0)}
        torch.save({"model": tensors, "epoch": 3}, tmp_path / "under.pt")
        torch.save(tensors, tmp_path / "flat.pt")
        for name in ("under.pt", "flat.pt"):
            found = safe_checkpoints.tensors_of(tmp_path / name, hint=HINT, under="model")
            assert list(found) == ["a"] and torch.equal(found["a"], tensors["a"])
        with pytest.raises(BackendError, match="holds more than tensors: model, epoch"):
            safe_checkpoints.tensors_of(tmp_path / "under.pt", hint=HINT)

    def test_metadata_of_safetensors(self, torch: Any, tmp_path: Path) -> None:
        save_file = pytest.importorskip("safetensors.torch").save_file
        save_file({"a": torch.zeros(2)}, tmp_path / "with.safetensors", metadata={"kind": "test"})
        save_file({"a": torch.zeros(2)}, tmp_path / "without.safetensors")
        assert safe_checkpoints.metadata_of(tmp_path / "with.safetensors", hint=HINT) == {"kind": "test"}
        assert safe_checkpoints.metadata_of(tmp_path / "without.safetensors", hint=HINT) == {}
        (tmp_path / "odd.safetensors").write_bytes(b"no weights")
        for name in ("odd.safetensors", "none.safetensors"):
            with pytest.raises(BackendError, match=name):
                safe_checkpoints.metadata_of(tmp_path / name, hint=HINT)
