"""How strong is the ID baseline? SASRec with a preset's params on real data: leave-one-out, full ranking.

    MOLAR_REAL_DATA=... python -m benchmarks.teacher ml-100k --seeds 5      about 20 CPU minutes
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
from ruamel.yaml import YAML

from pipeline import artifacts
from pipeline.catalog.build import build as build_catalog
from pipeline.catalog.catalogue import Sequences, open_sequences
from pipeline.params import Params, check
from pipeline.recommender.duorec import Views
from pipeline.recommender.fit import fit
from pipeline.recommender.grid import build, spec_of
from pipeline.recommender.objective import Objective
from pipeline.retrieval.metrics import ndcg_at, recall_at
from pipeline.retrieval.rank import target_ranks
from stages.preset import PRESETS, apply


def preset_params(name: str) -> Params:
    """params.yaml with presets/<name>.yaml laid over it."""
    yaml = YAML(typ="safe")
    values = yaml.load(Path("params.yaml"))
    apply(values, yaml.load(PRESETS / f"{name}.yaml"))
    return check(values, f"{PRESETS / name}.yaml")


def train(params: Params, sequences: Sequences, seed: int) -> dict[str, float]:
    """One seed's test metrics."""
    teacher = params.train_teacher
    spec = spec_of(teacher, sequences, params.protocol.max_history)
    torch.manual_seed(seed)
    model = build(spec, None, None)
    with tempfile.TemporaryDirectory() as scratch:
        mask = params.protocol.mask_seen
        terms = [Views(model, sequences, teacher.duorec, seed)] if teacher.model == "duorec" else []
        state = fit(
            model,
            sequences,
            teacher.training,
            seed=seed,
            mask_seen=mask,
            scratch=Path(scratch),
            objective=Objective(teacher.objective, sequences.training_counts()[: sequences.num_warm], seed),
            terms=terms,
        )
    queries = sequences.queries("test")
    histories = queries.histories(sequences)
    users, items = model.user_vectors(histories, queries.user), model.item_vectors()
    results = {"epoch": float(state.best_epoch), "valid ndcg@10": state.best_ndcg}
    for name, seen in (("masked", histories), ("unmasked", None)):
        ranks = target_ranks(users, items, queries.target, seen=seen)
        results[f"{name} ndcg@10"] = float(ndcg_at(ranks, 10).mean())
        results[f"{name} recall@10"] = float(recall_at(ranks, 10).mean())
    return results


def main(name: str, seeds: Annotated[int, typer.Option()] = 5) -> None:
    """Train and print."""
    params = preset_params(name)
    raw = Path(os.environ["MOLAR_REAL_DATA"]) / name
    with tempfile.TemporaryDirectory() as directory:
        with artifacts.write(Path(directory) / "catalog") as out:
            build_catalog(params.ingest.model_copy(update={"path": str(raw)}), out)
        sequences = open_sequences(artifacts.read(Path(directory) / "catalog", "ingest"))
    rows = []
    for seed in range(seeds):
        start = time.process_time()
        rows.append(train(params, sequences, seed))
        words = ", ".join(f"{key} {value:.4f}" for key, value in rows[-1].items() if key != "epoch")
        print(
            f"seed {seed}: best epoch {rows[-1]['epoch']:.0f}, {words}, {time.process_time() - start:.0f} CPU s",
            flush=True,
        )
    for key in rows[0]:
        values = np.array([row[key] for row in rows])
        print(f"{key}: mean {values.mean():.4f}, standard deviation {values.std(ddof=1) if seeds > 1 else 0:.4f}")


if __name__ == "__main__":
    typer.run(main)
