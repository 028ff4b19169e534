"""The score sum: what the teacher and the DUEG say, added with one weight. Alignment's rival, at no cost.

    score(u, i) = by_teacher <teacher's u, teacher's i> + by_dueg <DUEG's u, DUEG's i>

is one dot product of concatenated vectors, so the evaluation ranks it and a FAISS index serves it like any other
system. Before they are added, both scores are brought to the same deviation; the weight is the teacher's share, the
one with the best validation NDCG@10.

The user's half carries the factors. The item's carries `stretch`, a power of two that the user's undoes: no score
moves by a bit, but IVF's clusters and HNSW's links then see each half as large as the score does (on the demo world,
eight of 64 lists at weight .9, 92 % of the exact first ten are found, and 78 % without).

`sum.json` in data/index holds all of it, so the index tells what it serves; an index of the DUEG has no such file.

    mix = choose(sequences, teacher, dueg, [0.3, 0.5, 0.7], mask_seen=False)
    served = Summed(teacher, dueg, mix)         a recommender like the two it is made of
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts import Artifact, write_json
from pipeline.catalog.catalogue import Sequences
from pipeline.errors import MolarError
from pipeline.progress import bar
from pipeline.retrieval.metrics import ndcg_at
from pipeline.retrieval.rank import target_ranks

Histories = Sequence[NDArray[np.int32]]

FILE = "sum.json"
MOST_STRETCH = 20  # as an exponent: at the weights 0 and 1 one half counts for nothing


class Ranker(Protocol):
    """What ranking asks of a trained recommender (`pipeline.recommender.grid.Recommender` and `Summed` are some)."""

    @property
    def num_items(self) -> int: ...
    @property
    def rankable(self) -> NDArray[np.bool_]: ...
    def item_vectors(self) -> NDArray[np.float32]: ...
    def user_vectors(self, histories: Histories, users: NDArray[np.int32] | None = None) -> NDArray[np.float32]: ...


@dataclass(frozen=True, eq=False)
class Table:
    """A system's side of the items: vectors (N, D) float32, and which of them mean anything (N,) bool."""

    items_ND: NDArray[np.float32]
    rankable_N: NDArray[np.bool_]


@dataclass(frozen=True)
class ScoreSum:
    """How the two are added, and what each weight that was tried reached on validation (NDCG@10)."""

    weight: float
    by_teacher: float
    by_dueg: float
    stretch: float = 1.0  # of the teacher's half of the items; a power of two
    validation: Mapping[float, float] = field(default_factory=dict)

    def users(self, teacher_QD: NDArray[np.float32], dueg_QE: NDArray[np.float32]) -> NDArray[np.float32]:
        """(Q, D + E) float32."""
        ids_QD = self.by_teacher / self.stretch * teacher_QD
        return np.concatenate([ids_QD, self.by_dueg * dueg_QE], axis=1).astype(np.float32)

    def table(self, teacher: Table, dueg: Table) -> Table:
        """The sum's items: both systems' vectors side by side, (N, D + E) float32.

        An item that the teacher cannot rank gets the user's mean teacher score over those that it can.
        """
        mean_1D = teacher.items_ND[teacher.rankable_N].mean(axis=0, keepdims=True)
        ids_ND = np.where(teacher.rankable_N[:, None], teacher.items_ND, mean_1D) * np.float32(self.stretch)
        return Table(np.concatenate([ids_ND, dueg.items_ND], axis=1), dueg.rankable_N)


class Summed:
    """The teacher and the DUEG as one recommender; it ranks what the DUEG ranks."""

    def __init__(self, teacher: Ranker, dueg: Ranker, mix: ScoreSum) -> None:
        self.teacher, self.dueg, self.mix = teacher, dueg, mix

    @property
    def num_items(self) -> int:
        return self.dueg.num_items

    @property
    def rankable(self) -> NDArray[np.bool_]:
        """(N,) bool."""
        return self.dueg.rankable

    def item_vectors(self) -> NDArray[np.float32]:
        """(N, D + E) float32."""
        return self.mix.table(table_of(self.teacher), table_of(self.dueg)).items_ND

    def user_vectors(self, histories: Histories, users: NDArray[np.int32] | None = None) -> NDArray[np.float32]:
        """(U, D + E) float32. Either reads the items of a history that it knows: IDs say nothing of cold ones.

        Raises MolarError where one of the two knows no item of a history.
        """
        teacher_UD = self.teacher.user_vectors(_known(histories, self.teacher, "teacher"), users)
        return self.mix.users(teacher_UD, self.dueg.user_vectors(_known(histories, self.dueg, "DUEG"), users))


