"""pmixer/SASRec.pytorch's training steps, as its main.py takes them: one JSON line of their CPU seconds.

    python benchmarks/pmixer_sasrec.py CLONE HISTORIES '{"steps": 40, ...}'      run by benchmarks/epoch.py

CLONE is `git clone https://github.com/pmixer/SASRec.pytorch`, HISTORIES a JSON list of each user's training items, the
JSON main.py's options, besides `items`, `warm` and `steps`. Model and sampler are the clone's own, imported; the step
around them is written anew: xavier weights, Adam, binary cross-entropy of a positive and a negative wherever there is a
target, `l2_emb` added even where it is 0. Left out: printing the loss (it is read), validation, checkpoints.

A step's seconds hold fetching its batch. The sampler's own, of its three processes, come apart: what they made and no
step took is counted with what was taken, to within three batches.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch


def main(clone: str, histories: str, settings: str) -> None:
    """Train, then tell."""
    sys.path.insert(0, str(Path(clone) / "python"))
    model_of, sampler_of = importlib.import_module("model"), importlib.import_module("utils")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)
    options = argparse.Namespace(**json.loads(settings))
    # users and items count from 1: item 0 is padding
    users = {user: [item + 1 for item in of] for user, of in enumerate(json.loads(Path(histories).read_text()), 1)}
    sampler = sampler_of.WarpSampler(
        users, len(users), options.items, batch_size=options.batch_size, maxlen=options.maxlen, n_workers=3
    )
    model = model_of.SASRec(len(users), options.items, options)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                torch.nn.init.xavier_normal_(weight)
        model.item_emb.weight[0] = model.pos_emb.weight[0] = 0
    optimiser = torch.optim.Adam(model.parameters(), lr=options.lr, betas=(0.9, 0.98))
    bce = torch.nn.BCEWithLogitsLoss()
    seconds, targets = [], 0
    for step in range(options.warm + options.steps):
        start = time.process_time()
        rows_B, inputs_BL, positives_BL, negatives_BL = (np.array(part) for part in sampler.next_batch())
        positive_BL, negative_BL = model(rows_B, inputs_BL, positives_BL, negatives_BL)
        ones_BL, zeros_BL, real = torch.ones_like(positive_BL), torch.zeros_like(negative_BL), np.where(positives_BL)
        optimiser.zero_grad()
        loss = bce(positive_BL[real], ones_BL[real]) + bce(negative_BL[real], zeros_BL[real])
        loss = loss + options.l2_emb * model.item_emb.weight.square().sum()
        loss.backward()
        optimiser.step()
        loss.item()
        if step >= options.warm:
            seconds.append(time.process_time() - start)
            targets += len(real[0])
    # the queue is full, so each process waits with a batch in its hands
    made = options.warm + options.steps + sampler.result_queue.qsize() + len(sampler.processors)
    sampler.close()
    sampled = resource.getrusage(resource.RUSAGE_CHILDREN)
    sampling = (sampled.ru_utime + sampled.ru_stime) / made
    print(json.dumps({"seconds": np.mean(seconds), "targets": targets / options.steps, "sampling": sampling}))


if __name__ == "__main__":
    main(*sys.argv[1:])
