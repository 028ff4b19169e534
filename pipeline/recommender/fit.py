"""The one training loop: recommendation loss plus weighted terms (alpha x alignment, DuoRec's contrast), early stopping
on validation NDCG@10, resume.

Promise: the result depends on params, data and seed alone, to the byte on one kind of processor and number of threads
(on a GPU: up to the order of its sums). A run killed after any epoch goes on from its checkpoint and ends with the same
bytes, because every epoch reseeds torch from (seed, epoch) and the checkpoint holds weights, their average, the best
average and the optimiser. Rows of a trained table are read by `F.embedding`, never by an index: threads add to an
index's gradient as they come, to an embedding's each to rows of its own.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.artifacts import write_json
from pipeline.catalog.catalogue import Sequences
from pipeline.errors import MolarError
from pipeline.live import Live
from pipeline.params.training import Training
from pipeline.progress import bar
from pipeline.recommender.averaging import WeightAverage
from pipeline.recommender.batches import Batch, collate, epoch_batches, targets_in
from pipeline.recommender.grid import Recommender
from pipeline.recommender.objective import Objective
from pipeline.retrieval.metrics import ndcg_at, recall_at
from pipeline.retrieval.rank import target_ranks


class ItemSource(Protocol):
    """What makes a step's items where they are trained too (joint.py), in place of the frozen table."""

    @property
    def module(self) -> torch.nn.Module: ...  # what it trains and remembers
    @property
    def learning_rate(self) -> float: ...  # of its weights
    def trained(self, batch: Batch) -> Tensor: ...  # (V, D), what `ItemTable.trained` gives
    def refresh(self) -> None: ...  # before validation: the table's rows as the weights are now


class Term(Protocol):
    """What may be added to the recommendation loss."""

    @property
    def name(self) -> str: ...  # of its column in the curve
    @property
    def module(self) -> torch.nn.Module | None: ...  # what it trains of its own
    @property
    def weight(self) -> float: ...  # 0: training is exactly that without it
    def weight_at(self, done: float) -> float: ...  # after this share of all epochs
    def __call__(self, batch: Batch, users_BLD: Tensor, items_VD: Tensor, step: int) -> tuple[Tensor, dict[str, float]]:
        """Its value, and figures to report beside it, of a step's user vectors and trained items."""
        ...


@dataclass
class Progress:
    """Where training stands; the numbers of a checkpoint."""

    epoch: int = 0  # epochs finished
    step: int = 0
    best_epoch: int = 0
    best_ndcg: float = -1.0
    curve: list[dict[str, float]] | None = None

    def best(self) -> dict[str, object]:
        """The best epoch as JSON has it."""
        return {"epoch": self.best_epoch, "validation_ndcg@10": round(self.best_ndcg, 6)}

    def followed(self) -> Progress:
        """Where a training stands that goes on from the best weights of this one, which is over: epochs, steps and
        the curve are counted on, and it has its own best."""
        return Progress(self.epoch, self.step, self.epoch, curve=list(self.curve or []))


