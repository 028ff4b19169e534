"""Section `build_index`: the FAISS index that serves recommendations."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.params.section import Section

Weight = Annotated[float, Field(ge=0, le=1)]


class BuildIndex(Section):
    serve: Literal["dueg", "sum"]  # whose scores: the DUEG's, or the teacher's and the DUEG's added
    sum_weights: list[Weight] = Field(min_length=1)  # of the teacher's score in the sum, tried on validation
    kind: Literal["flat", "ivf", "hnsw"]
    ivf_lists: int = Field(ge=1)
    ivf_probes: int = Field(ge=1)
    hnsw_neighbours: int = Field(ge=2)
    hnsw_ef: int = Field(ge=1)  # breadth of search, at construction and at query time
