"""RecBole's SASRec, trained as RecBole trains it: one JSON line per epoch, validation NDCG@10 and CPU seconds so far.

    PYTHON-WITH-RECBOLE benchmarks/recbole_sasrec.py FOLDER '{"epochs": 5, ...}'      run by benchmarks/train.py

FOLDER holds interactions/interactions.inter, the JSON RecBole's settings. Runs RecBole 1.2.1 unchanged where its time
has passed: names that numpy has dropped are put back, torch.load is told to trust files, ray is an empty module.
Imports nothing of this project, whose libraries RecBole cannot share. CPU seconds are those of RecBole's `fit`:
loading the data and building the model are not in it, validation after every epoch is.
"""

from __future__ import annotations

import functools
import json
import sys
import time
import types

import numpy as np
import torch


def main(folder: str, settings: str) -> None:
    """Train; tell every epoch."""
    _bring_back_what_is_gone()
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    sys.argv = sys.argv[:1]  # which Config would read as well
    config = Config("SASRec", "interactions", config_dict={**json.loads(settings), "data_path": folder})
    init_seed(config["seed"], config["reproducibility"])
    train, valid, _ = data_preparation(config, create_dataset(config))
    model = get_model("SASRec")(config, train.dataset)
    start = time.process_time()

    def tell(epoch: int, score: float) -> None:
        print(json.dumps({"epoch": epoch + 1, "ndcg@10": score, "cpu s": time.process_time() - start}), flush=True)

    trainer = get_trainer(config["MODEL_TYPE"], "SASRec")(config, model)
    trainer.fit(train, valid, saved=False, verbose=False, callback_fn=tell)


def _bring_back_what_is_gone() -> None:
    for name, now in (("float", float), ("bool", bool), ("int", int), ("object", object)):
        if name not in np.__dict__:
            setattr(np, name, now)
    torch.load = functools.partial(torch.load, weights_only=False)
    ray = types.ModuleType("ray")
    ray.tune = types.ModuleType("ray.tune")
    sys.modules |= {"ray": ray, "ray.tune": ray.tune}


if __name__ == "__main__":
    main(*sys.argv[1:])
