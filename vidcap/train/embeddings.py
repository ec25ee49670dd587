"""Embeddings of an evaluation as a file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidcap.errors import UsageError
from vidcap.store import replacing
from vidcap.train.retrieval import Found

SCHEMA = pa.schema(
    [("kind", pa.string()), ("key", pa.string()), ("text", pa.string()), ("embedding", pa.list_(pa.float32()))]
)


def save_embeddings(found: Found, path: Path) -> None:
    """`.npz`: `keys` `media` (M×D) `texts` `features` (T×D) `owners` (of each text the place of its medium).

    `.parquet`: a row per medium and text: `kind`, `key`, `text`, `embedding`. Raises `UsageError` for other names.
    """
    held = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(
            held,
            keys=np.array(found.keys, dtype=np.str_),
            media=found.media,
            texts=np.array(found.texts, dtype=np.str_),
            features=found.features,
            owners=np.array(found.owners, np.int64),
        )
    elif path.suffix == ".parquet":
        owners = [found.keys[owner] for owner in found.owners]
        table = {
            "kind": ["media"] * len(found.keys) + ["text"] * len(owners),
            "key": [*found.keys, *owners],
            "text": [""] * len(found.keys) + found.texts,
            "embedding": [*found.media.tolist(), *found.features.tolist()],
        }
        pq.write_table(pa.table(table, schema=SCHEMA), held)
    else:
        raise UsageError(f"`{path.name}` is no name for embeddings", hint="end it in .npz or .parquet")
    with replacing(path) as temporary:
        temporary.write_bytes(held.getvalue())
