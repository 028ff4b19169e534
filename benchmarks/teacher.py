"""How strong is the ID baseline? A preset's teacher on real data: leave-one-out, full ranking.

    MOLAR_REAL_DATA=... python -m benchmarks.teacher ml-100k --seeds 5      about 35 CPU minutes
    MOLAR_REAL_DATA=... python -m benchmarks.teacher ml-1m --seeds 1        about 30 CPU minutes

Prints one line per seed and the mean: test NDCG@10 and Recall@10 with the history masked and unmasked. The split is
`ingest`'s, the params are presets/<name>.yaml over params.yaml, model selection sees validation alone.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from pipeline import artifacts
from pipeline.catalog.build import build as build_catalog
from pipeline.catalog.catalogue import Sequences, open_sequences
from pipeline.live import Live
from pipeline.params import Params, check
from pipeline.params.document import apply, plain, read
from pipeline.recommender.duorec import Views
from pipeline.recommender.fit import Progress, fit
from pipeline.recommender.grid import Recommender, build, spec_of
from pipeline.recommender.objective import Objective
from pipeline.retrieval.metrics import ndcg_at, recall_at
from pipeline.retrieval.rank import target_ranks
from pipeline.retrieval.significance import standard_error
from stages.preset import PRESETS


def preset_params(name: str) -> Params:
    """params.yaml with presets/<name>.yaml laid over it."""
    document, path = read(Path("params.yaml")), PRESETS / f"{name}.yaml"
    apply(document, read(path))
    return check(plain(document), str(path))


def real_sequences(name: str, params: Params) -> Sequences:
    """What `ingest` makes of $MOLAR_REAL_DATA/<name>, in memory: nothing of it is kept on disk."""
    raw = Path(os.environ["MOLAR_REAL_DATA"]) / name
    with tempfile.TemporaryDirectory() as directory:
        with artifacts.write(Path(directory) / "catalog") as out:
            build_catalog(params.ingest.model_copy(update={"path": str(raw)}), out)
        return open_sequences(artifacts.read(Path(directory) / "catalog", "ingest"))


def trained(
    params: Params, sequences: Sequences, seed: int, scratch: Path, live: Live | None = None
) -> tuple[Recommender, Progress]:
    """The teacher of `params`, at its best epoch on validation; it goes on from where `scratch` says it stood.

    By one thread: the CPU seconds of several count their waiting for each other.
    """
    torch.set_num_threads(1)
    teacher = params.train_teacher
    spec = spec_of(teacher, sequences, params.protocol.max_history)
    torch.manual_seed(seed)
    model = build(spec, None, None)
    state = fit(
        model,
        sequences,
        teacher.training,
        seed=seed,
        mask_seen=params.protocol.mask_seen,
        scratch=scratch,
        objective=Objective(teacher.objective, sequences.training_counts()[: sequences.num_warm], seed),
        terms=[Views(model, sequences, teacher.duorec, seed)] if teacher.model == "duorec" else [],
        live=live,
    )
    return model, state


def tested(model: Recommender, sequences: Sequences) -> dict[str, float]:
    """Test metrics, each with its standard error over users (`... se`)."""
    queries = sequences.queries("test")
    histories = queries.histories(sequences)
    users, items = model.user_vectors(histories, queries.user), model.item_vectors()
    results = {}
    for name, seen in (("masked", histories), ("unmasked", None)):
        ranks = target_ranks(users, items, queries.target, seen=seen)
        for metric, values in (("ndcg@10", ndcg_at(ranks, 10)), ("recall@10", recall_at(ranks, 10))):
            results[f"{name} {metric}"] = float(values.mean())
            results[f"{name} {metric} se"] = standard_error(values, queries.user)
    return results


def main(name: str, seeds: Annotated[int, typer.Option()] = 5) -> None:
    """Train and print."""
    params = preset_params(name)
    sequences = real_sequences(name, params)
    rows = []
    for seed in range(seeds):
        start = time.process_time()
        with tempfile.TemporaryDirectory() as scratch:
            model, state = trained(params, sequences, seed, Path(scratch))
        rows.append({"epoch": float(state.best_epoch), "valid ndcg@10": state.best_ndcg, **tested(model, sequences)})
        words = ", ".join(f"{key} {value:.4f}" for key, value in rows[-1].items() if key.endswith("@10"))
        spent = time.process_time() - start
        print(f"seed {seed}: best epoch {state.best_epoch}, {words}, {spent:.0f} CPU s", flush=True)
    for key in rows[0]:
        values = np.array([row[key] for row in rows])
        print(f"{key}: mean {values.mean():.4f}, standard deviation {values.std(ddof=1) if seeds > 1 else 0:.4f}")


if __name__ == "__main__":
    typer.run(main)
