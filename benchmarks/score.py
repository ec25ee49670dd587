"""Clips per second of the score stage with the backend `open_clip`, against open_clip driven by a bare client.

    python benchmarks/score.py
    python benchmarks/score.py --videos FOLDER --clips 24 --models ViT-B-32

Both sides have the same model from the same folder (the architecture of that name with random weights, in the files
that open_clip publishes), one thread, fp32, the same candidate frames as JPEG, the same captions and the same batches
of 4. The bare client is what one would write by hand: PIL, open_clip's own transform, `encode_image` and `encode_text`
in `inference_mode`, the mean of a clip's frames against its captions. It has its JPEGs in memory; the stage finds its
in the evidence folder and reads the clip's sound with them. It is driven as a step that begins with it drives it: told
of all rows of the part, then run source by source. The cosines are compared before the stage rounds them.

Not measured: loading the model, decoding the source, captions longer than the encoder reads (the stage cuts them into
sentences where a bare client loses the rest), a step in which stages before it make its rows (each source then fills
its last batches: the remark below the table counts them), GPUs.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Cost, here, in_turns, median, versions, write_table
from moving_pictures import film

from vidcap.backends import registry
from vidcap.media.decode import DecodeOptions, decode_source
from vidcap.media.evidence import Evidence
from vidcap.stages.base import Context
from vidcap.stages.score import Score, ScoreOptions

BATCH, FRAMES = 4, 8
KINDS = ("v", "avs")
CLIP_SECONDS = (5.0, 2.2, 7.5, 3.6)
"""Of the clips, in turn: the shorter ones have fewer than 8 candidate frames."""
CLIPS_PER_FILM = 2
NOUNS = "dog woman street river tower crowd kitchen machine violin horse garden bridge".split()
VERBS = "moves stands turns waits shines opens falls runs plays rests grows burns".split()


@dataclass(frozen=True)
class Work:
    """Clips with their captions, and the evidence of their sources."""

    rows: list[dict[str, Any]]
    evidence: dict[str, Evidence]

    def jpegs(self, row: dict[str, Any], count: int) -> list[bytes]:
        """Of the frames that the stage looks at: the middles of `count` equal parts of the clip's candidates."""
        evidence = self.evidence[row["source_id"]]
        inside = [int(at) for at in evidence.candidates if row["first_frame"] <= at <= row["last_frame"]]
        count = min(count, len(inside))
        return [evidence.frame_jpeg(inside[(2 * part + 1) * len(inside) // (2 * count)]) for part in range(count)]


def prepared(films: Sequence[Path], folder: Path, clips: int) -> Work:
    """Decode the films and cut them into clips, each with captions that no other has."""
    work = Work([], {})
    for number, path in enumerate(films):
        source = f"s{number}"
        decode_source(path, folder / source, DecodeOptions())
        evidence = work.evidence[source] = Evidence(folder / source)
        times = evidence.times
        first = 0
        while first < len(times) and len(work.rows) < clips:
            at = len(work.rows)
            last = int(np.searchsorted(times, times[first] + CLIP_SECONDS[at % len(CLIP_SECONDS)])) - 1
            words = [NOUNS[(at + 5 * place) % 12] + " " + VERBS[(at // 12 + 7 * place) % 12] for place in range(3)]
            picture = f"The {words[0]} near the {words[1]}, number {at}."
            work.rows.append(
                {
                    "key": f"{source}_{first:08d}_{last:08d}",
                    "source_id": source,
                    "first_frame": first,
                    "last_frame": last,
                    "caption_v": picture,
                    "caption_avs": f"{picture} A {words[2]} is heard while somebody says a few words about it.",
                }
            )
            first = last + 1
    return work


def saved(architecture: str, folder: Path) -> str:
    """A model of this architecture with random weights, as `local-dir:` has it."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        network = open_clip.create_model(architecture, load_weights=False)
    settings = {"model_cfg": open_clip.get_model_config(architecture), "preprocess_cfg": {}}
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    settings["preprocess_cfg"] = {"mean": list(mean), "std": list(std)}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"


class BareClient:
    """open_clip as its own examples use it."""

    def __init__(self, model: str, work: Work, frames: int) -> None:
        import open_clip

        self.network, _, self.transform = open_clip.create_model_and_transforms(model)
        self.network.eval()
        self.tokenizer = open_clip.get_tokenizer(model)
        self.clips = [work.jpegs(row, frames) for row in work.rows]
        self.texts = [row[f"caption_{kind}"] for row in work.rows for kind in KINDS]
        self.cosines: list[float] = []

    def __call__(self) -> None:
        import torch
        from PIL import Image

        torch.set_num_threads(1)
        with torch.inference_mode():
            jpegs = [jpeg for clip in self.clips for jpeg in clip]
            pictures = torch.cat(
                [
                    self.network.encode_image(
                        torch.stack(
                            [
                                self.transform(Image.open(io.BytesIO(jpeg)).convert("RGB"))
                                for jpeg in jpegs[at : at + BATCH]
                            ]
                        ),
                        normalize=True,
                    )
                    for at in range(0, len(jpegs), BATCH)
                ]
            )
            texts = torch.cat(
                [
                    self.network.encode_text(self.tokenizer(self.texts[at : at + BATCH]), normalize=True)
                    for at in range(0, len(self.texts), BATCH)
                ]
            )
            pooled = torch.stack([part.mean(0) for part in pictures.split([len(clip) for clip in self.clips])])
            pooled = torch.nn.functional.normalize(pooled, dim=-1).repeat_interleave(len(KINDS), 0)
            self.cosines = (pooled * texts).sum(-1).tolist()


class Watched:
    """A backend whose cosines are kept as they are before the stage rounds them."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.cosines: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def scoring(self) -> WatchedScoring:
        return WatchedScoring(self._backend.scoring(), self.cosines)


class WatchedScoring:
    def __init__(self, scoring: Any, cosines: list[float]) -> None:
        self._scoring = scoring
        self._cosines = cosines

    def add(self, *given: Any) -> Any:
        return self._noted(self._scoring.add(*given))

    def rest(self) -> Any:
        return self._noted(self._scoring.rest())

    def _noted(self, found: Any) -> Any:
        self._cosines += [score for _, scores in found for score in scores.values()]
        return found


def compare(model: str, work: Work, turns: int) -> tuple[list[list[str | float]], str]:
    backend = Watched(
        registry.create(
            "similarity", "open_clip", {"model": model, "images_per_batch": BATCH, "frames_per_clip": FRAMES}
        )
    )
    backend.load("cpu")
    bare = BareClient(model, work, FRAMES)
    stage = Score(ScoreOptions(kinds=list(KINDS)), Context(backend=backend))

    def staged() -> None:
        # With evidence made anew, as a worker of the pipeline comes to it.
        backend.cosines.clear()
        evidence = lru_cache(maxsize=1)(lambda source: Evidence(work.evidence[source].folder))
        with stage.ahead(work.rows, evidence):
            for source in work.evidence:
                stage.run([row for row in work.rows if row["source_id"] == source], evidence)

    for warm in (bare, staged):
        warm()
    apart = float(np.abs(np.subtract(bare.cosines, backend.cosines)).max())
    name = Path(model.removeprefix("local-dir:")).name
    cases: dict[str, Callable[[], Cost]] = {"bare open_clip": partial(here, bare), "score stage": partial(here, staged)}
    costs = {case: median(found) for case, found in in_turns(cases, turns).items()}
    base = costs["bare open_clip"]
    rows: list[list[str | float]] = [
        [
            name,
            case,
            round(len(work.rows) / cost.cpu, 3),
            round(len(work.rows) / cost.wall, 3),
            round(base.cpu / cost.cpu, 3),
            round(base.wall / cost.wall, 3),
        ]
        for case, cost in costs.items()
    ]
    return rows, f"{name}: the cosines of {len(bare.cosines)} captions differ by {apart:.1e} at most"


def _lengths(number: int) -> list[float]:
    """Of the clips of a film, so that it has no more than those."""
    return [CLIP_SECONDS[(CLIPS_PER_FILM * number + at) % len(CLIP_SECONDS)] for at in range(CLIPS_PER_FILM)]


def _filled(counts: Sequence[int]) -> int:
    """How many more are computed where each of these is filled up to full batches."""
    return sum(-count % BATCH for count in counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="a folder of films to take clips from; rendered where left out")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["ViT-B-32", "ViT-S-32-alt"], help="architectures of open_clip")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vidcap-score-") as temporary:
        folder = Path(temporary)
        if asked.videos:
            films = sorted(path for path in asked.videos.rglob("*.mp4") if path.is_file())
        else:
            films = [
                film(folder / f"{number}.mp4", number, seconds=sum(_lengths(number)))
                for number in range(math.ceil(asked.clips / CLIPS_PER_FILM))
            ]
        work = prepared(films, folder / "evidence", asked.clips)
        table: list[list[str | float]] = []
        remarks: list[str] = []
        for architecture in asked.models:
            found, remark = compare(saved(architecture, folder / architecture), work, asked.turns)
            table += found
            remarks.append(remark)
        by_source = [[row for row in work.rows if row["source_id"] == source] for source in work.evidence]
        frames = [sum(len(work.jpegs(row, FRAMES)) for row in rows) for rows in by_source]
        texts = [len(KINDS) * len(rows) for rows in by_source]
        heights = sorted({evidence.facts.height for evidence in work.evidence.values()})
        more = [
            f"{_filled(pictures)} frames and {_filled(words)} captions"
            for pictures, words in (([sum(frames)], [sum(texts)]), (frames, texts))
        ]
        remarks.append(
            f"{len(work.rows)} clips of {min(CLIP_SECONDS)} to {max(CLIP_SECONDS)} s, {sum(frames)} frames, "
            f"{sum(texts)} texts, of {len(work.evidence)} sources, {heights[0]} to {heights[-1]} pixels high; it "
            f"fills the last batch of all up to {BATCH}: {more[0]} more; where it does not begin its step: {more[1]}"
        )
        write_table(
            "score",
            ["model", "case", "clips per CPU-s", "clips/s (wall)", "of bare (CPU)", "of bare (wall)"],
            table,
            about=remarks,
            libraries=versions("open_clip_torch", "torch", "torchvision", "pillow", "opencv-python-headless"),
        )


if __name__ == "__main__":
    main()
