"""Does the test of `molar experiment show` reject as often as it says, and does it see what is there?

    MOLAR_REAL_DATA=... python -m benchmarks.significance nulls    ml-100k, 20 seeds; about an hour, a kill loses one
    dvc repro && python -m benchmarks.significance power           the demo world; a minute

nulls: seeds of one teacher differ by chance alone, so that a test of one against another should reject at .05 in one
pair of twenty, and Holm over nine comparisons in one family of twenty. The unit of the test is the user, averaged
over seeds; a row's own luck with its seeds is shared by all users, which no test over users can see. So the share of
rejections is measured: rows of one seed, and rows of three, which is what a table has by default. The teacher is a
SASRec that learns in eighteen epochs of large batches (`QUICK`): a third of the time of the preset's, and nearly as
good as the winner of strength.py.

power: the queries of the demo world are the population, so that a difference between two systems is known exactly. One
is made five per cent better than the other in truth by giving it the attainable ranks (`ceiling`) on as many queries,
drawn at random, as that takes; 5,000 users are drawn from it a thousand times. With as many queries as make the two
equal, the same count is the test's size. p < .05/9 is what Holm asks of the first of nine: power at its least.
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
from pipeline.catalog.catalogue import Sequences
from pipeline.params import Params
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
    """Seeds of one teacher, all pairs, and families of ten rows; the trained ranks stay under .molar/significance/."""
    params = configured(preset_params(name), "sasrec", QUICK, EPOCHS, EPOCHS)
    sequences = real_sequences(name, params)
    users_Q = sequences.queries("test").user
    ndcg_SQ = np.stack([ndcg_at(_ranks(name, params, sequences, seed), 10) for seed in range(seeds)])
    means_S = ndcg_SQ.mean(axis=1)
    print(
        f"{name}: {seeds} seeds, NDCG@10 {means_S.mean():.4f}, standard deviation over seeds {means_S.std(ddof=1):.4f}"
    )
    rng = np.random.default_rng(0)
    for per_row in (1, 3):
        rows = seeds // per_row
        if rows < 2:
            continue
        test = _remembered(ndcg_SQ, users_Q)
        pairs, drawn = [], []
        for _ in range(1 if per_row == 1 else 50):
            of_row = rng.permutation(seeds)[: rows * per_row].reshape(rows, per_row)
            pairs += [test(a, b) for a, b in itertools.combinations(of_row, 2)]
        print(f"rows of {per_row}: rejected {np.mean(np.array(pairs) < ALPHA):.1%} of {len(pairs):,} pairs")
        compared = min(COMPARISONS, rows - 1)
        for _ in range(families):
            of_row = rng.permutation(seeds)[: (compared + 1) * per_row].reshape(compared + 1, per_row)
            ps = holm({str(row): test(of_row[0], other) for row, other in enumerate(of_row[1:])})
            drawn.append(min(ps.values()) < ALPHA)
        print(f"rows of {per_row}: rejected in {np.mean(drawn):.1%} of {families:,} families of {compared}, after Holm")


@app.command()
def power(
    per_user: Path = Path("data/evaluation/per_user.parquet"),
    ours: str = "dueg",
    theirs: str = "teacher",
    users: int = 5_000,
    draws: int = 1_000,
) -> None:
    """How often a true difference of 0 % and of 5 % is called significant among so many users."""
    table = pq.read_table(per_user)
    ndcg = {of: ndcg_at(table[f"{of}_unmasked"].to_numpy(), 10).astype(np.float64) for of in (ours, theirs, "ceiling")}
    better_Q, base_Q = ndcg[ours], ndcg[theirs]
    rng = np.random.default_rng(0)
    for relative in (0.0, 0.05):
        mended_Q = _raised(better_Q, ndcg["ceiling"], base_Q.mean() * (1 + relative), rng)
        true = mended_Q.mean() / base_Q.mean() - 1
        p_values = []
        for draw in range(draws):
            of_U = rng.integers(0, len(base_Q), users)
            p_values.append(sign_flip(mended_Q[of_U], base_Q[of_U], np.arange(users), FLIPS, seed=draw))
        once, of_nine = np.mean(np.array(p_values) < ALPHA), np.mean(np.array(p_values) < ALPHA / COMPARISONS)
        spread = np.std(mended_Q - base_Q) / np.sqrt(users) / base_Q.mean()
        print(
            f"{ours} against {theirs}, true difference {true:+.2%} (standard error {spread:.2%} at {users:,} users): "
            f"p < {ALPHA} in {once:.1%} of {draws:,} draws, p < {ALPHA}/{COMPARISONS} in {of_nine:.1%}"
        )


def _raised(values_Q: Values, best_Q: Values, mean: float, rng: np.random.Generator) -> Values:
    """`values_Q` with `best_Q` put in at random queries, as many as bring its mean nearest to `mean`."""
    order_Q = rng.permutation(len(values_Q))
    gains_Q = np.cumsum((best_Q - values_Q)[order_Q]) / len(values_Q)
    count = int(np.argmin(np.abs(np.concatenate([[0.0], gains_Q]) + values_Q.mean() - mean)))
    raised_Q = values_Q.copy()
    raised_Q[order_Q[:count]] = best_Q[order_Q[:count]]
    return raised_Q


def _remembered(ndcg_SQ: Values, users_Q: NDArray[np.integer]) -> Callable[[NDArray, NDArray], float]:
    """p of two rows, each an array of seeds that are averaged; asked again, it is not computed again."""
    known: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}

    def test(ours: NDArray, theirs: NDArray) -> float:
        key = (tuple(sorted(ours)), tuple(sorted(theirs)))
        key = min(key, key[::-1])
        if key not in known:
            known[key] = sign_flip(ndcg_SQ[list(key[0])].mean(0), ndcg_SQ[list(key[1])].mean(0), users_Q, FLIPS)
        return known[key]

    return test


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
