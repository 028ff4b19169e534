"""What do FAISS's approximate indexes lose and gain on trained embeddings? Beside exact ranking, one thread.

    python -m benchmarks.approximate                        100,000 items, 20,000 users; about six minutes
    python -m benchmarks.approximate --random               then random vectors of the same shape as well
    python -m benchmarks.approximate --items 600 --users 400 --epochs 1 --queries 100            seconds: does it run?

Random vectors have no neighbourhoods and are about equally long, which trained ones are not, so SASRec is trained, by
sampled softmax, on a generated world: every item lies where two groups cross, users follow one of either kind and drift
(generated.py). That it has learnt something is seen from its validation NDCG@10 beside popularity's. Queries are its
vectors of the first `--queries` validation histories; the score is the inner product.

"Exact" is `rank.top_k`. Recall@k is the share of its first k that an index finds when asked for k; NDCG@10 is that of
the validation targets in the lists of 10, what a user notices of it. Milliseconds are the processor's for a query: of
`--queries` at once, for lists of 10 and of 50, and of one at a time, as a server has them, for lists of 10.

Flat, IVF and HNSW go through our `Searcher`, which asks for k + 8 (so an efSearch below that is that) and orders what
comes by the exact score. Our HNSW is a graph of distances between equally long vectors; beside it, asked bare, one
built by inner product. Product quantisation (PQ, a byte for every four dimensions) is asked bare, and for the best
200 that are then scored exactly and cut to k ("+ 200"), for which the vectors have to be kept as well. IVF has 4
sqrt(items) lists, HNSW 32 links and an efConstruction of 128. Build seconds are the processor's, training included;
size is that of the index as written.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import faiss
import numpy as np
import torch
import typer

from benchmarks.generated import sasrec, world
from benchmarks.teacher import trained
from pipeline.catalog.catalogue import Queries
from pipeline.retrieval import index as ours
from pipeline.retrieval.metrics import ndcg_at, short
from pipeline.retrieval.rank import pair_scores, target_ranks, top_k

SAMPLED = {"kind": "sampled", "negatives": 256, "draw": "popularity", "drawn_per": "batch", "log_q": True}
TRAINING = {"learning_rate": 3e-3, "weight_decay": 0.1, "average_epochs": 0.5}  # a few epochs of sparse data
RESCORED = 200
LINKS, BREADTH = 32, 128  # of HNSW
ALONE = 100  # queries asked one at a time
Search = Callable[[np.ndarray, int], np.ndarray]  # users (Q, D), k -> items (Q, k), best first, -1 for none

OURS = ("flat", "IVF", "HNSW")
# How each index is asked: a parameter of FAISS's and its values
SETTINGS: dict[str, tuple[str | None, tuple[int, ...]]] = {
    "flat": (None, (0,)),
    "IVF": ("nprobe", (1, 4, 16, 64)),
    "HNSW": ("efSearch", (16, 64, 128, 512)),
    "HNSW by inner product": ("efSearch", (128, 512)),
    "PQ": (None, (0,)),
    "IVF-PQ": ("nprobe", (16, 64)),
}


def built(kind: str, items_ND: np.ndarray) -> Any:
    """FAISS's inner-product index of all items."""
    items, width = items_ND.shape
    lists = round(4 * items**0.5)
    if kind in OURS:
        sizes = {"ivf_lists": lists, "ivf_probes": 1, "hnsw_neighbours": LINKS, "hnsw_ef": BREADTH}
        return ours.build(items_ND, np.ones(items, np.bool_), kind.lower(), **sizes)  # type: ignore[arg-type]
    codes, metric = width // 4, faiss.METRIC_INNER_PRODUCT
    index: Any
    if kind == "HNSW by inner product":
        index = faiss.IndexHNSWFlat(width, LINKS, metric)
        index.hnsw.efConstruction = BREADTH
        index.add(items_ND)
        return index
    if kind == "PQ":
        index = faiss.IndexPQ(width, codes, 8, metric)
    else:
        index = faiss.IndexIVFPQ(faiss.IndexFlatIP(width), width, lists, codes, 8, metric)
        index.cp.min_points_per_centroid = 1
    index.pq.cp.min_points_per_centroid = 1  # a miniature is fine: no warning
    index.train(items_ND)
    index.add(items_ND)
    return index


def searched(kind: str, index: Any, items_ND: np.ndarray, again: bool) -> Search:
    """How an index is asked."""
    if kind in OURS:
        searcher = ours.Searcher(index, items_ND)
        return lambda users_QD, k: searcher.search(users_QD, k)[0]

    def search(users_QD: np.ndarray, k: int) -> np.ndarray:
        found_QM: np.ndarray = index.search(users_QD, max(k, RESCORED) if again else k)[1]
        if not again:
            return found_QM
        best_QK = np.lexsort((found_QM, -pair_scores(users_QD, items_ND, found_QM)), axis=1)[:, :k]
        return np.take_along_axis(found_QM, best_QK, axis=1)

    return search


