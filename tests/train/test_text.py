# What follows the check for torch needs torch.
# ruff: noqa: E402
"""Captions as token ids."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.full

from vidcap.errors import UsageError
from vidcap.train.text import WordPieceTokens, normalised

CAPTIONS = [f"A {colour} {thing} is moving" for colour in ("red", "green", "reddish") for thing in ("car", "cart")]


def test_captions_are_normalised_as_the_text_encoder_was_taught() -> None:
    assert normalised('Hello, world! (A "test"): it\'s *fun*; #1 ~ yes?') == "hello world a test its fun 1 yes"
    assert normalised("black-and-white/grey  <person> walks") == "black and white grey person walks"
    assert normalised(" .,! ") == ""


def test_ids_begin_and_end_and_are_padded() -> None:
    tokens = WordPieceTokens.learnt(CAPTIONS, 200)
    assert [tokens.pad_id, tokens.unk_id, tokens.cls_id, tokens.sep_id, tokens.mask_id] == [0, 1, 2, 3, 4]
    ids, mask = tokens.encode(["A red car.", "", "a red car is moving a red cart"], 7)
    assert ids.shape == mask.shape == (3, 7)
    assert ids[0, 0] == 2 and ids[0, mask[0].sum() - 1] == 3 and not ids[0][~mask[0]].any()
    assert tokens.words(ids[0].tolist()) == "a red car"
    assert not ids[1].any() and not mask[1].any()
    assert mask[2].all() and ids[2, -1] == 3  # cut off, but ended
    assert ids.max() < tokens.vocab_size


def test_the_same_captions_give_the_same_pieces_in_every_process() -> None:
    code = (
        "import hashlib; from vidcap.train.text import WordPieceTokens\n"
        f"print(hashlib.sha256(WordPieceTokens.learnt({CAPTIONS!r}, 60).to_json().encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
            env={"PYTHONHASHSEED": n},
        ).stdout
        for n in ("1", "2")
    }
    here = WordPieceTokens.learnt(CAPTIONS, 60).to_json()
    assert len(digests) == 1 and WordPieceTokens.learnt(CAPTIONS, 60).to_json() == here


def test_they_travel_and_are_read_again(tmp_path: Path) -> None:
    tokens = WordPieceTokens.learnt(CAPTIONS, 200)
    tokens.save(tmp_path / "tokenizer.json")
    for again in (pickle.loads(pickle.dumps(tokens)), WordPieceTokens.read(tmp_path)):
        assert again.encode(CAPTIONS, 12)[0].tolist() == tokens.encode(CAPTIONS, 12)[0].tolist()


def test_a_bert_vocabulary(tmp_path: Path) -> None:
    pieces = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "##dish", "car"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    tokens = WordPieceTokens.read(tmp_path)
    assert tokens.encode(["Reddish car, boat"], 8)[0].tolist() == [[3, 6, 7, 8, 2, 4, 0, 0]]
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(UsageError, match="no \\[UNK\\]"):
        WordPieceTokens.read(tmp_path)
    with pytest.raises(UsageError, match="no tokenizer in"):
        WordPieceTokens.read(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no tokenizer"):
        WordPieceTokens("{}")