def fit(
    recommender: Recommender,
    sequences: Sequences,
    training: Training,
    *,
    seed: int,
    mask_seen: bool,
    scratch: Path,
    objective: Objective,
    terms: Sequence[Term] = (),
    description: str = "train",
    live: Live | None = None,
    source: ItemSource | None = None,
    after: Progress | None = None,
) -> Progress:
    """Train in place, leave the best epoch's averaged weights in `recommender`, return the course of training, which
    `live` shows as it goes.

    `source` trains the items as well. `after` is a training that this one goes on from, up to `max_epochs` of both.
    Raises MolarError on a non-finite loss, naming epoch and step, and when no user has two training items or none a
    validation choice.
    """
    if not (np.asarray(sequences.train_end) > 1).any():
        raise MolarError("no user has two training interactions: nothing to learn from; see data/catalog/summary.json")
    if not len(sequences.queries("validation")):
        raise MolarError(
            "validation has no choice to ask, by which the best epoch is taken (leave_one_out: no user has three "
            "interactions): see data/catalog/summary.json"
        )
    device = next(recommender.parameters()).device
    terms = [term for term in terms if term.weight]
    of_terms = [term.module for term in terms if term.module is not None]
    modules = torch.nn.ModuleList([recommender, *of_terms, objective.to(device)])
    groups = [_group(modules, training.learning_rate)]
    if source is not None:
        modules.append(source.module)
        groups.append(_group(source.module, source.learning_rate))
    optimiser = torch.optim.AdamW(groups, weight_decay=training.weight_decay)
    batches = partial(
        epoch_batches,
        sequences,
        recommender.spec.max_history,
        training.batch_size,
        training.batch_of,
        seed,
        overlap=training.overlap,
    )
    steps = len(batches(0))
    total = steps * training.max_epochs
    average = WeightAverage(modules, training.average_epochs, steps)
    start = Progress() if after is None else after.followed()
    begun = start.step
    state, best = _restore(scratch, modules, optimiser, average, start)
    curve = state.curve = state.curve or []
    if live is not None:
        live.begin(state.step, training.max_epochs * steps)
    transitions = int(np.maximum(sequences.train_end - 1, 0).sum())  # targets of an epoch
    with bar(description, training.max_epochs * transitions, "targets") as progress:
        progress.advance(state.epoch * transitions)
        while state.epoch < training.max_epochs and state.epoch - state.best_epoch < training.patience:
            torch.manual_seed((1_000_003 * seed + state.epoch) % 2**63)  # no generator state to checkpoint
            modules.train()
            losses = []
            for rows in batches(state.epoch):
                batch = collate(sequences, rows).to(device)
                items_VD = recommender.table.trained() if source is None else source.trained(batch)
                done = state.step / total
                loss, parts = _losses(recommender, objective, terms, batch, items_VD, state.step, done)
                losses.append(parts)
                _step(loss, modules, optimiser, training, state, begun, description)
                average.update(state.step)
                if live is not None:
                    live.add(state.step, losses[-1], optimiser.param_groups[0]["lr"])
                shown = ", ".join(f"{name} {value:.3f}" for name, value in losses[-1].items())
                progress.note(f"epoch {state.epoch + 1}, {shown}, best NDCG@10 {max(state.best_ndcg, 0):.4f}")
                progress.advance(int(targets_in(rows).sum()))
            state.epoch += 1
            with average.applied():
                if source is not None:
                    source.refresh()
                ndcg, recall = validate(recommender, sequences, mask_seen)
                if ndcg > state.best_ndcg:
                    state.best_ndcg, state.best_epoch = ndcg, state.epoch
                    best = {name: tensor.detach().clone() for name, tensor in modules.state_dict().items()}
            means = {name: sum(step[name] for step in losses) / len(losses) for name in losses[0]}
            curve.append({"epoch": state.epoch, **means, "ndcg@10": ndcg, "recall@10": recall})
            if live is not None:
                live.write(state.step, {"ndcg@10": ndcg, "recall@10": recall})
            _checkpoint(scratch, modules, optimiser, average, best, state)
    modules.load_state_dict(best)
    return state


def _group(module: torch.nn.Module, learning_rate: float) -> dict[str, Any]:
    """What `module` trains, as the optimiser takes it; `peak` is where the warm-up leads."""
    return {"params": [p for p in module.parameters() if p.requires_grad], "lr": learning_rate, "peak": learning_rate}


def _losses(
    recommender: Recommender,
    objective: Objective,
    terms: Sequence[Term],
    batch: Batch,
    items_VD: Tensor,
    step: int,
    done: float,
) -> tuple[Tensor, dict[str, float]]:
    """A batch's loss after `step` steps, the share `done` of all, and its parts."""
    users_BLD = recommender(batch.inputs_BL, batch.last_B, batch.users_B, items_VD)
    loss: Tensor = objective(users_BLD[batch.asked_BL], items_VD, batch.targets_BL[batch.asked_BL], step)
    parts = {"loss": loss.item()}
    for term in terms:
        value, figures = term(batch, users_BLD, items_VD, step)
        parts |= {term.name: value.item(), **figures}
        loss = loss + term.weight_at(done) * value
    return loss, parts