def contestants(items_ND: np.ndarray) -> Iterator[tuple[str, Search, float, float]]:
    """Name, search, CPU seconds to build and MB; exact ranking first."""
    yield "exact", lambda users_QD, k: top_k(users_QD, items_ND, k)[0], 0.0, items_ND.nbytes / 1e6
    for kind, (parameter, values) in SETTINGS.items():
        start = time.process_time()
        index = built(kind, items_ND)
        seconds = time.process_time() - start
        size = faiss.serialize_index(index).nbytes / 1e6
        for value in values:
            name = kind
            if parameter:
                faiss.ParameterSpace().set_index_parameter(index, parameter, value)
                name += f", {parameter} {value}"
            yield name, searched(kind, index, items_ND, False), seconds, size
            if kind.endswith("PQ"):
                yield f"{name} + {RESCORED}", searched(kind, index, items_ND, True), seconds, size


def compare(users_QD: np.ndarray, items_ND: np.ndarray, targets_Q: np.ndarray | None) -> None:
    """The table, as Markdown; without targets no NDCG."""
    exact = {k: top_k(users_QD, items_ND, k)[0] for k in (10, 50)}
    print("| index | recall@10 | recall@50 | NDCG@10 | ms, top 10 | ms, top 50 | ms, one at a time | build s | MB |")
    print(f"|{'---|' * 9}")
    for name, search, seconds, size in contestants(items_ND):
        recalls, spent = [], []
        for k, exact_QK in exact.items():
            start = time.process_time()
            found_QK = search(users_QD, k)
            spent.append(1000 * (time.process_time() - start) / len(users_QD))
            recalls.append(recall(found_QK, exact_QK))
            if k == 10 and targets_Q is not None:
                ndcg = ndcg_at(ours.listed_ranks(found_QK, targets_Q, len(items_ND)), 10).mean()
        start = time.process_time()
        for query in range(min(ALONE, len(users_QD))):
            search(users_QD[query : query + 1], 10)
        alone = 1000 * (time.process_time() - start) / min(ALONE, len(users_QD))
        print(
            f"| {name} | {recalls[0]:.4f} | {recalls[1]:.4f} | {'-' if targets_Q is None else short(ndcg)} "
            f"| {spent[0]:.3f} | {spent[1]:.3f} | {alone:.3f} | {seconds:.1f} | {size:.1f} |",
            flush=True,
        )


def recall(found_QK: np.ndarray, exact_QK: np.ndarray) -> float:
    """Mean share of the exact lists' items that are found."""
    return float((found_QK[:, :, None] == exact_QK[:, None, :]).any(axis=1).mean())


def main(
    items: Annotated[int, typer.Option(help="PQ learns 256 centroids.", min=256)] = 100_000,
    users: Annotated[int, typer.Option(help="To train on.")] = 20_000,
    epochs: int = 6,
    queries: int = 2000,
    random: Annotated[bool, typer.Option("--random", help="Then Gaussian vectors of the same shape.")] = False,
) -> None:
    """Train, say what was learnt, print the tables."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    sequences = world(users, items)
    asked = sequences.queries("validation")
    start = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        model, state = trained(sasrec(SAMPLED, epochs, **TRAINING), sequences, 0, Path(scratch))
    seconds = time.process_time() - start
    counts_N1 = sequences.training_counts().astype(np.float32)[:, None]
    popularity = ndcg_at(target_ranks(np.ones((len(asked), 1), np.float32), counts_N1, asked.target), 10).mean()
    curve = ", ".join(short(row["ndcg@10"]) for row in state.curve or [])
    print(f"SASRec on {users:,} users x {items:,} items, {seconds:.0f} CPU s, validation included.")
    print(f"Validation NDCG@10 by epoch (the best is kept): {curve}; of popularity: {short(popularity)}.")
    print(f"{queries:,} queries of {model.model.dim} dimensions:\n")
    few = Queries(asked.user[:queries], asked.end[:queries], asked.target[:queries])
    users_QD, items_ND = model.user_vectors(few.histories(sequences)), model.item_vectors()
    compare(users_QD, items_ND, few.target)
    if random:
        print("\nRandom vectors of the same shape:\n")
        rng = np.random.default_rng(0)
        users_QD, items_ND = (rng.standard_normal(of.shape, dtype=np.float32) for of in (users_QD, items_ND))
        compare(users_QD, items_ND, None)


if __name__ == "__main__":
    typer.run(main)
