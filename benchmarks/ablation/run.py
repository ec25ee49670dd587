"""Does the pipeline pay? Renders a corpus, curates it in two ways, trains all arms, writes table, plot and JSON.

    python benchmarks/ablation/run.py --work FOLDER [--seeds 5]

Needs the extras `trainer` and `shots`, and matplotlib for the plot. What lies below FOLDER already
is not done again.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import begin  # noqa: E402  (the script's own folder must be importable first)
import clips as kept  # noqa: E402
import curate  # noqa: E402
import learn  # noqa: E402
import tables  # noqa: E402
import torch  # noqa: E402
import world  # noqa: E402

from vidcap.train.text import WordPieceTokens  # noqa: E402

TRAIN = {"videos": 60, "shots": 8, "seed": 11}
HELDOUT = {"videos": 240, "shots": 1, "seed": 12}
VOCABULARY = 300


def prepared(work: Path) -> tuple[dict[str, Any], WordPieceTokens, dict[str, Any]]:
    """Features of all clips, tokens, and what the corpus and its two curations are like."""
    torch.set_num_threads(1)
    for name, sizes in (("train", TRAIN), ("heldout", HELDOUT)):
        if not (work / name / "truth.json").exists():
            world.render(work / name, **sizes)
    truth = json.loads((work / "train" / "truth.json").read_text(encoding="utf-8"))
    about: dict[str, Any] = {"speech": truth["speech"], "train": TRAIN, "heldout": HELDOUT, "curation": {}}
    clips: dict[str, Any] = {}
    for detector in (learn.CLASSICAL, learn.LEARNED):
        curate.run(work / "train", work / detector, detector)
        about["curation"][detector] = curate.agreement(work / "train", work / detector)
        clips[detector] = kept.cached(work / f"{detector}.pt", lambda at=work / detector: kept.read(at / "shards"))
    test, latents = kept.cached(work / "heldout.pt", lambda: kept.heldout(work / "heldout"))
    said = [text for each in clips.values() for texts in each.texts.values() for text in texts]
    tokens = WordPieceTokens.learnt(said, VOCABULARY)
    torch.manual_seed(begin.WEIGHTS_SEED)
    model = learn.model_of(learn.ARMS[0], tokens)
    weights, about["encoders"] = kept.cached(work / "begun.pt", lambda: begin.encoders(model))
    for part, values in weights.items():
        getattr(model, part).load_state_dict(values)
    made: dict[str, Any] = {detector: kept.features(each, model, tokens) for detector, each in clips.items()}
    made["heldout"] = (kept.features(test, model, tokens, draws=1), latents)
    return made, tokens, about


def train_all(
    made: Mapping[str, Any], tokens: WordPieceTokens, seeds: Sequence[int], steps: int
) -> Iterator[dict[str, Any]]:
    """Every arm with every seed; first all arms with one seed, so that a part of it is of use."""
    for seed in seeds:
        for arm in learn.ARMS:
            result = learn.one(arm, seed, made, tokens, steps)
            top = {query: round(tables.recall(ranks, 1), 1) for query, ranks in result["ranks"].items()}
            print(f"{result['arm']:16} seed {seed} {result['seconds']:6.1f} s {result['loss']} R@1 {top}", flush=True)
            yield result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="corpus, shards and tensors; kept between calls")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=learn.STEPS)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    given = parser.parse_args()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    made, tokens, about = prepared(work)
    runs: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        runs += train_all(made, tokens, [seed], given.steps)
        write(runs, about | {"steps": given.steps, "seeds": seed + 1}, given.results)
    print((given.results / "tables.md").read_text(encoding="utf-8"))


def write(runs: list[dict[str, Any]], about: dict[str, Any], results: Path) -> None:
    """JSON, tables and plot of the runs so far; after each seed, so that a long run is of use before its end."""
    results.mkdir(parents=True, exist_ok=True)
    about = about | {
        "batch": learn.BATCH,
        "candidates": learn.CANDIDATES,
        "training_seconds": round(sum(run["seconds"] for run in runs), 1),
        "machine": f"{platform.machine()}, one process of one thread, torch {torch.__version__}",
    }
    found = {"about": about, **tables.summary(runs), "runs": runs}
    (results / "ablation.json").write_text(_short_lists(json.dumps(found, indent=1)) + "\n", encoding="utf-8")
    (results / "tables.md").write_text(tables.markdown(found), encoding="utf-8")
    tables.plot(found, results / "ablation.png")


def _short_lists(text: str) -> str:
    """JSON with lists of numbers on one line each."""
    return re.sub(r"\[\s+((?:\d+,\s+)*\d+)\s+\]", lambda found: "[" + " ".join(found[1].split()) + "]", text)


if __name__ == "__main__":
    main()
