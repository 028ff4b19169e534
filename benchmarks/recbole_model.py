"""A model of RecBole's, trained as RecBole trains it: one JSON line per epoch, then one of test figures if asked.

    PYTHON-WITH-RECBOLE benchmarks/recbole_model.py FOLDER SASRec '{"epochs": 5, ...}'      run by benchmarks/peer.py
    PYTHON-WITH-RECBOLE benchmarks/recbole_model.py FOLDER FPMC '{...}' test

FOLDER holds interactions/interactions.inter, the JSON RecBole's settings. Runs RecBole 1.2.1 unchanged where its time
has passed: names that numpy has dropped are put back, torch.load is told to trust files, ray is an empty module.
Imports nothing of this project, whose libraries RecBole cannot share. CPU seconds are those of RecBole's `fit`:
loading the data and building the model are not in it, validation after every epoch is.

Test ranks are of RecBole's best checkpoint and RecBole's scores, all items ranked; masked, the user's other items are
left out, which RecBole does not do for models of sequences. Unmasked they must give what RecBole's own evaluator says,
which is told beside them.
"""

from __future__ import annotations

import functools
import json
import sys
import time
import types

import numpy as np
import torch


def main(folder: str, name: str, settings: str, test: str = "") -> None:
    """Train; tell every epoch, and what the best one has on test."""
    _bring_back_what_is_gone()
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    sys.argv = sys.argv[:1]  # which Config would read as well
    config = Config(name, "interactions", config_dict={**json.loads(settings), "data_path": folder})
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    chosen = (np.array(dataset.inter_feat["user_id"]), np.array(dataset.inter_feat["item_id"]))
    train, valid, held_out = data_preparation(config, dataset)
    model = get_model(name)(config, train.dataset)
    start = time.process_time()

    def tell(epoch: int, score: float) -> None:
        print(json.dumps({"epoch": epoch + 1, "ndcg@10": score, "cpu s": time.process_time() - start}), flush=True)

    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    trainer.fit(train, valid, saved=bool(test), verbose=False, callback_fn=tell)
    if test:
        model.load_state_dict(torch.load(trainer.saved_model_file)["state_dict"])
        own = trainer.evaluate(held_out, load_best_model=False, show_progress=False)["ndcg@10"]
        told = {"test": _tested(model, held_out.dataset.inter_feat, *chosen), "own ndcg@10": float(own)}
        print(json.dumps(told), flush=True)


@torch.no_grad()
def _tested(model, queries, users: np.ndarray, items: np.ndarray) -> dict[str, list[int]]:
    """Items before the target of every test query, 0 as ours count: of all, and of those that its user never chose."""
    model.eval()
    order = np.argsort(users, kind="stable")
    starts = np.searchsorted(users[order], np.arange(users.max() + 2))
    ranks = {"masked": [], "unmasked": []}
    for first in range(0, len(queries), 512):
        block = queries[first : first + 512]
        scores = model.full_sort_predict(block).view(len(block), -1).clone()
        scores[:, 0] = -torch.inf  # padding
        target = block["item_id"][:, None]
        reached = scores.gather(1, target)
        ranks["unmasked"] += (scores > reached).sum(1).tolist()
        for row, user in enumerate(block["user_id"].tolist()):
            scores[row, items[order[starts[user] : starts[user + 1]]]] = -torch.inf
        ranks["masked"] += (scores > reached).sum(1).tolist()
    return ranks


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
