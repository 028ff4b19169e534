"""Does the test of `molar experiment show` reject as often as it says, and does it see what is there?

    MOLAR_REAL_DATA=... python -m benchmarks.significance nulls    ml-100k, 20 seeds; half an hour, a kill loses one
    dvc repro && python -m benchmarks.significance power           the demo world, 12 seeds; half an hour

nulls: seeds of one teacher differ by chance alone, so that a test of one against another should reject at .05 in one
pair of twenty, and Holm over nine comparisons in one family of twenty. A seed's luck is shared by all users, which no
test over users can see; a table of several seeds counts it (pipeline/retrieval/luck.py), one of a single seed cannot.
So the share of rejections is measured for rows of one seed, of two and of three, by users alone and with luck.
The teacher is a SASRec that learns in eighteen epochs of large batches (`QUICK`): a third of the time of the preset's,
and nearly as good as the winner of strength.py.

power: the queries of the demo world are the population, so that a difference between two systems is known exactly. Row
by row the teacher's seeds are drawn; another system differs from it as the DUEG does, query by query, has the same
luck, and is made five per cent better in truth by the attainable ranks (`ceiling`) on as many queries, drawn at random,
as that takes. 5,000 users are drawn a thousand times. With as many queries as make the two equal, the same count is the
test's size. p < .05/9 is what Holm asks of the first of nine: power at its least.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer
from numpy.typing import NDArray

from benchmarks.strength import SASREC, configured
from benchmarks.teacher import preset_params, real_sequences, trained
from pipeline import artifacts
from pipeline.catalog.catalogue import Sequences, open_sequences
from pipeline.params import Params, load_params
from pipeline.retrieval.luck import luck
from pipeline.retrieval.metrics import ndcg_at
from pipeline.retrieval.rank import target_ranks
from pipeline.retrieval.significance import holm, sign_flip

ALPHA, FLIPS, COMPARISONS = 0.05, 10_000, 9
EPOCHS = 18
QUICK = SASREC | {
    "sasrec.norm": "pre",
    "sasrec.dropout": 0.2,
    "sasrec.count_from": "end",
    "training.learning_rate": 3e-3,
    "training.batch_size": 128,
    "training.weight_decay": 0.01,
}
app = typer.Typer(help=__doc__)
Values = NDArray[np.float64]


@app.command()
def nulls(
    name: str = "ml-100k",
    seeds: Annotated[int, typer.Option(min=2)] = 20,
    families: Annotated[int, typer.Option(min=1)] = 1_000,
) -> None:
    """Seeds of one teacher as tables of up to ten rows; the trained ranks stay under .molar/significance/."""
    params = configured(preset_params(name), "sasrec", QUICK, EPOCHS, EPOCHS)
    sequences = real_sequences(name, params)
    users_Q = sequences.queries("test").user
    ndcg_SQ = _ndcg(name, params, sequences, seeds)
    rng = np.random.default_rng(0)
    for per_row, counted in ((1, False), (2, False), (2, True), (3, False), (3, True)):
        rows = min(COMPARISONS + 1, seeds // per_row)
        pairs, first = [], []
        for _ in range(families if rows > 1 else 0):
            test = table(ndcg_SQ[_drawn(rng, seeds, rows, per_row)], users_Q, counted)
            p_values = [test(0, other) for other in range(1, rows)]
            pairs += p_values
            first.append(min(holm(dict(enumerate(p_values))).values()))
        if pairs:
            print(
                f"rows of {per_row}, {'users and luck' if counted else 'users alone'}: "
                f"p < {ALPHA} in {np.mean(np.array(pairs) < ALPHA):.1%} of {len(pairs):,} comparisons, "
                f"in {np.mean(np.array(first) < ALPHA):.1%} of {families:,} families of {rows - 1} after Holm",
                flush=True,
            )


@app.command()
def power(
    per_user: Path = Path("data/evaluation/per_user.parquet"),
    catalog: Path = Path("data/catalog"),
    seeds: Annotated[int, typer.Option(min=3)] = 12,
    users: int = 5_000,
    draws: int = 1_000,
) -> None:
    """How often a true difference of 0 % and of 5 % is called significant, in tables of as many rows as seeds make."""
    found, params = pq.read_table(per_user), load_params()
    ndcg = {of: ndcg_at(found[f"{of}_unmasked"].to_numpy(), 10).astype(np.float64) for of in ("dueg", "ceiling")}
    base_SQ = _ndcg("demo", params, open_sequences(artifacts.read(catalog, "ingest")), seeds)
    base_Q = base_SQ.mean(axis=0)
    rng = np.random.default_rng(0)
    for relative, per_row in itertools.product((0.0, 0.05), (1, 3)):
        mended_Q = _raised(ndcg["dueg"], ndcg["ceiling"], base_Q.mean() * (1 + relative), rng)
        rows = min(COMPARISONS + 1, seeds // per_row)
        p_values = []
        for _ in range(draws):
            of_U = rng.integers(0, len(base_Q), users)
            values_RSU = base_SQ[_drawn(rng, seeds, rows, per_row)][..., of_U]
            values_RSU[0] += (mended_Q - base_Q)[of_U]
            p_values.append(table(values_RSU, np.arange(users), counted=per_row > 1)(0, 1))
        once, of_nine = (np.mean(np.array(p_values) < ALPHA / tests) for tests in (1, COMPARISONS))
        print(
            f"{rows} rows of {per_row}, true difference {mended_Q.mean() / base_Q.mean() - 1:+.2%}: p < {ALPHA} in "
            f"{once:.1%} of {draws:,} draws of {users:,} users, p < {ALPHA}/{COMPARISONS} in {of_nine:.1%}",
            flush=True,
        )


def table(values_RSQ: Values, users_Q: NDArray[np.integer], counted: bool) -> Callable[[int, int], float]:
    """p of two of its rows, as `molar experiment show` has it; with the seeds' luck unless it is not `counted`."""
    of_seeds = luck(values_RSQ, users_Q) if counted else None
    luck_R = of_seeds.draws(FLIPS) if of_seeds else None
    means_RQ = values_RSQ.mean(axis=1)
    return lambda ours, theirs: sign_flip(means_RQ[ours], means_RQ[theirs], users_Q, FLIPS, luck_R=luck_R)


