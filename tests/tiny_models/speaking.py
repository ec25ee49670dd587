"""Sets a tiny generating network by hand to say one sentence whose first word depends on the pictures it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vidcap import prompts
from vidcap.torch_device import cpu_threads

COLOURS = {
    "Red": (200, 25, 30),
    "Green": (30, 150, 40),
    "Blue": (30, 80, 220),
    "White": (250, 250, 250),
    "Black": (4, 4, 4),
}
"""First word → the plain picture that it is said of."""
REST = " kites fly over the quiet lake in this calm evening light."
"""What follows it; every word differs, as a word is chosen by the one before it."""
PROMPT = "Describe the clip in one sentence."
SHIPPED = prompts.load("video").body
LOUD = 16.0
"""How much a word's own state weighs beside what the layers add to it."""
WORDS = [*COLOURS, *(f" {word}" for word in REST.strip(" .").split()), "."]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% elif c['type'] == 'video' %}VIDEO"
    "{% elif c['type'] == 'text' %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""A chat template in the form of ChatML; `IMAGE` and `VIDEO` stand for the marks of the family."""


def plain(colour: Sequence[int], height: int = 64, width: int = 96) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((height, width, 3), colour, np.uint8)


def byte_symbols() -> list[str]:
    """The 256 letters that stand for bytes in GPT-2's manner."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return [letter for _, letter in sorted(bytes_to_unicode().items())]


def byte_vocabulary(marks: Sequence[str]) -> dict[str, int]:
    """Marks, bytes and the words of the sentence: texts are read byte by byte, words are only said."""
    symbols = [*marks, *byte_symbols(), *(word.replace(" ", "Ġ") for word in WORDS)]
    return {symbol: at for at, symbol in enumerate(dict.fromkeys(symbols))}


def word_ids(vocabulary: dict[str, int]) -> tuple[list[int], list[int]]:
    """Ids of the first words (one per colour) and of the words after them, by `byte_vocabulary`."""
    ids = [vocabulary[word.replace(" ", "Ġ")] for word in WORDS]
    return ids[: len(COLOURS)], ids[len(COLOURS) :]


def asked(processor: Any) -> Callable[[Any], list[Any]]:
    """Picture → what the network may be asked about it: clips of it as a video and as images, with several prompts."""

    def questions(picture: Any) -> list[Any]:
        found = []
        for count, prompt in ((4, PROMPT), (8, SHIPPED), (3, ""), (1, PROMPT), (16, SHIPPED)):
            for kind in ("video", "image"):
                pieces = [{"type": kind}] * (1 if kind == "video" else count)
                messages = [{"role": "user", "content": [*pieces, {"type": "text", "text": prompt}]}]
                text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
                if kind == "image":
                    given: dict[str, Any] = {"images": [[picture] * count]}
                else:
                    shown = max(2, count)
                    about = {"fps": 2.0, "frames_indices": list(range(shown)), "total_num_frames": shown}
                    given = {"videos": [np.stack([picture] * shown)], "video_metadata": [about]}
                    given["do_sample_frames"] = False
                found.append(processor(text=[text], return_tensors="pt", **given))
        return found

    return questions


def drawn(network: Any, seed: int = 7) -> Any:
    """The network with random weights of a size that lets pictures reach the words."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            fan = parameter[0].numel()
            parameter.data = torch.randn(parameter.shape, generator=generator) * fan**-0.5
        elif "norm" not in name.lower() and not name.endswith("bias"):
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def teach(network: Any, first: Sequence[int], rest: Sequence[int], end: int, see: Callable[[Any], list[Any]]) -> None:
    """Make it say `first[n]` of the picture of colour n, then `rest`, then `end`; of other pictures one of them all.

    `see(picture)`: what the network may be asked about that picture, as its inputs, with `input_ids`. The states before
    each word are looked at, and the output rows solved for (least squares) so that the next word comes out.
    """
    import torch

    inner = getattr(network, "text_decoder", network)  # of BLIP, which does not tell its embeddings
    embedded, said = inner.get_input_embeddings(), inner.get_output_embeddings()
    assert embedded.weight.data_ptr() != said.weight.data_ptr(), "the rows of in- and output must not be tied"
    generator = torch.Generator().manual_seed(11)
    embedded.weight.data = LOUD * torch.randn(embedded.weight.shape, generator=generator)
    if said.bias is not None:
        said.bias.data.zero_()
    hidden: list[Any] = []
    hook = said.register_forward_pre_hook(lambda module, given: hidden.append(given[0][0].double()))
    states, wanted = [], []
    with torch.inference_mode(), cpu_threads(1):
        for number, picture in enumerate([*map(plain, COLOURS.values()), *_others()]):
            plainly = number < len(first)
            spoken = [first[number % len(first)], *rest]
            for question in see(picture) if plainly else see(picture)[:2]:
                network(**_continued(dict(question), spoken))
                states.append(hidden.pop()[-len(spoken) - 1 :])
                target = torch.zeros(len(spoken) + 1, len(said.weight), dtype=torch.double)
                target[range(len(target)), [*spoken, end]] = 20.0
                if not plainly:
                    target[0, list(first)] = 10.0
                wanted.append(target)
    hook.remove()
    seen = torch.cat(states)
    gram = seen.T @ seen
    ridge = 1e-6 * gram.trace() / len(gram) * torch.eye(len(gram), dtype=torch.double)
    said.weight.data = torch.linalg.solve(gram + ridge, seen.T @ torch.cat(wanted)).T.to(said.weight.dtype).contiguous()


def _others() -> Iterator[Any]:
    """Pictures of no single colour, of which any word may be said, as long as the sentence goes on after it."""
    random = np.random.default_rng(5)
    for shape in ((64, 96), (17, 300), (300, 20), (90, 160), (48, 48)):
        yield random.integers(0, 256, (*shape, 3)).astype(np.uint8)
        rows = random.integers(0, 256, (3, 1, 3)).astype(np.uint8)
        yield np.repeat(np.repeat(rows, -(-shape[0] // 3), axis=0)[: shape[0]], shape[1], axis=1)


def _continued(inputs: dict[str, Any], spoken: Sequence[int]) -> dict[str, Any]:
    """The inputs of a prompt with words said after it."""
    import torch

    words = torch.tensor([list(spoken)])
    more = {"input_ids": words, "attention_mask": torch.ones_like(words), "mm_token_type_ids": torch.zeros_like(words)}
    return {
        name: torch.cat([value, more[name].to(value.dtype)], dim=1) if name in more else value
        for name, value in inputs.items()
    }


def save(network: Any, processor: Any, folder: Path) -> None:
    """In the format of the hub, without progress bars."""
    from vidcap.backends.weights.transformers_folder import quiet

    with quiet():
        network.save_pretrained(folder)
        processor.save_pretrained(folder)