def _step(
    loss: Tensor,
    modules: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    training: Training,
    state: Progress,
    begun: int,
    description: str,
) -> None:
    """One optimiser step down `loss`; warm-up counts from step `begun`."""
    state.step += 1
    if not math.isfinite(loss.item()):
        raise MolarError(
            f"{description}: the loss is {loss.item()} at epoch {state.epoch + 1}, step {state.step}: "
            f"lower training.learning_rate ({training.learning_rate:g}) or clip_norm ({training.clip_norm:g})"
        )
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * min(1.0, (state.step - begun) / max(training.warmup_steps, 1))
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(modules.parameters(), training.clip_norm)
    optimiser.step()


def validate(recommender: Recommender, sequences: Sequences, mask_seen: bool) -> tuple[float, float]:
    """Full-ranking NDCG@10 and Recall@10 of the validation targets, cold items out of the ranking."""
    queries = sequences.queries("validation")
    histories = queries.histories(sequences)
    ranks_Q = target_ranks(
        recommender.user_vectors(histories, queries.user),
        recommender.item_vectors(),
        queries.target,
        seen=histories if mask_seen else None,
        candidates=np.arange(sequences.num_items) < sequences.num_warm,
        device=str(next(recommender.parameters()).device),
    )
    return float(ndcg_at(ranks_Q, 10).mean()), float(recall_at(ranks_Q, 10).mean())


def write_curve(path: Path, curve: list[dict[str, float]]) -> None:
    """The course of training as a TSV that `dvc plots` draws."""
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(curve[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: v if k == "epoch" else f"{v:.6f}" for k, v in row.items()} for row in curve)


def _checkpoint(
    scratch: Path,
    modules: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    average: WeightAverage,
    best: dict[str, Tensor],
    state: Progress,
) -> None:
    """Write the next checkpoint beside the last one, then rename: a kill leaves one of the two whole."""
    named = {"now": modules.state_dict(), "average": average.values, "best": best}
    tensors = {f"{part}.{name}": tensor for part, of_part in named.items() for name, tensor in of_part.items()}
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    partial = scratch / "next.safetensors"
    metadata = {"progress": json.dumps(vars(state))}
    save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, partial, metadata)
    partial.replace(scratch / "last.safetensors")


def _restore(
    scratch: Path,
    modules: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    average: WeightAverage,
    start: Progress,
) -> tuple[Progress, dict[str, Tensor]]:
    """The last checkpoint's progress and best weights, its state loaded; `start` where there is none."""
    path = scratch / "last.safetensors"
    if not path.exists():
        return start, {}
    from safetensors import safe_open

    with safe_open(path, "pt") as handle:
        progress = Progress(**json.loads(handle.metadata()["progress"]))
    parts: dict[str, dict[str, Tensor]] = {"now": {}, "average": {}, "best": {}, "optimiser": {}}
    for name, tensor in load_file(path).items():
        part, rest = name.split(".", 1)
        parts[part][rest] = tensor
    modules.load_state_dict(parts["now"])
    average.load(parts["average"])
    slots: dict[int, dict[str, Any]] = {}
    for name, tensor in parts["optimiser"].items():
        index, slot = name.split(".")
        slots.setdefault(int(index), {})[slot] = tensor
    optimiser.load_state_dict(optimiser.state_dict() | {"state": slots})
    return progress, parts["best"]


def write_facts(directory: Path, state: Progress, **beside: object) -> None:
    """curve.tsv and best.json of a finished training; the latter says `beside` as well."""
    write_curve(directory / "curve.tsv", state.curve or [])
    write_json(directory / "best.json", state.best() | beside)
