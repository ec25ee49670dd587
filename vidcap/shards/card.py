"""The README.md of a shards folder: a basic data card whose front matter tells HF `datasets` the features.

Declared features keep the first samples' types from being taken for all samples'.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from vidcap.shards.schema import SCHEMA, SampleJson
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


def write_readme(folder: Path, name: str, shards: Sequence[ShardInfo], *, flac: bool, license: str = "") -> None:
    """Write `README.md`: what the shards hold, how to read them, and the front matter. The same input, the same bytes.

    `license` is an identifier of the whole collection; each sample carries its source's own.
    """
    samples = sum(shard.samples for shard in shards)
    front: dict[str, Any] = {
        "pretty_name": name,
        "tags": ["video", "webdataset", "vidcap"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "*.tar"}]}],
        "dataset_info": {
            "config_name": "default",
            "features": features(flac=flac),
            "splits": [{"name": "train", "num_bytes": sum(s.bytes for s in shards), "num_examples": samples}],
        },
    }
    if license:
        front["license"] = license
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=120)
    members = "`.mp4` the clip, `.txt` its primary caption, `.json` everything else"
    if flac:
        members += ", `.flac` its sound (16 kHz mono)"
    text = f"""---
{head}---

# {name}

{samples} samples in {len(shards)} shards (WebDataset tars, schema `{SCHEMA}`).

| | |
|---|---|
| samples | {samples} |
| shards | {len(shards)} |
| bytes | {sum(s.bytes for s in shards)} |

Each sample: {members}. `sizes.json` lists the shards that count and their samples; beside each tar a Parquet file of
the same name holds its records as columns.

```python
import webdataset as wds

for sample in wds.WebDataset("{shards[0].name if shards else name + "-000000-00.tar"}", shardshuffle=False):
    print(sample["__key__"], sample["txt"].decode())
```
"""
    PosixStore(folder).write("README.md", text.encode())
