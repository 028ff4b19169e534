"""Section `build_index`: the FAISS index that serves recommendations."""

from typing import Literal

from pydantic import Field

from pipeline.params.section import Section


class BuildIndex(Section):
    kind: Literal["flat", "ivf", "hnsw"]
    ivf_lists: int = Field(ge=1)
    ivf_probes: int = Field(ge=1)
    hnsw_neighbours: int = Field(ge=2)
    hnsw_ef: int = Field(ge=1)  # breadth of search, at construction and at query time