def table_of(ranker: Ranker) -> Table:
    """A recommender's side of the items."""
    return Table(ranker.item_vectors(), ranker.rankable)


def choose(
    sequences: Sequences,
    teacher: Ranker,
    dueg: Ranker,
    weights: Sequence[float],
    mask_seen: bool,
    device: str = "cpu",
) -> ScoreSum:
    """The sum whose weight has the best validation NDCG@10, the first of equals.

    `mask_seen` leaves items of the history out of the ranking, `device` is where vectors are multiplied.
    Raises MolarError when there is no validation query.
    """
    validation = sequences.queries("validation")
    if not len(validation):
        raise MolarError("no validation query to choose the score sum's weight on: see data/catalog/summary.json")
    histories = validation.histories(sequences)
    seen = histories if mask_seen else None
    ids_QD = teacher.user_vectors(histories, validation.user)
    content_QE = dueg.user_vectors(histories, validation.user)
    ids, content = table_of(teacher), table_of(dueg)
    warm_N = np.arange(sequences.num_items) < sequences.num_warm
    known_N = warm_N & ids.rankable_N & content.rankable_N
    by_teacher = 1 / score_deviation(ids_QD, ids.items_ND[known_N])
    by_dueg = 1 / score_deviation(content_QE, content.items_ND[known_N])
    tried: dict[float, float] = {}
    with bar("weigh the sum", total=len(weights), unit="weights") as progress:
        for weight in weights:
            mix = ScoreSum(weight, weight * by_teacher, (1 - weight) * by_dueg)
            table = mix.table(ids, content)
            ranked = mix.users(ids_QD, content_QE), table.items_ND, validation.target
            ranks_Q = target_ranks(*ranked, seen, warm_N & table.rankable_N, device=device)
            tried[weight] = float(ndcg_at(ranks_Q, 10).mean())
            progress.advance()
    best = max(tried, key=tried.__getitem__)
    factors = best * by_teacher, (1 - best) * by_dueg
    stretch = _power_of_two(factors[0] * _length(ids_QD), factors[1] * _length(content_QE))
    return ScoreSum(best, *factors, stretch, tried)


def score_deviation(users_QD: NDArray[np.float32], items_ND: NDArray[np.float32]) -> float:
    """Standard deviation of all Q x N dot products around each user's mean, without computing them.

    A user's mean moves no rank, so it has no say in the scale. The mean square of u.v over all pairs is the
    inner product of the two second-moment matrices.
    """
    users, items = users_QD.astype(np.float64), items_ND.astype(np.float64)
    items -= items.mean(axis=0)
    variance = float(((users.T @ users / len(users)) * (items.T @ items / len(items))).sum())
    return math.sqrt(max(variance, float(np.finfo(np.float32).tiny)))


def write(mix: ScoreSum, directory: Path) -> None:
    """`sum.json`: factors to the last bit, the weight, and the validation figure of each weight tried."""
    tried = [{"weight": weight, "ndcg@10": ndcg} for weight, ndcg in mix.validation.items()]
    write_json(directory / FILE, vars(mix) | {"validation": tried})


def read(index: Artifact) -> ScoreSum | None:
    """What `write` left in data/index; None where the index serves the DUEG alone.

    Raises MolarError where the file is corrupted, or was written by code that knew other fields.
    """
    if FILE not in index.names:
        return None
    path = index.file(FILE)
    found = json.loads(path.read_text("utf-8"))
    try:
        return ScoreSum(**found | {"validation": {row["weight"]: row["ndcg@10"] for row in found["validation"]}})
    except (KeyError, TypeError):
        raise MolarError(f"{path} is of another version of this project: run `dvc repro {index.stage}`") from None


def _known(histories: Histories, ranker: Ranker, name: str) -> Histories:
    known_N = ranker.rankable
    kept = [history[known_N[history]] for history in histories]
    if not all(len(history) for history in kept):
        raise MolarError(
            f"the {name} knows no item of this history, so there is no score sum: add an item that was trained on, "
            "or serve the DUEG alone (build_index.serve: dueg, then `dvc repro build_index`)"
        )
    return kept


def _length(vectors_QD: NDArray[np.float32]) -> float:
    """Root mean square of the rows' lengths."""
    return math.sqrt(float((vectors_QD.astype(np.float64) ** 2).sum(axis=1).mean()))


def _power_of_two(a: float, b: float) -> float:
    """The one nearest to a / b, within bounds."""
    smallest = float(np.finfo(np.float32).tiny)
    exponent = round(math.log2(max(a, smallest)) - math.log2(max(b, smallest)))
    return 2.0 ** max(-MOST_STRETCH, min(MOST_STRETCH, exponent))
