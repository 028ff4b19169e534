"""Rank what users chose next by every system, under one protocol.

Systems: `popularity` (training counts), `teacher`, `dueg`, `dueg_index` (the same vectors through the FAISS index),
`sum` (ID and content scores added: the zero-cost rival of alignment) and, where the world is known, `oracle` and
`ceiling`. Each but these two is a dot product of a user's and an item's vector, so one ranking routine serves them all.

Promise: all systems see the same queries, histories, candidates and masking, and the weight of the sum is chosen on
validation queries. Ordinary queries rank warm items; cold ones rank all items, and the cold ones by themselves.
A system that can rank none of the cold targets is absent there: a zero would look like a measurement.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.catalog.catalogue import Queries, Sequences
from pipeline.errors import MolarError
from pipeline.progress import Bar, bar
from pipeline.retrieval.index import Searcher, listed_ranks
from pipeline.retrieval.metrics import exposure, ndcg_at
from pipeline.retrieval.rank import Scorer, scored_target_ranks, scored_top_k, target_ranks, top_k
from pipeline.retrieval.ranked import EXPOSED, VARIANTS, Evaluation, Ranked, Variant

Histories = Sequence[NDArray[np.int32]]
Found = tuple[NDArray[np.int32], NDArray[np.float32]]  # items (U, K) and their scores (U, K), best first
Oracle = Callable[[Queries], Scorer]  # scores of all items at the moment of each query, from the process itself

LIST_USERS = 4096  # users whose lists are made at once


class Ranker(Protocol):
    """What evaluation asks of a trained recommender (`pipeline.recommender.grid.Recommender` is one)."""

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
    """by_teacher x teacher's score + by_dueg x DUEG's, as one dot product of concatenated vectors.

    The user's side carries the factors, so a set of user vectors serves every weight.
    """

    by_teacher: float
    by_dueg: float

    def users(self, teacher_QD: NDArray[np.float32], dueg_QE: NDArray[np.float32]) -> NDArray[np.float32]:
        """(Q, D + E) float32."""
        return np.concatenate([self.by_teacher * teacher_QD, self.by_dueg * dueg_QE], axis=1).astype(np.float32)


def evaluate(
    sequences: Sequences,
    cold: Queries,
    teacher: Ranker,
    dueg: Ranker,
    searcher: Searcher,
    *,
    cutoffs: Sequence[int],
    sum_weights: Sequence[float],
    mask_seen: bool,
    oracles: Mapping[str, Oracle] | None = None,
    device: str = "cpu",
) -> Evaluation:
    """Rank test and cold queries by every system, with and without the items of the history.

    `mask_seen` says on which variant the sum's weight is chosen, `device` where vectors are multiplied; `oracles` are
    rankers that know the process, by the name they get. Raises MolarError when there is no test query.
    """
    test = sequences.queries("test")
    if not len(test):
        raise MolarError("no user has three interactions, so there is no test query: see data/catalog/summary.json")
    contest = _Contest(sequences, teacher, dueg, searcher, max(cutoffs), device)
    warm_N, known = contest.warm_N, oracles or {}
    with bar("rank", unit="rankings") as progress:
        tried = contest.choose_sum(sum_weights, mask_seen, progress)
        (ordinary,) = contest.ranked(test, [(warm_N, known)], progress)
        among_all = among_cold = None
        if len(cold):
            # among all items an oracle would know that the moment is a cold one: it is no ceiling there
            among_all, among_cold = contest.ranked(cold, [(warm_N | True, {}), (~warm_N, known)], progress)
    return Evaluation(ordinary, among_all, among_cold, contest.id_weight, tried)


def sum_table(teacher: Table, dueg: Table) -> Table:
    """The sum's items: both systems' vectors side by side.

    An item that the teacher cannot rank gets the user's mean teacher score over those that it can.
    """
    mean_1D = teacher.items_ND[teacher.rankable_N].mean(axis=0, keepdims=True)
    ids_ND = np.where(teacher.rankable_N[:, None], teacher.items_ND, mean_1D)
    return Table(np.concatenate([ids_ND, dueg.items_ND], axis=1), dueg.rankable_N)


def score_deviation(users_QD: NDArray[np.float32], items_ND: NDArray[np.float32]) -> float:
    """Standard deviation of all Q x N dot products around each user's mean, without computing them.

    A user's mean moves no rank, so it has no say in the scale. The mean square of u.v over all pairs is the
    inner product of the two second-moment matrices.
    """
    users, items = users_QD.astype(np.float64), items_ND.astype(np.float64)
    items -= items.mean(axis=0)
    variance = float(((users.T @ users / len(users)) * (items.T @ items / len(items))).sum())
    return math.sqrt(max(variance, float(np.finfo(np.float32).tiny)))


def lists(
    sequences: Sequences, search: Callable[[Histories, NDArray[np.int32]], Found]
) -> Iterator[tuple[list[str], NDArray[np.int32], NDArray[np.float32]]]:
    """Every user's list from the whole history, in blocks: user ids, items (U, K), scores (U, K).

    `search` is asked with histories and the rows of the users whose they are.
    """
    with bar("lists", total=len(sequences), unit="users") as progress:
        for start in range(0, len(sequences), LIST_USERS):
            users = np.arange(start, min(start + LIST_USERS, len(sequences)), dtype=np.int32)
            items_UK, scores_UK = search([sequences.history(int(user)) for user in users], users)
            yield [sequences.user_ids[user] for user in users], items_UK, scores_UK
            progress.advance(len(users))


class _Contest:
    """The systems but the oracles: their item tables, and their user vectors for any histories."""

    def __init__(
        self, sequences: Sequences, teacher: Ranker, dueg: Ranker, searcher: Searcher, index_depth: int, device: str
    ) -> None:
        self.sequences, self.teacher, self.dueg, self.device = sequences, teacher, dueg, device
        self.searcher, self.index_depth = searcher, index_depth
        self.counts_N = sequences.training_counts()
        self.warm_N = np.arange(sequences.num_items) < sequences.num_warm
        self.tables = {
            "popularity": Table(self.counts_N.astype(np.float32)[:, None], self.warm_N),  # times a user's 1
            "teacher": Table(teacher.item_vectors(), teacher.rankable),
            "dueg": Table(dueg.item_vectors(), dueg.rankable),
        }
        self.sum: ScoreSum | None = None
        self.id_weight = 0.0

    def users(self, queries: Queries, histories: Histories) -> dict[str, NDArray[np.float32]]:
        """User vectors (Q, D) of every system; the sum's only once it has been chosen."""
        users = {
            "popularity": np.ones((len(histories), 1), np.float32),
            "teacher": self.teacher.user_vectors(histories, queries.user),
            "dueg": self.dueg.user_vectors(histories, queries.user),
        }
        if self.sum is not None:
            users["sum"] = self.sum.users(users["teacher"], users["dueg"])
        return users

    def choose_sum(self, weights: Sequence[float], mask_seen: bool, progress: Bar) -> dict[float, float]:
        """Fix the weight with the best validation NDCG@10 (the first of equals); return what each weight reached."""
        validation = self.sequences.queries("validation")
        histories = validation.histories(self.sequences)
        users, seen = self.users(validation, histories), histories if mask_seen else None
        teacher, dueg = self.tables["teacher"], self.tables["dueg"]
        known_N = self.warm_N & teacher.rankable_N & dueg.rankable_N
        by_teacher = 1 / score_deviation(users["teacher"], teacher.items_ND[known_N])
        by_dueg = 1 / score_deviation(users["dueg"], dueg.items_ND[known_N])
        table = sum_table(teacher, dueg)
        tried: dict[float, float] = {}
        for weight in weights:
            mix = ScoreSum(weight * by_teacher, (1 - weight) * by_dueg)
            users_QD = mix.users(users["teacher"], users["dueg"])
            candidates_N = self.warm_N & table.rankable_N
            ranks_Q = target_ranks(users_QD, table.items_ND, validation.target, seen, candidates_N, device=self.device)
            tried[weight] = float(ndcg_at(ranks_Q, 10).mean())
            progress.advance()
        self.id_weight = max(tried, key=tried.__getitem__)
        self.sum = ScoreSum(self.id_weight * by_teacher, (1 - self.id_weight) * by_dueg)
        self.tables["sum"] = table
        return tried

    def ranked(
        self, queries: Queries, among: Sequence[tuple[NDArray[np.bool_], Mapping[str, Oracle]]], progress: Bar
    ) -> list[Ranked]:
        """One `Ranked` per pair of candidates and oracles; user vectors are computed once for all of them."""
        histories = queries.histories(self.sequences)
        users = self.users(queries, histories)
        lengths, counts = np.array([len(h) for h in histories]), self.counts_N[queries.target]
        results = []
        for candidates_N, oracles in among:
            ranks: dict[Variant, dict[str, NDArray[np.int64]]] = {}
            shown: dict[Variant, dict[str, NDArray[np.int64]]] = {}
            for variant in VARIANTS:
                seen = histories if variant == "masked" else None
                ranks[variant], shown[variant] = self._ranks(users, queries.target, seen, candidates_N, progress)
                for name, oracle in oracles.items():
                    scorer, size, among_all = oracle(queries), self.sequences.num_items, (seen, candidates_N)
                    ranks[variant][name] = scored_target_ranks(scorer, size, queries.target, *among_all)
                    lists_QK, _ = scored_top_k(scorer, len(queries), size, EXPOSED, *among_all)
                    shown[variant][name] = exposure(lists_QK, size)
                    progress.advance()
            results.append(Ranked(queries.user, queries.target, lengths, counts, int(candidates_N.sum()), ranks, shown))
        return results

    def _ranks(
        self,
        users: dict[str, NDArray[np.float32]],
        targets_Q: NDArray[np.int32],
        seen: Histories | None,
        candidates_N: NDArray[np.bool_],
        progress: Bar,
    ) -> tuple[dict[str, NDArray[np.int64]], dict[str, NDArray[np.int64]]]:
        """Ranks of the targets and exposure of the items, by system."""
        ranks: dict[str, NDArray[np.int64]] = {}
        shown: dict[str, NDArray[np.int64]] = {}
        for name, table in self.tables.items():
            if not table.rankable_N[targets_Q].any():
                continue
            both_N, items_ND = candidates_N & table.rankable_N, table.items_ND
            ranks[name] = target_ranks(users[name], items_ND, targets_Q, seen, both_N, device=self.device)
            lists_QK, _ = top_k(users[name], items_ND, EXPOSED, seen, both_N, device=self.device)
            shown[name] = exposure(lists_QK, len(items_ND))
            if name == "dueg":
                depth = max(self.index_depth, EXPOSED)
                lists_QK, _ = self.searcher.search(users[name], depth, seen, both_N)
                ranks["dueg_index"] = listed_ranks(lists_QK[:, : self.index_depth], targets_Q, len(items_ND))
                shown["dueg_index"] = exposure(lists_QK[:, :EXPOSED], len(items_ND))
            progress.advance()
        return ranks, shown
