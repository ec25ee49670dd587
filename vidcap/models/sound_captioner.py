"""A sound captioner put together: frozen BEATs → layer norm, Q-Former, projection → frozen language model.

The language model reads: begin token, `###Human: <Sound>`, the projected queries, `</Sound> INSTRUCTION ###Assistant:`,
and goes on with the caption and `###`. Sound is heard in windows of 10 s, each encoded by itself; the Q-Former looks at
the tokens of all of them side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from vidcap.models.beats import Beats
from vidcap.models.fbank import encoder_input, windows_of
from vidcap.models.qformer import SoundPrefix

BEFORE = "###Human: <Sound>"
AFTER = "</Sound> {instruction} ###Assistant:"
END = "###"
NOT_LEARNED = -100


@dataclass
class SoundCaptioner:
    """`llm`: a causal language model of transformers, and its `tokenizer`; all parts on one device.

    `mels`: bands of the spectrum, 128 as BEATs was trained; `windows`: of 10 s, as many as are heard of a sound.
    """

    encoder: Beats
    prefix: SoundPrefix
    llm: Any
    tokenizer: Any
    mels: int = 128
    windows: int = 3

    def tokens(self, sounds: Sequence[npt.NDArray[np.float32]], windows_per_batch: int) -> tuple[Tensor, Tensor]:
        """Sounds (16 kHz) → tokens B×N×768 of all windows that are heard, and which of them are filling (B×N, False).

        Windows are encoded `windows_per_batch` at a time, the last batch filled up with copies, and every sound has
        the tokens of `windows` windows: shapes, and so numbers, do not depend on what is asked together.
        """
        cut = [windows_of(sound, self.windows) for sound in sounds]
        flat = torch.from_numpy(np.concatenate(cut))
        count = len(flat)
        order = [*range(count), *[count - 1] * (-count % windows_per_batch)]
        place = self.encoder.layer_norm.weight
        with torch.no_grad():
            encoded = torch.cat(
                [
                    self.encoder(encoder_input(flat[batch].to(place.device), self.mels).to(place.dtype))
                    for batch in torch.tensor(order).split(windows_per_batch)
                ]
            )[:count]
        tokens = encoded.new_zeros(len(cut), self.windows * encoded.shape[1], encoded.shape[2])
        heard = torch.zeros(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        start = 0
        for row, windows in enumerate(cut):
            length = len(windows) * encoded.shape[1]
            tokens[row, :length] = encoded[start : start + len(windows)].flatten(0, 1)
            heard[row, :length] = True
            start += len(windows)
        return tokens, heard

    def loss(
        self, tokens: Tensor, heard: Tensor, instructions: Sequence[str], captions: Sequence[str], most: int
    ) -> Tensor:
        """The mean cross-entropy of the captions' tokens and the end mark, at most `most` of each caption."""
        prefix = self.prefix(tokens, heard)
        rows, labels = [], []
        for at, (instruction, caption) in enumerate(zip(instructions, captions, strict=True)):
            said = self._ids(caption + END)[:most]
            asked = self._asked(prefix[at], instruction)
            rows.append(torch.cat([asked, self._embedded(said)]))
            labels.append(torch.tensor([NOT_LEARNED] * len(asked) + said, device=tokens.device))
        lengths = [len(row) for row in rows]
        mask = torch.arange(max(lengths), device=tokens.device) < torch.tensor(lengths, device=tokens.device)[:, None]
        embedded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        wanted = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=NOT_LEARNED)
        logits = self.llm(inputs_embeds=embedded, attention_mask=mask.long(), use_cache=False).logits
        learned = wanted[:, 1:] != NOT_LEARNED
        return functional.cross_entropy(logits[:, :-1][learned].float(), wanted[:, 1:][learned])

    def answers(self, tokens: Tensor, heard: Tensor, instruction: str, most: int) -> list[str | None]:
        """The likeliest text after `instruction`, up to the end mark, of at most `most` tokens; None where the model
        gives numbers that are not finite."""
        prefix = self.prefix(tokens, heard)
        given: dict[str, Any] = {"inputs_embeds": torch.stack([self._asked(row, instruction) for row in prefix])}
        said: list[list[int]] = [[] for _ in prefix]
        texts: list[str | None] = ["" for _ in prefix]
        going = set(range(len(prefix)))
        ends = set(_as_list(self.llm.generation_config.eos_token_id)) | set(_as_list(self.tokenizer.eos_token_id))
        cache = None
        for _ in range(most):
            output = self.llm(**given, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, logits = output.past_key_values, output.logits[:, -1]
            finite = logits.isfinite().all(-1).tolist()
            chosen = logits.argmax(-1)
            for row, token in enumerate(chosen.tolist()):
                if row not in going:
                    continue
                if not finite[row]:
                    texts[row] = None
                    going.discard(row)
                elif token in ends:
                    going.discard(row)
                else:
                    said[row].append(token)
                    text = self.tokenizer.decode(said[row], skip_special_tokens=True)
                    texts[row] = text.partition(END)[0]
                    if END in text:
                        going.discard(row)
            if not going:
                break
            given = {"input_ids": chosen[:, None]}
        return texts

    def _asked(self, prefix: Tensor, instruction: str) -> Tensor:
        """What the language model is given of one sound: begin token, question and queries, L×width."""
        begin = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
        before, after = self._ids(BEFORE), self._ids(AFTER.replace("{instruction}", instruction))
        return torch.cat([self._embedded(begin + before), prefix.to(self.llm.dtype), self._embedded(after)])

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def _embedded(self, ids: Sequence[int]) -> Tensor:
        table = self.llm.get_input_embeddings()
        return table(torch.tensor(list(ids), dtype=torch.long, device=table.weight.device))


def _as_list(value: Any) -> list[int]:
    return [] if value is None else [int(each) for each in value] if isinstance(value, (list, tuple)) else [int(value)]
