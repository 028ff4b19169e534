"""Rank what users chose next by every system, under one protocol.

Systems: `popularity` (training counts), `teacher`, `dueg`, `sum` (the scores of these two added: score_sum.py),
`dueg_index` or `sum_index` (the same vectors through the FAISS index that serves them) and, where the world is known,
`oracle` and `ceiling`. Each but the last two is a dot product of a user's and an item's vector, so one ranking routine
serves them all.

Promise: all systems see the same queries, histories, candidates and masking. Ordinary queries rank warm items; cold
ones rank all items, and the cold ones by themselves. A system that can rank none of the cold targets is absent there:
a zero would look like a measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.catalog.catalogue import Queries, Sequences
from pipeline.errors import MolarError
from pipeline.progress import Bar, bar
from pipeline.recommender.score_sum import Histories, Ranker, ScoreSum, Table, table_of
from pipeline.retrieval.index import Searcher, listed_ranks
from pipeline.retrieval.metrics import exposure
from pipeline.retrieval.rank import Scorer, scored_target_ranks, scored_top_k, target_ranks, top_k
from pipeline.retrieval.ranked import EXPOSED, VARIANTS, Evaluation, Ranked, Variant

Found = tuple[NDArray[np.int32], NDArray[np.float32]]  # items (U, K) and their scores (U, K), best first
Oracle = Callable[[Queries], Scorer]  # scores of all items at the moment of each query, from the process itself

Served = Literal["dueg", "sum"]  # the system whose item vectors the index holds

LIST_USERS = 4096  # users whose lists are made at once


def evaluate(
    sequences: Sequences,
    cold: Queries,
    teacher: Ranker,
    dueg: Ranker,
    mix: ScoreSum,
    searcher: Searcher,
    served: Served,
    *,
    cutoffs: Sequence[int],
    oracles: Mapping[str, Oracle] | None = None,
    device: str = "cpu",
) -> Evaluation:
    """Rank test and cold queries by every system, with and without the items of the history.

    `mix` makes the sum of the teacher and the DUEG, `searcher` asks the index of the system `served`, `device` is where
    vectors are multiplied; `oracles` are rankers that know the process, by the name they get.
    Raises MolarError: no test query, or a cutoff beyond the last item, where a miss would count as found.
    """
    test = sequences.queries("test")
    if not len(test):
        raise MolarError("no user has three interactions, so there is no test query: see data/catalog/summary.json")
    if max(cutoffs) > sequences.num_items:
        raise MolarError(
            f"evaluate.cutoffs asks for the best {max(cutoffs)} and there are {sequences.num_items} items: lower it"
        )
    contest = _Contest(sequences, teacher, dueg, mix, searcher, served, max(cutoffs), device)
    warm_N, known = contest.warm_N, oracles or {}
    with bar("rank", unit="rankings") as progress:
        (ordinary,) = contest.ranked(test, [(warm_N, known)], progress)
        among_all = among_cold = None
        if len(cold):
            # among all items an oracle would know that the moment is a cold one: it is no ceiling there
            among_all, among_cold = contest.ranked(cold, [(warm_N | True, {}), (~warm_N, known)], progress)
    return Evaluation(ordinary, among_all, among_cold, mix.weight, dict(mix.validation))


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
        self,
        sequences: Sequences,
        teacher: Ranker,
        dueg: Ranker,
        mix: ScoreSum,
        searcher: Searcher,
        served: Served,
        index_depth: int,
        device: str,
    ) -> None:
        self.sequences, self.teacher, self.dueg, self.mix, self.device = sequences, teacher, dueg, mix, device
        self.searcher, self.served, self.index_depth = searcher, served, index_depth
        self.counts_N = sequences.training_counts()
        self.warm_N = np.arange(sequences.num_items) < sequences.num_warm
        ids, content = table_of(teacher), table_of(dueg)
        self.tables = {
            "popularity": Table(self.counts_N.astype(np.float32)[:, None], self.warm_N),  # times a user's 1
            "teacher": ids,
            "dueg": content,
            "sum": mix.table(ids, content),
        }

    def users(self, queries: Queries, histories: Histories) -> dict[str, NDArray[np.float32]]:
        """User vectors (Q, D) of every system."""
        ids_QD = self.teacher.user_vectors(histories, queries.user)
        content_QE = self.dueg.user_vectors(histories, queries.user)
        return {
            "popularity": np.ones((len(histories), 1), np.float32),
            "teacher": ids_QD,
            "dueg": content_QE,
            "sum": self.mix.users(ids_QD, content_QE),
        }

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
            if name == self.served:
                depth = max(self.index_depth, EXPOSED)
                lists_QK, _ = self.searcher.search(users[name], depth, seen, both_N)
                ranks[f"{name}_index"] = listed_ranks(lists_QK[:, : self.index_depth], targets_Q, len(items_ND))
                shown[f"{name}_index"] = exposure(lists_QK[:, :EXPOSED], len(items_ND))
            progress.advance()
        return ranks, shown
