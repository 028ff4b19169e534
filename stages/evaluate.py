"""`evaluate`: full-ranking metrics of every system, per-user results, significance, lists, plots.

    python -m stages.evaluate       reads everything before it; writes data/evaluation/ and metrics.json

The only stage that may open the demo world's truth: for the oracle, which knows each user's taste,
and for the ceiling, which knows the process and sees the history alone, as models do.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from stages.command import command, running
from stages.paths import CATALOG, DUEG, EMBEDDINGS, EVALUATION, INDEX, TEACHER, WORLD

if TYPE_CHECKING:
    import numpy as np

    from pipeline.catalog.catalogue import Queries, Sequences
    from pipeline.recommender.evaluation import Oracle
    from pipeline.retrieval.rank import Scorer
    from pipeline.world.oracle import Truth

METRICS = Path("metrics.json")


@command
def main() -> None:
    """Rank what users chose next, by every system."""
    from rich.console import Console

    from pipeline import artifacts
    from pipeline.catalog.catalogue import open_cold, open_items, open_sequences
    from pipeline.device import pick
    from pipeline.params import load_params, load_runtime
    from pipeline.progress import say
    from pipeline.recommender import evaluation, score_sum
    from pipeline.recommender.grid import load_recommender
    from pipeline.report import results
    from pipeline.retrieval import index
    from pipeline.retrieval.rank import top_k
    from pipeline.world.oracle import open_truth

    params = load_params()
    settings, mask_seen = params.evaluate, params.protocol.mask_seen
    device = str(pick(load_runtime()))
    with running("evaluate") as run:
        catalog = artifacts.read(CATALOG, "ingest")
        sequences = open_sequences(catalog)
        embeddings = artifacts.read(EMBEDDINGS, "embed_items")
        teacher = load_recommender(artifacts.read(TEACHER, "train_teacher"), None, device)
        dueg = load_recommender(artifacts.read(DUEG, "train_dueg"), embeddings, device)
        index_of = artifacts.read(INDEX, "build_index")
        built = index.read(index_of.file("items.faiss"))
        cold, oracles = open_cold(catalog), {}
        if settings.oracle:
            truth, item_ids = open_truth(artifacts.read(WORLD, "demo")), open_items(catalog).item_ids
            oracles["oracle"] = oracle_of(truth, sequences, item_ids)
            if settings.ceiling:
                asked = sequences.queries("test"), cold
                oracles |= ceilings_of(truth, sequences, item_ids, asked, settings.ceiling)
        served: score_sum.Ranker = dueg
        if mix := score_sum.read(index_of):
            served = score_sum.Summed(teacher, dueg, mix)
        else:
            weights = params.build_index.sum_weights
            mix = score_sum.choose(sequences, teacher, dueg, weights, mask_seen, device)
        items_ND = served.item_vectors()
        found = evaluation.evaluate(
            sequences,
            cold,
            teacher,
            dueg,
            mix,
            index.Searcher(built, items_ND, device),
            "dueg" if served is dueg else "sum",
            cutoffs=settings.cutoffs,
            oracles=oracles,
            device=device,
        )
        report = results.report(found, "masked" if mask_seen else "unmasked", settings.cutoffs, settings.bootstrap)

        def search(histories: score_sum.Histories, users: np.ndarray) -> evaluation.Found:
            seen = histories if mask_seen else None
            users_UD = served.user_vectors(histories, users)
            return top_k(users_UD, items_ND, settings.top_k, seen, served.rankable, device=device)

        with artifacts.write(EVALUATION, queries=len(found.test.targets), users=len(sequences)) as out:
            results.write_report(out, found, report, sequences.user_ids)
            results.write_lists(out / "top.parquet", evaluation.lists(sequences, search))
        artifacts.write_json(METRICS, results.headline_metrics(report))
        Console().print(results.table(report, settings.cutoffs), results.exposure_table(report))
        say(results.difference_line(report))
        if line := results.ceiling_line(report):
            say(line)
        run.done(f"{len(found.test.targets):,} test queries, lists of {len(sequences):,} users", EVALUATION)


def oracle_of(truth: Truth, sequences: Sequences, item_ids: list[str]) -> Oracle:
    """The demo world's true scores in the catalogue's order of items, asked by the catalogue's queries.

    Raises MolarError where the catalogue holds an item or a user that the world does not, or where a user's sequence is
    not how the world began it: a filter or a hold-out has then moved the moments that the truth is about.
    """
    import numpy as np

    from pipeline.errors import MolarError

    column_of = {item_id: column for column, item_id in enumerate(truth.item_ids)}
    strange = next((item_id for item_id in item_ids if item_id not in column_of), None)
    if strange is not None:
        raise MolarError(f"item {strange} is not of the demo world: set evaluate.oracle to false for other data")
    columns_N = np.array([column_of[item_id] for item_id in item_ids])
    for user, user_id in enumerate(sequences.user_ids):
        if user_id not in truth.rows:
            raise MolarError(f"user {user_id} is not of the demo world: set evaluate.oracle to false for other data")
        chosen, rows = columns_N[sequences.history(user)], truth.rows[user_id]
        if not np.array_equal(truth.item_E[rows.start : rows.stop][: len(chosen)], chosen):
            raise MolarError(
                f"user {user_id} of the demo world chose otherwise than the catalogue says: ingest the world without "
                "filters and with its own cold items, or set evaluate.oracle to false"
            )

    def oracle(queries: Queries) -> Scorer:
        def scorer(block: slice) -> np.ndarray:
            users = [sequences.user_ids[user] for user in queries.user[block]]
            scores_BN: np.ndarray = truth.scores(users, queries.end[block])[:, columns_N]
            return scores_BN

        return scorer

    return oracle


def ceilings_of(
    truth: Truth, sequences: Sequences, item_ids: list[str], asked: Iterable[Queries], states: int
) -> dict[str, Oracle]:
    """The best rankings by the history alone: the filter's two runs pooled (`ceiling`), and each by itself.

    Everything asked is computed here, once, for all variants of the ranking: 8 bytes a query and item. The catalogue
    must have passed `oracle_of`.
    """
    import numpy as np

    from pipeline.report.results import CEILING_RUNS
    from pipeline.world.ceiling import Ceiling

    column_of = {item_id: column for column, item_id in enumerate(truth.item_ids)}
    columns_N = np.array([column_of[item_id] for item_id in item_ids])
    pairs = [(int(u), int(e)) for queries in asked for u, e in zip(queries.user, queries.end, strict=True)]
    histories = [columns_N[sequences.history(user, end)] for user, end in pairs]
    is_cold = [bool(truth.cold_E[truth.rows[sequences.user_ids[user]][end]]) for user, end in pairs]
    scores_RQN = Ceiling(truth, states).scores(histories, is_cold)
    row_of = {pair: row for row, pair in enumerate(pairs)}

    def ranker(runs: slice) -> Oracle:
        def oracle(queries: Queries) -> Scorer:
            def scorer(block: slice) -> np.ndarray:
                ends = zip(queries.user[block], queries.end[block], strict=True)
                rows = [row_of[int(user), int(end)] for user, end in ends]
                scores_BN: np.ndarray = scores_RQN[runs, rows].sum(axis=0)[:, columns_N]
                return scores_BN

            return scorer

        return oracle

    return {"ceiling": ranker(slice(None))} | {name: ranker(slice(r, r + 1)) for r, name in enumerate(CEILING_RUNS)}


if __name__ == "__main__":
    typer.run(main)
