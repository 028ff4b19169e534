"""The whole examination, in the order of the screen: facts of the machine, findings about params.yaml, costs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.doctor import machine, setup, speed, work
from pipeline.doctor.counts import Counts, read_counts
from pipeline.doctor.model import Size
from pipeline.doctor.probe import FAILURES, attempt, reason, size
from pipeline.doctor.setup import Finding
from pipeline.doctor.work import Layer, Work
from pipeline.params import Params, Runtime


@dataclass(frozen=True)
class Cost:
    """A stage's line. None: not known, or (seconds) not bound by a model."""

    stage: str
    what: str
    seconds: float | None = None
    keeps: float | None = None  # bytes of its output
    scratch: float | None = None  # bytes of checkpoints and caches meanwhile


@dataclass(frozen=True)
class Examination:
    facts: list[tuple[str, str]]  # name, line
    findings: list[Finding]
    costs: list[Cost]  # empty before there is a catalogue

    @property
    def missing(self) -> int:
        return sum(finding.level == "missing" for finding in self.findings)


def examine(params: Params, runtime: Runtime, demo: Path, catalog: Path) -> Examination:
    """Look at everything but DVC. `demo`: the folder that the demo stage draws; `catalog`: what ingest writes."""
    facts = [
        ("python", attempt(machine.python)),
        ("torch", attempt(machine.torch_build)),
        ("machine", attempt(machine.processor)),
    ]
    found, device = setup.device(runtime)
    about_backbone, measured = setup.backbone(params.finetune_mirm)
    findings = [found, *setup.shared_out(runtime, device), setup.raw_data(params.ingest, demo), about_backbone]
    if measured is not None and device is not None:
        findings.append(_tuning(params, measured, device))
    findings += [setup.index(params.build_index.kind, device), *setup.oracle(params, demo)]
    costs, unread = _costs(params, catalog, measured, device)
    findings += unread + _room(costs, catalog)
    return Examination(facts, findings, costs)


def _tuning(params: Params, measured: Size, device: torch.device) -> Finding:
    try:
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else machine.memory()[0]
        return setup.tuning(params.finetune_mirm, measured, device, free)
    except FAILURES as error:
        return Finding("look", "tuning", f"{params.finetune_mirm.tuning}: free memory unknown ({reason(error)})")


def _room(costs: list[Cost], catalog: Path) -> list[Finding]:
    """A finding if outputs and checkpoints will not fit on the disk."""
    needed = sum((cost.keeps or 0) + (cost.scratch or 0) for cost in costs)
    try:
        free = machine.free_disk(catalog)
    except FAILURES:
        return []  # the line about disks says so
    return [Finding("look", "disk", f"{size(needed)} to write, {size(free)} free at data/")] if needed > free else []


def _costs(
    params: Params, catalog: Path, measured: Size | None, device: torch.device | None
) -> tuple[list[Cost], list[Finding]]:
    """A line per stage that a model or the disk is busy with (none without a catalogue), and what is unreadable."""
    unread: list[Finding] = []
    try:
        counts = read_counts(catalog)
    except FAILURES as error:
        counts = None
        unread.append(
            Finding("look", "catalogue", f"{catalog} is unreadable ({reason(error)}): run `dvc repro ingest`")
        )
    if counts is None:
        return [], unread
    rates: dict[Layer, float] = {}
    what = f"{counts.items:,} items, {counts.interactions:,} interactions"
    costs = [Cost("ingest", what, keeps=counts.bytes)]
    for stage in _STAGES:
        if stage == "embed_items" and params.embed_items.encoder != "mirm":
            costs.append(Cost(stage, f"{counts.items:,} items, not estimated for {params.embed_items.encoder}"))
            continue
        todo = _work(stage, params, counts, measured)
        costs.append(Cost(stage, "unknown without the backbone") if todo is None else _cost(todo, device, rates))
    return costs, unread


_STAGES = ("train_teacher", "finetune_mirm", "embed_items", "train_dueg", "build_index")


def _work(stage: str, params: Params, counts: Counts, measured: Size | None) -> Work | None:
    if stage == "train_teacher":
        return work.train_teacher(params, counts)
    if measured is None:
        return None
    of_stage = {
        "finetune_mirm": work.finetune_mirm,
        "embed_items": work.embed_items,
        "train_dueg": work.train_dueg,
        "build_index": work.build_index,
    }
    return of_stage[stage](params, counts, measured)


def _cost(todo: Work, device: torch.device | None, rates: dict[Layer, float]) -> Cost:
    """The work in seconds, each kind of layer measured once."""
    estimate = None
    if device is not None and todo.flops:
        layer = speed.bounded(todo.layer, device)
        try:
            rates.setdefault(layer, 0.0)
            rates[layer] = rates[layer] or speed.measure(device, layer)
            estimate = speed.seconds(todo, rates[layer])
        except FAILURES:  # a GPU out of memory, a type that it lacks: the time stays unknown
            estimate = None
    return Cost(todo.stage, todo.what, estimate, todo.keeps, todo.scratch)
