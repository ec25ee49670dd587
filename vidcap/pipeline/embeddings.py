"""Clip embeddings in files of their own, so that a new caption is scored without decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from vidcap.store import replacing

Float32 = npt.NDArray[np.float32]


class PartEmbeddings:
    """The embeddings of one part under one fingerprint (similarity backend, spans, decoded evidence).

    One file per source: `embeddings/<source_id>.parquet`, columns `key` and `vector`; the fingerprint is in its schema.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self._held: dict[str, dict[str, Float32]] = {}
        self._changed: set[str] = set()

    def get(self, key: str) -> Float32 | None:
        return self._of(_source(key)).get(key)

    def put(self, key: str, vector: Float32) -> None:
        self._of(_source(key))[key] = vector
        self._changed.add(_source(key))

    def has(self, source_id: str) -> bool:
        """Whether this source was embedded under this fingerprint (it may have no clips)."""
        return self._path(source_id).is_file() and bool(self._read(source_id) is not None)

    def flush(self, source_id: str) -> None:
        """Write the source's file; also where it has no clip, so that `has` can answer."""
        held = self._of(source_id)
        if source_id not in self._changed and self.has(source_id):
            return
        keys = sorted(held)
        table = pa.table({"key": keys, "vector": pa.array([held[key] for key in keys], pa.list_(pa.float32()))})
        with replacing(self._path(source_id)) as temporary:
            pq.write_table(table.replace_schema_metadata({b"fingerprint": self.fingerprint.encode()}), temporary)
        self._changed.discard(source_id)

    def forget(self, source_id: str) -> None:
        self._held.pop(source_id, None)

    def _of(self, source_id: str) -> dict[str, Float32]:
        if source_id not in self._held:
            self._held[source_id] = self._read(source_id) or {}
        return self._held[source_id]

    def _read(self, source_id: str) -> dict[str, Float32] | None:
        path = self._path(source_id)
        if not path.is_file():
            return None
        table = pq.read_table(path, memory_map=False)
        if (table.schema.metadata or {}).get(b"fingerprint") != self.fingerprint.encode():
            return None
        vectors = table["vector"].to_pylist()
        return {str(k): np.asarray(v, np.float32) for k, v in zip(table["key"].to_pylist(), vectors, strict=True)}

    def _path(self, source_id: str) -> Path:
        return self.folder / "embeddings" / f"{source_id}.parquet"


def _source(key: str) -> str:
    """The source id of a clip key (an id may hold `_` itself)."""
    return key.rsplit("_", 2)[0]
