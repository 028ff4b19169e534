"""A training step's FLOPs, and the plain matrix products that it is measured against: a part of benchmarks/epoch.py.

A step's FLOPs are 6 x the multiply-adds of its forward products: linear layers, attention (the masked half too) and
logits, which count no more: torch's linear_cross_entropy computes them once, and a block's gradients in the same pass.
Norms, dropout, the softmax itself, the optimiser and making a batch take time and count nothing.

Plain products are those of the same shapes and of their gradients, into buffers that are there already: whole (at
100,000 items the logits take 2.6 GB), or some rows at a time, so that logits stay in cache.
"""

from __future__ import annotations

import math
import statistics
import time
from typing import NamedTuple

import torch

from pipeline.recommender.sasrec import Block, SASRec

ROWS, PASSES = 256, 5
HEAD = (
    "| items | linear, GFLOP | attention, GFLOP | logits, GFLOP | ms a step | GFLOP/s | plain, whole |"
    f" plain, {ROWS} rows at a time | share of the faster |\n|---|---|---|---|---|---|---|---|---|"
)


class Product(NamedTuple):
    """(batch, rows, inner) @ (batch, inner, columns)."""

    batch: int
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Of itself and of the two that give its gradients."""
        return 6 * math.prod(self)


def products(model: SASRec, windows: int, length: int, items: int) -> dict[str, list[Product]]:
    """Of a step's forward pass, by what they are."""
    found: dict[str, list[Product]] = {"linear": [], "attention": []}
    for part in model.modules():
        if isinstance(part, torch.nn.Linear):
            found["linear"].append(Product(1, windows * length, part.in_features, part.out_features))
        elif isinstance(part, Block):
            heads, width = windows * part.heads, model.dim // part.heads
            found["attention"] += [Product(heads, length, width, length), Product(heads, length, length, width)]
    return found | {"logits": [Product(1, windows * length, model.dim, items)]}


def plain_seconds(product: Product, rows: int) -> float:
    """Of this product and the two of its gradients, `rows` at a time: the median pass."""
    batch, whole, inner, columns = product
    many, rows = (batch,) if batch > 1 else (), min(rows, whole)
    a_RI, b_IN = torch.randn(*many, whole, inner), torch.randn(*many, inner, columns)
    c_RN, of_a_RI, of_b_IN = torch.randn(*many, rows, columns), torch.empty_like(a_RI), torch.empty_like(b_IN)
    passes = []
    for _ in range(PASSES + 1):
        start = time.process_time()
        for first in range(0, whole, rows):
            a, of_a = (of[..., first : first + rows, :] for of in (a_RI, of_a_RI))
            c = c_RN[..., : whole - first, :]  # fewer rows in the last block
            torch.matmul(a, b_IN, out=c)
            torch.matmul(c, b_IN.mT, out=of_a)
            torch.matmul(a.mT, c, out=of_b_IN)  # a block's alone: adding them up is not the product
        passes.append(time.process_time() - start)
    return statistics.median(passes[1:])  # the first one warms


def reached(model: SASRec, windows: int, length: int, items: int, seconds: float) -> str:
    """A row below HEAD: what a step of so many seconds is, beside its plain products."""
    of_step = products(model, windows, length, items)
    flops = [sum(of.flops for of in kind) for kind in of_step.values()]
    every = [of for kind in of_step.values() for of in kind]
    plain = [sum(flops) / sum(plain_seconds(of, rows) for of in every) for rows in (windows * length, ROWS)]
    gflop = " | ".join(f"{of / 1e9:.1f}" for of in flops)
    rates = " | ".join(f"{rate / 1e9:.0f}" for rate in (sum(flops) / seconds, *plain))
    return f"| {items:,} | {gflop} | {seconds * 1e3:,.0f} | {rates} | {sum(flops) / seconds / max(plain):.0%} |"
