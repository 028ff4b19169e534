"""benchmarks/epoch.py: FLOPs are those torch counts, the clock takes whole steps, pmixer gets what ours trains on."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.epoch import BATCH, WARM, Clock, Enough, full_windows, ours, pmixers
from benchmarks.peer import HISTORY
from benchmarks.plain_products import Product, plain_seconds, products
from benchmarks.teacher import preset_params
from pipeline.recommender.sasrec import SASRec

# What benchmarks/pmixer_sasrec.py needs of a clone: batches of users 1.., item 0 padding, logits of two kinds.
CLONE = {
    "model.py": """
import torch
class SASRec(torch.nn.Module):
    def __init__(self, users, items, options):
        super().__init__()
        self.item_emb = torch.nn.Embedding(items + 1, options.hidden_units)
        self.pos_emb = torch.nn.Embedding(options.maxlen + 1, options.hidden_units)
    def forward(self, users, inputs, positives, negatives):
        read = self.item_emb(torch.tensor(inputs))
        return [(read * self.item_emb(torch.tensor(of))).sum(-1) for of in (positives, negatives)]
""",
    "utils.py": """
import queue
import numpy as np
class WarpSampler:
    def __init__(self, users, count, items, batch_size, maxlen, n_workers):
        assert sorted(users) == list(range(1, count + 1)) and 1 <= min(map(min, users.values()))
        assert max(map(max, users.values())) <= items
        self.users, self.size, self.length = users, batch_size, maxlen
        self.result_queue, self.processors = queue.Queue(), []
    def next_batch(self):
        users = range(1, self.size + 1)
        at_end = lambda of: np.array([0] * (self.length - len(of)) + of)
        rows = [[at_end(of) for of in (self.users[u][:-1], self.users[u][1:])] for u in users]
        return zip(*((user, inputs, positives, positives) for user, (inputs, positives) in zip(users, rows)))
    def close(self):
        pass
""",
}


def test_flops_are_those_that_torch_counts() -> None:
    windows, length, items = 3, 7, 11
    model = SASRec(dim=8, layers=2, heads=2, dropout=0.1, norm="post", count_from="start", max_history=length)
    items_VD, targets_T = torch.randn(items, 8, requires_grad=True), torch.randint(items, (windows * length,))
    with FlopCounterMode(display=False) as counter:
        users_BLD = model(items_VD[torch.randint(items, (windows, length))], torch.full((windows,), length - 1), None)
        # whole: the counter does not see into the blocks of objective.full_softmax
        F.cross_entropy(users_BLD.flatten(0, 1) @ items_VD.T, targets_T).backward()
    counted = sum(of.flops for kind in products(model, windows, length, items).values() for of in kind)
    assert counted == counter.get_total_flops()


def test_a_plain_product_is_three_products_in_any_blocks() -> None:
    for product in (Product(1, 70, 8, 11), Product(5, 7, 4, 7)):
        for rows in (70, 32):
            with FlopCounterMode(display=False) as counter:
                assert plain_seconds(product, rows) >= 0
            assert counter.get_total_flops() == 6 * product.flops  # five passes and one that warms


def test_the_clock_leaves_out_the_first_steps_and_what_lies_between_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, now = Clock(2), iter([1.0, 2.0, 3.0, 5.0, 100.0, 103.0])
    monkeypatch.setattr(time, "process_time", lambda: next(now))
    for step in range(1, WARM + 2):
        clock.add(step, {}, 0.0)
    clock.write(WARM + 1, {})  # validation, up to second 100
    clock.add(WARM + 2, {}, 0.0)
    with pytest.raises(Enough):
        clock.add(WARM + 3, {}, 0.0)
    assert clock.seconds == {WARM: 2.0, WARM + 2: 3.0}


def test_ours_measures_steps_of_full_windows() -> None:
    measured = ours(preset_params("ml-100k"), full_windows(20, BATCH * (WARM + 2)), 1)
    assert (measured.windows, measured.padded, measured.targets) == (BATCH, HISTORY, BATCH * HISTORY)
    assert measured.epoch == WARM + 2 and measured.seconds > measured.sampling > 0


def test_pmixer_gets_training_items_counted_from_one(tmp_path: Path) -> None:
    (tmp_path / "python").mkdir()
    for name, text in CLONE.items():
        (tmp_path / "python" / name).write_text(text)
    sequences = full_windows(20, BATCH)
    sequences = replace(sequences, train_end=sequences.train_end.copy())
    sequences.train_end[0] = 11
    measured = pmixers(tmp_path, sequences, 2)
    assert measured.targets == (BATCH - 1) * HISTORY + 10 and measured.seconds > 0
