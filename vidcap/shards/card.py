"""README.md and DATA_CARD.md beside the shards; the front matter tells HF `datasets` the features.

Declared features keep the first samples' types from being taken for all samples'. Both files depend on the samples and
on what made them alone: no clock, no host, no path, so that equal shards have equal cards.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from vidcap.shards.data_card import Recipe, data_card
from vidcap.shards.licences import front_licence
from vidcap.shards.model_licences import used_models
from vidcap.shards.schema import SCHEMA, SampleJson
from vidcap.shards.statistics import Statistics, statistics_of
from vidcap.shards.writer import ShardInfo
from vidcap.store import PosixStore

_DTYPES = {str: "string", int: "int64", float: "float64", bool: "bool"}


def features(*, flac: bool) -> list[dict[str, Any]]:
    """The front matter's `features`, from the schema's own types."""
    media = [{"name": "mp4", "dtype": "video"}]
    if flac:
        # As `audio` the folder would not even load without torchcodec; bytes can be cast to `Audio()` afterwards.
        media.append({"name": "flac", "dtype": "binary"})
    return [
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
        *media,
        {"name": "txt", "dtype": "string"},
        {"name": "json", "struct": _struct(SampleJson)},
    ]


def _struct(model: type[BaseModel]) -> list[dict[str, Any]]:
    fields = model.model_fields.items()
    return [{"name": field.alias or name, **_feature(field.annotation)} for name, field in fields]


def _feature(kind: Any) -> dict[str, Any]:
    if typing.get_origin(kind) is None and issubclass(kind, BaseModel):
        return {"struct": _struct(kind)}
    if typing.get_origin(kind) is list:
        return {"list": _struct(typing.get_args(kind)[0])}
    if typing.get_origin(kind) is typing.Literal:
        return {"dtype": "string"}
    return {"dtype": _DTYPES[kind]}


def write_cards(
    folder: Path,
    name: str,
    shards: Sequence[ShardInfo],
    *,
    flac: bool,
    recipe: Recipe | None = None,
    statistics: Statistics | None = None,
) -> None:
    """Write `README.md` (front matter, how to read the shards) and `DATA_CARD.md` (what is in them and who made it).

    Without `statistics` they are counted from the metadata files beside the shards, taking all shards for one part's.
    The same input, the same bytes.
    """
    if statistics is None:
        statistics = statistics_of([(folder / shard.name).with_suffix(".parquet") for shard in shards])
    recipe = recipe or Recipe()
    front = front_matter(name, shards, statistics, flac=flac, recipe=recipe)
    store = PosixStore(folder)
    store.write("README.md", f"---\n{_yaml(front)}---\n\n{_readme(name, shards, flac=flac)}".encode())
    store.write("DATA_CARD.md", data_card(name, statistics, shards=len(shards), flac=flac, recipe=recipe).encode())


_CAPTIONED = {
    "language": ["en"],  # of the captions; languages spoken stand in each sample's transcript
    "task_categories": ["video-text-to-text", "text-to-video"],
}


def front_matter(
    name: str, shards: Sequence[ShardInfo], statistics: Statistics, *, flac: bool, recipe: Recipe
) -> dict[str, Any]:
    """What the Hugging Face hub and `datasets` read."""
    samples = sum(shard.samples for shard in shards)
    size = sum(shard.bytes for shard in shards)
    return {
        "pretty_name": name,
        **front_licence(statistics.counts["sample licences"], used_models(recipe.backends)),
        **(_CAPTIONED if recipe.captioned else {}),
        "size_categories": [size_category(samples)],
        "annotations_creators": ["machine-generated" if recipe.captioned else "no-annotation"],
        "tags": ["video", *["audio"] * flac, *["captions"] * recipe.captioned, "webdataset", "vidcap"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "*.tar"}]}],
        "dataset_info": {
            "config_name": "default",
            "features": features(flac=flac),
            "splits": [{"name": "train", "num_bytes": size, "num_examples": samples}],
            "download_size": size,
            "dataset_size": size,
        },
    }


def size_category(samples: int) -> str:
    """The hub's bracket: `n<1K`, `1K<n<10K` and on to `n>1T`."""
    if samples < 1000:
        return "n<1K"
    names = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    place = len(str(samples)) - 4
    return f"{names[place]}<n<{names[place + 1]}" if place + 1 < len(names) else "n>1T"


def _yaml(value: Any) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120))


def _readme(name: str, shards: Sequence[ShardInfo], *, flac: bool) -> str:
    samples = sum(shard.samples for shard in shards)
    members = "`.mp4` the clip, `.txt` its primary caption, `.json` everything else"
    if flac:
        members += ", `.flac` its sound (16 kHz mono)"
    first = shards[0].name if shards else f"{name}-000000-00.tar"
    return f"""# {name}

{samples} {"sample" if samples == 1 else "samples"} in {len(shards)} {"shard" if len(shards) == 1 else "shards"}
(WebDataset tars, schema `{SCHEMA}`). [DATA_CARD.md](DATA_CARD.md) says what is in them, which models made the captions,
under which licences, and what the limits are.

| | |
|---|---|
| samples | {samples} |
| shards | {len(shards)} |
| bytes | {sum(shard.bytes for shard in shards)} |

Each sample: {members}. `sizes.json` lists the shards that count and their samples; beside each tar a Parquet file of
the same name holds its records as columns.

```python
import webdataset as wds

for sample in wds.WebDataset("{first}", shardshuffle=False):
    print(sample["__key__"], sample["txt"].decode())
```

```python
from datasets import Video, load_dataset

data = load_dataset("path/to/this/folder", split="train").cast_column("mp4", Video(decode=False))
print(data[0]["json"]["captions"])
```
"""
