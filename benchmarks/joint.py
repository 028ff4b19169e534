"""What does joint training cost, and what does it bring? The cached mode beside it, from one and the same warm start.

    dvc repro train_teacher embed_items && python -m benchmarks.joint          the run that lies under data/, one thread
    python -m benchmarks.joint --epochs 1 --only lora --seed 3
    python -m benchmarks.joint --device cuda                     clock in place of CPU seconds

Every row is a process of its own, so that peak memory is its own. The warm start is the cached mode as params.yaml has
it (`train_dueg.training`), trained once for each seed; then each row takes `--epochs` epochs more and keeps its best by
validation: `cached` over the same embeddings, `lora` and `full` by joint training, so the difference between `cached`
and them is joint training's. `scratch` trains jointly (LoRA) from the first step, for as many epochs, without the warm
start. "embed" is what a joint row spends once more at its end, on the catalogue's new embeddings; its own item cache is
empty. Cold: cold targets among cold items. Results go to .molar/joint/<key>/, a key for params, inputs and code.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from pipeline import artifacts
from pipeline.artifacts import Artifact
from pipeline.catalog.catalogue import Queries, Sequences, open_cold, open_items, open_sequences
from pipeline.params import load_params
from pipeline.recommender.dueg import assembled
from pipeline.recommender.fit import Progress
from pipeline.recommender.grid import Recommender
from pipeline.recommender.joint import JointItems
from pipeline.retrieval.metrics import ndcg_at
from pipeline.retrieval.rank import target_ranks
from stages.command import stage_key
from stages.paths import CATALOG, EMBEDDINGS, MIRM, TEACHER

ROWS = ("warm start", "cached", "lora", "full", "scratch")
COLUMNS = ("epochs", "s an epoch", "items encoded an epoch", "embed", "peak MiB", "validation", "test", "cold")


def row(name: str, results: Path, epochs: int, seed: int, device: str) -> dict[str, float]:
    """One row of the table, measured in this process."""
    params, on = load_params(), torch.device(device)
    torch.set_num_threads(1)
    asked, protocol = params.train_dueg, params.protocol
    catalog, mirm = artifacts.read(CATALOG, "ingest"), artifacts.read(MIRM, "finetune_mirm")
    embeddings = artifacts.read(EMBEDDINGS, "embed_items")
    sequences, teacher = open_sequences(catalog), Artifact(TEACHER, "train_teacher")
    read = {"embeddings": embeddings, "mirm": mirm, "teacher": teacher}
    dueg = assembled(asked, protocol, seed, sequences, device=on, **read)
    clock = time.process_time if device == "cpu" else time.perf_counter
    begun, warm = clock(), None
    if name != "scratch":
        warm = dueg.train(asked.training, results / f"warm-{seed}")  # what an earlier row has trained is not again
    state, source, embed = warm, None, 0.0
    if name != "warm start":
        begun, joint = clock(), asked.joint.model_copy(update={"tuning": "full" if name == "full" else "lora"})
        if name != "cached":
            items = open_items(catalog)
            source = JointItems(dueg.model, items, mirm, embeddings, joint, params.embed_items, seed)
        update = {"max_epochs": epochs + (warm.epoch if warm else 0), "patience": epochs}
        with tempfile.TemporaryDirectory() as scratch:
            state = dueg.train(asked.training.model_copy(update=update), Path(scratch), source=source, after=warm)
    assert state is not None
    done, spent = state.epoch - (warm.epoch if warm and name != "warm start" else 0), clock() - begun
    if source is not None:
        begun = clock()
        with tempfile.TemporaryDirectory() as folder:
            os.environ["MOLAR_CACHE"] = folder
            source.write(Path(folder), "train_dueg", 0)
        embed = clock() - begun
    encoded = source.encoder.encoded + source.encoder.anew if source else 0
    figures = (done, spent / done, encoded / done, embed, _peak(device), *_ndcg(dueg.model, sequences, catalog, state))
    return dict(zip(COLUMNS, map(float, figures), strict=True))


def _peak(device: str) -> float:
    """MiB: of the GPU's memory, or of this process's."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _ndcg(model: Recommender, sequences: Sequences, catalog: Artifact, state: Progress) -> tuple[float, float, float]:
    """NDCG@10 of validation, of test targets among warm items and of cold ones among cold ones, none masked."""
    items_ND, known = model.item_vectors(), sequences.num_warm

    def ranked(queries: Queries, first: int, last: int) -> float:
        if not len(queries.target):
            return float("nan")
        users_QD = model.user_vectors(queries.histories(sequences), queries.user)
        ranks_Q = target_ranks(users_QD, items_ND[first:last], queries.target - first)
        return float(ndcg_at(ranks_Q, 10).mean())

    test, cold = sequences.queries("test"), open_cold(catalog)
    return state.best_ndcg, ranked(test, 0, known), ranked(cold, known, sequences.num_items)


def report(results: Path, seed: int) -> None:
    """The table, as Markdown, of the rows that are there."""
    print(f"| mode | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
    for name in ROWS:
        path = results / f"{name}-{seed}.json"
        if path.exists():
            found = json.loads(path.read_text())
            cells = [f"{found[c]:.4f}" if c in COLUMNS[-3:] else f"{found[c]:,.2f}" for c in COLUMNS]
            print(f"| {name} | {' | '.join(cells)} |")


def main(
    epochs: Annotated[int, typer.Option(min=1, help="After the warm start.")] = 3,
    seed: int = 0,
    only: Annotated[list[str] | None, typer.Option("--only", help=f"Of {', '.join(ROWS)}.")] = None,
    device: str = "cpu",
    measure: Annotated[str | None, typer.Option(help="One row in this process: what each process is told.")] = None,
) -> None:
    """Measure the rows, then report."""
    results = Path(".molar/joint") / stage_key("train_dueg")
    results.mkdir(parents=True, exist_ok=True)
    if measure is not None:
        found = row(measure, results, epochs, seed, device)
        (results / f"{measure}-{seed}.json").write_text(json.dumps(found))
        return
    for name in ROWS if only is None else ("warm start", *only):
        path = results / f"{name}-{seed}.json"
        if name == "warm start" and path.exists():  # its checkpoint is there: a second look would cost nothing
            continue
        command = [sys.executable, "-m", "benchmarks.joint", "--measure", name]
        command += ["--epochs", str(epochs), "--seed", str(seed), "--device", device]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    report(results, seed)


if __name__ == "__main__":
    typer.run(main)
