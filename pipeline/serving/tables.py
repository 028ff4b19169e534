"""Trained recommenders whose item vectors are computed once and may get rows for new items.

Promise: freezing moves no bit of any vector, and a new row moves no bit of another one. A new item stands where a cold
one stands: its vector is its content's, IDs know nothing of it, and the teacher cannot rank it.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import MolarError
from pipeline.recommender.grid import Recommender
from pipeline.recommender.item_table import FeatureTable, IdTable, SumTable


class Frozen(IdTable):
    """The vectors (N, D) that another table gave, in its place; `content` makes the rows that are added."""

    def __init__(self, vectors_ND: Tensor, content: FeatureTable | None) -> None:
        nn.Module.__init__(self)  # IdTable's own would draw weights
        self.num_items = self.num_trained = len(vectors_ND)
        self.dim = vectors_ND.shape[1]
        self.weight = nn.Parameter(vectors_ND, requires_grad=False)
        self.content = content

    def everything(self) -> Tensor:
        return self.weight


@torch.no_grad()
def frozen(recommender: Recommender) -> Recommender:
    """The same recommender, its item vectors computed here and not at every question."""
    table = recommender.eval().table
    content = table.content if isinstance(table, SumTable) else table if isinstance(table, FeatureTable) else None
    vectors_ND = table.everything().clone()
    return Recommender(recommender.spec, Frozen(vectors_ND, content), recommender.model, recommender.second).eval()


@torch.no_grad()
def grown(recommender: Recommender, feature_K: NDArray[np.float32]) -> Recommender:
    """A frozen recommender with one more item, known by its conditioned embedding (K,); of ID tables, by nothing."""
    table = recommender.table
    assert isinstance(table, Frozen)
    if table.content is None:
        row_1D = table.weight.new_zeros(1, table.dim)
    else:
        row_1D = table.content.head(torch.from_numpy(feature_K[None]).to(table.weight))
    bigger = Frozen(torch.cat([table.weight, row_1D]), table.content)
    second = recommender.second
    if second is not None:  # of a cold item the teacher's vector is zero
        vectors_NE = second.vectors_NE
        second.vectors_NE = torch.cat([vectors_NE, vectors_NE.new_zeros(1, vectors_NE.shape[1])])
    spec = recommender.spec.model_copy(update={"num_items": recommender.spec.num_items + 1})
    return Recommender(spec, bigger, recommender.model, second).eval()


def refuse_ids_alone(recommender: Recommender) -> None:
    """Raise MolarError where the model knows items by ID alone, and so can know no new one."""
    if recommender.spec.items == "id":
        raise MolarError(
            "add_item: this run knows items by their ID alone (train_dueg.items = 'id'), so it cannot rank a new one: "
            "set it to mirm or id+mirm, then `dvc repro train_dueg`"
        )
