"""How strong are RecBole's FPMC and GRU4Rec on the data of benchmarks/strength.py? And RecBole itself, for others.

    python3 -m venv /elsewhere && /elsewhere/bin/pip install --no-deps recbole==1.2.1      and what it asks for, but ray
        (numpy 1.26, pandas 2.2, scipy 1.13, scikit-learn, colorlog, colorama, texttable, tabulate, plotly, tensorboard,
        thop, psutil, pyyaml, tqdm, cloudpickle, torch)
    MOLAR_REAL_DATA=... python -m benchmarks.peer ml-1m FPMC --recbole-python /elsewhere/bin/python

One seed, RecBole's own sizes and learning rate, early stopping on its validation NDCG@10 (full ranking, nothing
masked), history 50. Test NDCG@10 and Recall@10 of the best epoch, masked and unmasked, over all items.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.teacher import preset_params, real_sequences
from pipeline.catalog.catalogue import Sequences
from pipeline.retrieval.metrics import ndcg_at, recall_at

HISTORY = 50
ROUNDED = 2e-4  # RecBole's figures have four places, and it breaks ties by chance
SETTINGS: dict[str, Any] = {
    "use_gpu": False,
    "seed": 0,
    "learning_rate": 1e-3,
    "eval_batch_size": 4096,
    "MAX_ITEM_LIST_LENGTH": HISTORY,
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
    "metrics": ["NDCG"],
    "topk": [10],
    "valid_metric": "NDCG@10",
    "show_progress": False,
}
CROSS_ENTROPY = {"loss_type": "CE", "train_neg_sample_args": None}
MODELS: dict[str, dict[str, Any]] = {
    "FPMC": {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}},
    "GRU4Rec": CROSS_ENTROPY,
}


def write_inter(sequences: Sequences, folder: Path) -> None:
    """RecBole's file of interactions; time is the place in the sequence, which float32 holds and no sort can change."""
    path = folder / "interactions" / "interactions.inter"
    path.parent.mkdir()
    with path.open("w") as handle:
        handle.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user in range(len(sequences)):
            handle.writelines(f"{user}\t{item}\t{place}\n" for place, item in enumerate(sequences.history(user)))


def recbole(
    python: Path, sequences: Sequences, model: str, settings: Mapping[str, Any], *, test: bool = False
) -> Iterator[dict[str, Any]]:
    """What benchmarks/recbole_model.py tells, as it tells it: epochs, then test ranks if asked for."""
    with tempfile.TemporaryDirectory() as folder:
        write_inter(sequences, Path(folder))
        program = Path(__file__).with_name("recbole_model.py").absolute()
        told = json.dumps({**SETTINGS, **settings, "checkpoint_dir": folder})
        command = [str(python.absolute()), str(program), folder, model, told, *(["test"] if test else [])]
        with (Path(folder) / "errors").open("w+") as errors:
            # in its own folder: it leaves logs where it runs
            process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True)
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("{"):
                    yield json.loads(line)
            if process.wait():
                errors.seek(0)
                raise SystemExit(f"RecBole failed:\n{errors.read()[-3000:]}")


def main(
    data: str,
    model: Annotated[str, typer.Argument(help="FPMC or GRU4Rec.")],
    recbole_python: Annotated[Path, typer.Option(help="A python that has recbole 1.2.1.")],
    epochs: Annotated[int, typer.Option(help="At most.")] = 60,
    batch: Annotated[int, typer.Option(help="Prefixes; RecBole's own number.")] = 2048,
) -> None:
    """Train, print every epoch and the test figures."""
    os.environ["OMP_NUM_THREADS"] = "1"
    sequences = real_sequences(data, preset_params(data))
    settings = MODELS[model] | {"epochs": epochs, "train_batch_size": batch}
    for told in recbole(recbole_python, sequences, model, settings, test=True):
        if "test" not in told:
            words = f"validation NDCG@10 {told['ndcg@10']:.4f} (unmasked), {told['cpu s']:.1f} CPU s"
            print(f"{model}, epoch {told['epoch']}: {words}", flush=True)
            continue
        for kind, ranks in told["test"].items():
            ranks_Q = np.array(ranks)
            ndcg, recall = ndcg_at(ranks_Q, 10).mean(), recall_at(ranks_Q, 10).mean()
            if kind == "unmasked" and abs(ndcg - told["own ndcg@10"]) > ROUNDED:
                raise SystemExit(f"we make NDCG@10 {ndcg:.5f} of its ranks, RecBole's evaluator {told['own ndcg@10']}")
            print(f"{model}, test, {kind}: NDCG@10 {ndcg:.4f}, Recall@10 {recall:.4f}")


if __name__ == "__main__":
    typer.run(main)
