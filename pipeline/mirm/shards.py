"""Item embeddings on disk: `shard-00000-<first 12 hex of its SHA-256>.parquet`, and their conditioning beside them.

A shard holds `item_idx int32, embedding fixed_size_list<float16|float32>[d]`, uncompressed, so that it can be read
memory-mapped. Embeddings are raw; `conditioned` applies the map fitted on training items.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from pipeline import artifacts
from pipeline.artifacts import Artifact
from pipeline.errors import MolarError

CONDITIONING = "conditioning.safetensors"


def write_embeddings(
    directory: Path, embeddings_ND: np.ndarray, dtype: Literal["float16", "float32"], shard_items: int
) -> None:
    """Write (N, D) in item_idx order, `shard_items` rows a shard, and tell the manifest `items` and `dim`.

    Raises MolarError for an item whose numbers `dtype` cannot hold, or which are none.
    """
    for number, start in enumerate(range(0, len(embeddings_ND), shard_items)):
        with np.errstate(over="ignore"):  # is told below
            rows_SD = embeddings_ND[start : start + shard_items].astype(dtype)
        if not (whole_S := np.isfinite(rows_SD).all(axis=1)).all():
            raise MolarError(
                f"the embedding of item {start + int(whole_S.argmin())} holds a NaN, an infinity or a number beyond "
                f"{dtype}: the encoder has diverged, or set embed_items.dtype to float32"
            )
        flat = pa.array(rows_SD.reshape(-1))
        table = pa.table(
            {
                "item_idx": np.arange(start, start + len(rows_SD), dtype=np.int32),
                "embedding": pa.FixedSizeListArray.from_arrays(flat, rows_SD.shape[1]),
            }
        )
        unnamed = directory / f"shard-{number:05d}.parquet"
        pq.write_table(table, unnamed, compression="none", use_dictionary=False)
        unnamed.rename(directory / f"shard-{number:05d}-{artifacts.sha256(unnamed)[:12]}.parquet")
    artifacts.describe(directory, items=len(embeddings_ND), dim=embeddings_ND.shape[1])


def write_conditioning(directory: Path, mean_D: np.ndarray, matrix_DK: np.ndarray) -> None:
    """Write the map x -> (x - mean) @ matrix."""
    save_file(
        {"mean": mean_D.astype(np.float32), "matrix": np.ascontiguousarray(matrix_DK, np.float32)},
        directory / CONDITIONING,
    )


def read_embeddings(artifact: Artifact) -> np.ndarray:
    """Raw embeddings, float32 (N, D), row i being item_idx i. Raises MolarError for a missing or corrupted shard."""
    rows_ND = np.zeros((artifact.facts["items"], artifact.facts["dim"]), np.float32)
    for name in artifact.names:
        if name.startswith("shard-"):
            table = pq.ParquetFile(artifact.file(name), memory_map=True).read()
            embedding = table["embedding"].combine_chunks()
            rows_ND[table["item_idx"].to_numpy()] = embedding.flatten().to_numpy().reshape(len(table), -1)
    return rows_ND


def read_conditioning(artifact: Artifact) -> tuple[np.ndarray, np.ndarray]:
    """mean float32 (D,), matrix float32 (D, K)."""
    tensors = load_file(artifact.file(CONDITIONING))
    return tensors["mean"], tensors["matrix"]


def conditioned(artifact: Artifact) -> np.ndarray:
    """Embeddings as user models read them: float32 (N, K)."""
    mean_D, matrix_DK = read_conditioning(artifact)
    return (read_embeddings(artifact) - mean_D) @ matrix_DK
