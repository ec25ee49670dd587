"""Captions as token ids: WordPiece, learnt from the captions at hand or read from a BERT folder."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidcap.errors import UsageError
from vidcap.store import replacing

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""In this order where the tokens are learnt here: their ids are 0 to 4."""
HINT = "give a `tokenizer.json` or a BERT `vocab.txt`"
MOST_LETTERS = 100
"""A longer word is unknown, as in BERT."""

_DROPPED = re.compile(r"[,.'!?\"()*#:;~]")
_BLANKED = re.compile(r"[-/]")
_BLANKS = re.compile(r"\s{2,}")


def normalised(caption: str) -> str:
    """A caption as the text encoder was taught: lower case, no punctuation, hyphens and slashes as blanks."""
    text = _DROPPED.sub("", caption.lower())
    text = _BLANKED.sub(" ", text).replace("<person>", "person")
    return _BLANKS.sub(" ", text).strip()


class WordPieceTokens:
    """Texts → ids of fixed length, [CLS] … [SEP] [PAD]. Goes to other processes as its JSON."""

    def __init__(self, json_text: str) -> None:
        """From what a `tokenizer.json` holds. Raises `UsageError` where it is not one or lacks a special token."""
        library = _library()
        self._json = json_text
        try:
            self._tokens = library.Tokenizer.from_str(json_text)
        except Exception as error:  # the library raises plain exceptions for whatever it stumbles over
            raise UsageError(f"no tokenizer: {error}", hint=HINT) from error
        self._tokens.no_padding()
        self._tokens.no_truncation()
        found = {name: self._tokens.token_to_id(name) for name in SPECIAL}
        missing = [name for name, number in found.items() if number is None]
        if missing or found["[PAD]"] != 0:
            what = f"has no {', '.join(missing)}" if missing else "does not number [PAD] as 0"
            raise UsageError(f"the tokenizer {what}", hint="it must be one of BERT")
        self.special_ids: dict[str, int] = found
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (found[name] for name in SPECIAL)

    def __reduce__(self) -> tuple[Any, ...]:
        return (WordPieceTokens, (self._json,))

    @classmethod
    def learnt(cls, captions: Iterable[str], vocabulary: int) -> WordPieceTokens:
        """At most `vocabulary` pieces, learnt from normalised captions; the same captions give the same pieces.

        Letters beyond the most frequent quarter of `vocabulary` stay unknown.
        """
        library = _library()
        texts = [normalised(caption) for caption in captions]
        counts = Counter(letter for text in texts for letter in text if not letter.isspace())
        letters = sorted(counts, key=lambda letter: (-counts[letter], letter))[: max(1, vocabulary // 4)]
        letters.sort()
        inner = [f"##{letter}" for letter in letters]
        tokens = _word_pieces(library, {})
        trainer = library.trainers.WordPieceTrainer(
            vocab_size=vocabulary,
            # Pieces inside of words would be numbered in the order of a hash map, and ties be broken by number:
            # named here they are numbered in this order.
            special_tokens=[*SPECIAL, *inner],
            initial_alphabet=letters,
            limit_alphabet=len(letters),
            show_progress=False,
        )
        tokens.train_from_iterator(texts, trainer)
        return cls(_word_pieces(library, tokens.get_vocab()).to_str())

    @classmethod
    def read(cls, path: Path) -> WordPieceTokens:
        """From a `tokenizer.json`, a BERT `vocab.txt`, or a folder that has one of them."""
        if path.is_dir():
            path = next((path / name for name in ("tokenizer.json", "vocab.txt") if (path / name).is_file()), path)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"no tokenizer in `{path}`", hint=HINT) from error
        return cls._of_vocabulary(text.split("\n")) if path.suffix == ".txt" else cls(text)

    @classmethod
    def _of_vocabulary(cls, lines: Sequence[str]) -> WordPieceTokens:
        library = _library()
        vocabulary = {line.strip(): number for number, line in enumerate(lines) if line.strip()}
        if "[UNK]" not in vocabulary:
            raise UsageError("the vocabulary has no [UNK]", hint="it must be one of BERT, a piece on each line")
        return cls(_word_pieces(library, vocabulary).to_str())

    def to_json(self) -> str:
        """What a `tokenizer.json` holds."""
        return self._json

    def save(self, path: Path) -> None:
        with replacing(path) as temporary:
            temporary.write_text(self._json, encoding="utf-8")

    @property
    def vocab_size(self) -> int:
        return int(self._tokens.get_vocab_size(with_added_tokens=True))

    def encode(self, captions: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """Ids and mask (True = token), each B×`length`. Captions are normalised; the rest of a long one is cut off.

        An empty text gives a row of padding.
        """
        ids = torch.full((len(captions), length), self.pad_id, dtype=torch.int64)
        mask = torch.zeros((len(captions), length), dtype=torch.bool)
        for row, caption in enumerate(captions):
            text = normalised(caption)
            if not text:
                continue
            # One by one: a batch would start threads, which a forked worker must not inherit.
            pieces = self._tokens.encode(text, add_special_tokens=False).ids[: length - 2]
            whole = [self.cls_id, *pieces, self.sep_id]
            ids[row, : len(whole)] = torch.tensor(whole)
            mask[row, : len(whole)] = True
        return ids, mask

    def words(self, ids: Sequence[int]) -> str:
        """The text of ids, without special tokens."""
        return str(self._tokens.decode(list(ids), skip_special_tokens=True))


def _word_pieces(library: Any, vocabulary: dict[str, int]) -> Any:
    tokens = library.Tokenizer(
        library.models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=MOST_LETTERS)
    )
    tokens.normalizer = library.normalizers.BertNormalizer(lowercase=True)
    tokens.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
    tokens.decoder = library.decoders.WordPiece()
    tokens.add_special_tokens([name for name in SPECIAL if name in vocabulary])
    return tokens


def _library() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise UsageError(
            f"the library `{error.name}` is not installed", hint="pip install 'vidcap[trainer]'"
        ) from error
    return tokenizers