def _drawn(rng: np.random.Generator, seeds: int, rows: int, per_row: int) -> NDArray[np.integer]:
    """(rows, per_row): seeds, none twice."""
    return rng.permutation(seeds)[: rows * per_row].reshape(rows, per_row)


def _raised(values_Q: Values, best_Q: Values, mean: float, rng: np.random.Generator) -> Values:
    """`values_Q` with `best_Q` put in at random queries, as many as bring its mean nearest to `mean`."""
    order_Q = rng.permutation(len(values_Q))
    gains_Q = np.cumsum((best_Q - values_Q)[order_Q]) / len(values_Q)
    count = int(np.argmin(np.abs(np.concatenate([[0.0], gains_Q]) + values_Q.mean() - mean)))
    raised_Q = values_Q.copy()
    raised_Q[order_Q[:count]] = best_Q[order_Q[:count]]
    return raised_Q


def _ndcg(name: str, params: Params, sequences: Sequences, seeds: int) -> Values:
    """(S, Q): unmasked NDCG@10 of every seed's teacher on the test queries."""
    ndcg_SQ = np.stack([ndcg_at(_ranks(name, params, sequences, seed), 10) for seed in range(seeds)]).astype(np.float64)
    means_S = ndcg_SQ.mean(axis=1)
    print(f"{name}: {seeds} seeds, NDCG@10 {means_S.mean():.4f}, their standard deviation {means_S.std(ddof=1):.4f}")
    return ndcg_SQ


def _ranks(name: str, params: Params, sequences: Sequences, seed: int) -> NDArray[np.integer]:
    """Unmasked test ranks (Q,) of that seed's teacher, trained unless they are there."""
    told = params.model_dump_json(include={"protocol", "ingest", "train_teacher"})
    kept = Path(f".molar/significance/{name}-{hashlib.sha256(told.encode()).hexdigest()[:12]}-{seed}.npy")
    if not kept.is_file():
        with tempfile.TemporaryDirectory() as scratch:
            model, _ = trained(params, sequences, seed, Path(scratch))
        queries = sequences.queries("test")
        users_QD = model.user_vectors(queries.histories(sequences), queries.user)
        kept.parent.mkdir(parents=True, exist_ok=True)
        ranks_Q = target_ranks(users_QD, model.item_vectors(), queries.target)
        with kept.with_suffix(".next").open("wb") as handle:
            np.save(handle, ranks_Q)
        kept.with_suffix(".next").replace(kept)
    return np.load(kept)


if __name__ == "__main__":
    app()
