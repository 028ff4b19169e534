"""What an evaluation ranked: the plain arrays that reports are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Variant = Literal["masked", "unmasked"]  # are items of the history out of the ranking?
VARIANTS: tuple[Variant, Variant] = ("masked", "unmasked")

EXPOSED = 10  # length of the lists whose exposure is counted


@dataclass(frozen=True, eq=False)
class Ranked:
    """Ranks (Q,) int64 of one set of queries among one set of candidates, by variant and system."""

    users: NDArray[np.int32]  # (Q,) row of the user
    targets: NDArray[np.int32]  # (Q,) item that was chosen
    history_lengths: NDArray[np.int64]  # (Q,)
    target_counts: NDArray[np.int64]  # (Q,) training interactions of the target
    num_candidates: int
    ranks: dict[Variant, dict[str, NDArray[np.int64]]]
    exposure: dict[Variant, dict[str, NDArray[np.int64]]]  # how often (N,) an item is among a query's first EXPOSED


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything that was ranked. The cold sets are None where the catalogue holds out no item."""

    test: Ranked
    cold_among_all: Ranked | None
    cold_among_cold: Ranked | None
    id_weight: float  # of the score sum's ID part
    validation_by_weight: dict[float, float]  # NDCG@10 of each weight tried
