"""How strong are the ID models, each tuned with the same budget? FPMC, GRU4Rec and SASRec on real data.

    MOLAR_REAL_DATA=... python -m benchmarks.strength ml-100k                 about an hour and a quarter of one thread
    MOLAR_REAL_DATA=... python -m benchmarks.strength ml-100k --models fpmc   one model: about ten minutes
    MOLAR_REAL_DATA=... python -m benchmarks.strength ml-1m                   some hours; of it FPMC alone has been run
    ... --report                                                              the tables of what has been run

The budget of every model: the twelve named configurations of `GRIDS`, one seed, chosen by validation NDCG@10 in three
rounds (`BUDGETS`: on ml-100k all get 6 epochs, the best four go on to 12, of these the best two to 24); then the best
one is trained until validation stops improving, with three seeds. The search never ranks a test query.

Every figure is kept under .molar/strength/ as soon as it is there, beside the checkpoint it came from, so a killed run
goes on; CPU seconds are right only if none was killed. A figure is taken anew when the params behind it have changed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.teacher import preset_params, real_sequences, tested, trained
from pipeline.catalog.catalogue import Sequences
from pipeline.params import Params, check
from pipeline.retrieval.metrics import short

RESULTS = Path(".molar/strength")
SEEDS = 3


@dataclass(frozen=True)
class Budget:
    """What each model may spend on one data set."""

    rounds: tuple[tuple[int, int], ...]  # epochs that a configuration has had by then, configurations that get them
    max_epochs: int  # of the winner,
    patience: int  # and how many of them may bring nothing


BUDGETS = {
    "ml-100k": Budget(((6, 12), (12, 4), (24, 2)), max_epochs=60, patience=8),
    # an epoch has more steps, and yet after 3 GRU4Rec's order is that of the learning rates alone
    "ml-1m": Budget(((6, 12), (9, 4), (12, 2)), max_epochs=45, patience=6),
}

Overrides = Mapping[str, object]  # keys below train_teacher; all else is the preset's

SAMPLED = {"objective.kind": "sampled", "objective.negatives": 256}
GBCE = {"objective.kind": "gbce", "objective.negatives": 256, "objective.drawn_per": "position"}  # as gSASRec's
BCE = {"objective.kind": "bce"}
BPR = {"objective.kind": "sampled", "objective.negatives": 1, "objective.drawn_per": "position"}
SLOWER, FASTER = {"training.learning_rate": 5e-4}, {"training.learning_rate": 3e-3}

# The first of each is what the others are changes of: RecBole's sizes for GRU4Rec and SASRec. Windows lie end to end.
COMMON = {"objective.kind": "softmax", "training.learning_rate": 1e-3, "training.overlap": 0}
FPMC = COMMON | {"fpmc.dim": 32}
GRU4REC = COMMON | {
    "gru4rec.dim": 64,
    "gru4rec.hidden": 128,
    "gru4rec.layers": 1,
    "gru4rec.dropout": 0.3,
}
SASREC = COMMON | {
    "sasrec.dim": 64,
    "sasrec.layers": 2,
    "sasrec.heads": 2,
    "sasrec.dropout": 0.5,
    "sasrec.norm": "post",
    "sasrec.count_from": "start",
}
GRIDS: dict[str, dict[str, Overrides]] = {
    "fpmc": {
        "base": FPMC,
        "slower": FPMC | SLOWER,
        "faster": FPMC | FASTER,
        "narrow": FPMC | {"fpmc.dim": 16},
        "wide": FPMC | {"fpmc.dim": 64},
        "decay .1": FPMC | {"training.weight_decay": 0.1},
        "decay 1": FPMC | {"training.weight_decay": 1.0},
        "large batches": FPMC | FASTER | {"training.batch_size": 4096, "training.batch_of": "targets"},
        "sampled": FPMC | SAMPLED,
        "gbce": FPMC | GBCE,
        "bpr": FPMC | BPR | {"objective.log_q": False},  # the paper's, and RecBole's
        "bce": FPMC | BCE,
    },
    "gru4rec": {
        "base": GRU4REC,
        "slower": GRU4REC | SLOWER,
        "faster": GRU4REC | FASTER,
        "dropout .1": GRU4REC | {"gru4rec.dropout": 0.1},
        "dropout .5": GRU4REC | {"gru4rec.dropout": 0.5},
        "hidden 64": GRU4REC | {"gru4rec.hidden": 64},
        "hidden 256": GRU4REC | {"gru4rec.hidden": 256},
        "dim 128": GRU4REC | {"gru4rec.dim": 128},
        "two layers": GRU4REC | {"gru4rec.layers": 2},
        "decay .1": GRU4REC | {"training.weight_decay": 0.1},
        "sampled": GRU4REC | SAMPLED,
        "bce": GRU4REC | BCE,
    },
    "sasrec": {
        "base": SASREC,
        "slower": SASREC | SLOWER,
        "faster": SASREC | {"training.learning_rate": 2e-3},  # 3e-3 is beyond what post-norm bears
        "dropout .3": SASREC | {"sasrec.dropout": 0.3},
        "dropout .2": SASREC | {"sasrec.dropout": 0.2},
        "dim 128": SASREC | {"sasrec.dim": 128},
        "one layer": SASREC | {"sasrec.layers": 1},
        "from the end": SASREC | {"sasrec.count_from": "end"},
        "pre-norm": SASREC | {"sasrec.norm": "pre", "sasrec.dropout": 0.2, "sasrec.count_from": "end"},  # as on ml-1m
        "sampled": SASREC | SAMPLED,
        "gbce": SASREC | GBCE,
        "bce": SASREC | BCE,  # the paper's
    },
}

# Test NDCG@10 and Recall@10 masked, then unmasked, and validation NDCG@10 (unmasked), measured on another machine with
# RecBole 1.2.1 or a plain script, one seed each; None: not measured. ml-100k: RecBole's split, whose order of
# equal times differs a little from ours (4 of 943 users have another test item), history 50. ml-1m: ratings of 4 and 5;
# FPMC there by benchmarks/peer.py.
PEERS: dict[str, dict[str, tuple[str, list[float | None]]]] = {
    "ml-100k": {
        "fpmc": ("RecBole, early-stopped at epoch 28", [0.0903, 0.1739, 0.0466, 0.0965, 0.0514]),
        "gru4rec": ("RecBole, 7 epochs, not converged", [0.0922, 0.1739, 0.0587, 0.1230, 0.0690]),
        "sasrec": ("all positions, full softmax, 62 epochs", [0.1116, 0.2110, 0.0615, 0.1315, 0.0713]),
    },
    "ml-1m": {
        "fpmc": ("RecBole, early-stopped at epoch 36", [0.0969, 0.1757, 0.0628, 0.1315, 0.0671]),
        "sasrec": ("all positions, full softmax, untuned", [0.1378, 0.2542, None, None, None]),
    },
}
METRICS = ("masked ndcg@10", "masked recall@10", "unmasked ndcg@10", "unmasked recall@10")


def configured(preset: Params, model: str, overrides: Overrides, epochs: int, patience: int) -> Params:
    """The preset's params with this teacher, checked."""
    values: dict[str, Any] = preset.model_dump()
    teacher = values["train_teacher"]
    limits = {"model": model, "training.max_epochs": epochs, "training.patience": patience}
    for key, value in {**overrides, **limits}.items():
        *parents, last = key.split(".")
        section = teacher
        for part in parents:
            section = section[part]
        section[last] = value
    return check(values, f"{model}: {dict(overrides)}")


def search(names: list[str], rounds: Iterable[tuple[int, int]], validation: Callable[[str, int], float]) -> str:
    """The winner of the rounds by `validation(name, epochs)`, which is asked for nothing else; of equals the first."""
    for epochs, count in rounds:
        reached = {name: validation(name, epochs) for name in names[:count]}
        names = sorted(reached, key=lambda name: -reached[name])
    return names[0]


class Runs:
    """One model's runs on one data set, each done once; without `sequences` only those that have been."""

    def __init__(self, data: str, model: str, preset: Params, sequences: Sequences | None) -> None:
        self.model, self.preset, self.sequences = model, preset, sequences
        self.budget = BUDGETS[data]
        self.directory = RESULTS / data / model

    def winner(self) -> str:
        """The configuration that the search takes."""
        return search(list(GRIDS[self.model]), self.budget.rounds, self.validation)

    def validation(self, name: str, epochs: int) -> float:
        """Best validation NDCG@10 within so many epochs."""
        return self.searched(name, epochs)["valid"]

    def searched(self, name: str, epochs: int) -> dict[str, float]:
        """A configuration of the search after so many epochs, which go on from those of the round before."""
        return self._run(name, 0, configured(self.preset, self.model, GRIDS[self.model][name], epochs, epochs))

    def final(self, name: str, seed: int) -> dict[str, float]:
        """A seed of the winner, and its test metrics; seed 0 goes on from where the search left it."""
        limits = self.budget.max_epochs, self.budget.patience
        return self._run(name, seed, configured(self.preset, self.model, GRIDS[self.model][name], *limits), test=True)

    def _run(self, name: str, seed: int, params: Params, test: bool = False) -> dict[str, float]:
        scratch = self.directory / f"{name.replace(' ', '-')}-{seed}"
        path = scratch / f"{params.train_teacher.training.max_epochs}.json"
        told = {part: getattr(params, part).model_dump() for part in ("protocol", "ingest", "train_teacher")}
        if path.exists() and (known := json.loads(path.read_text()))["params"] == told:
            results: dict[str, float] = known["results"]
            return results
        if self.sequences is None:
            raise typer.BadParameter(f"{path} has not been run: leave out --report")
        scratch.mkdir(parents=True, exist_ok=True)
        before = self._earlier(scratch, told)
        (scratch / "begun.json").write_text(json.dumps({"params": told, "results": {"cpu s": before}}) + "\n")
        start = time.process_time()
        model, state = trained(params, self.sequences, seed, scratch)
        assert state.curve is not None
        curve = [row["ndcg@10"] for row in state.curve][: params.train_teacher.training.max_epochs]  # it may know more
        results = {"valid": max(curve), "epoch": 1 + curve.index(max(curve)), "epochs": len(curve)}
        if test:
            results |= tested(model, self.sequences)
        results["cpu s"] = before + time.process_time() - start
        path.write_text(json.dumps({"params": told, "results": results}, indent=1) + "\n")
        print(f"{self.model}, {name}, seed {seed}: {_line(results)}", flush=True)
        return results

    def _earlier(self, scratch: Path, told: dict[str, Any]) -> float:
        """CPU seconds in the checkpoint that is to go on; one of other params is thrown away."""
        spent = 0.0
        for path in scratch.glob("*.json"):
            known = json.loads(path.read_text())
            if _but_length(known["params"]) != _but_length(told):
                for stale in scratch.iterdir():
                    stale.unlink()
                return 0.0
            spent = max(spent, known["results"]["cpu s"])
        return spent


def _but_length(told: dict[str, Any]) -> dict[str, Any]:
    """Params without those that a longer run of the same training changes."""
    teacher = told["train_teacher"]
    training = {k: v for k, v in teacher["training"].items() if k not in ("max_epochs", "patience")}
    return {**told, "train_teacher": {**teacher, "training": training}}


def _line(results: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in results.items() if not key.endswith(" se"))


def grid_table(runs: Runs) -> None:
    """Validation NDCG@10 of every configuration by the round it reached."""
    rounds = runs.budget.rounds
    print(f"\n| {runs.model} | changed | {' | '.join(f'{epochs} epochs' for epochs, _ in rounds)} | best epoch |")
    print(f"|{'---|' * (3 + len(rounds))}")
    grid = GRIDS[runs.model]
    base = next(iter(grid.values()))
    reached: dict[str, list[float]] = {name: [] for name in grid}

    def validation(name: str, epochs: int) -> float:
        reached[name].append(runs.validation(name, epochs))
        return reached[name][-1]

    winner = search(list(grid), rounds, validation)
    for name in sorted(grid, key=lambda name: (-len(reached[name]), -reached[name][-1])):
        last = rounds[len(reached[name]) - 1][0]
        changed = ", ".join(f"{k.split('.')[-1]} {v}" for k, v in grid[name].items() if base.get(k) != v)
        cells = [short(value) for value in reached[name]] + [""] * (len(rounds) - len(reached[name]))
        epoch = runs.searched(name, last)["epoch"]
        print(f"| {f'**{name}**' if name == winner else name} | {changed} | {' | '.join(cells)} | {epoch} |")


def result_table(data: str, everything: list[Runs]) -> None:
    """The winners: mean over three seeds (standard deviation over seeds; standard error over users), and the peers."""
    print(
        "\n| model | configuration | NDCG@10, masked | Recall@10, masked | NDCG@10 | Recall@10 | validation | CPU s |\n"
        f"|{'---|' * 8}"
    )
    for runs in everything:
        name = runs.winner()
        rows = [runs.final(name, seed) for seed in range(SEEDS)]
        cells = [
            f"{short(np.mean([r[m] for r in rows]))} ({short(np.std([r[m] for r in rows], ddof=1))}; "
            f"{short(np.mean([r[f'{m} se'] for r in rows]))})"
            for m in METRICS
        ]
        valid = (
            f"{short(np.mean([r['valid'] for r in rows]))} {'masked' if runs.preset.protocol.mask_seen else 'unmasked'}"
        )
        seconds = f"{np.mean([r['cpu s'] for r in rows]):.0f}"
        epochs = ", ".join(f"{r['epoch']:.0f}" for r in rows)
        print(f"| **{runs.model}** | {name}; best epochs {epochs} | {' | '.join(cells)} | {valid} | {seconds} |")
        if runs.model in PEERS[data]:
            words, figures = PEERS[data][runs.model]
            *test, valid_peer = ["" if figure is None else short(figure) for figure in figures]
            print(f"| | peer: {words} | {' | '.join(test)} | {valid_peer and f'{valid_peer} unmasked'} | |")


def main(
    data: str,
    models: Annotated[str, typer.Option(help="Separated by commas.")] = ",".join(GRIDS),
    report: Annotated[bool, typer.Option("--report", help="Run nothing.")] = False,
) -> None:
    """Search, train the winners, print the tables."""
    preset = preset_params(data)
    sequences = None if report else real_sequences(data, preset)
    everything = [Runs(data, model, preset, sequences) for model in models.split(",")]
    for runs in everything:
        winner = runs.winner()
        for seed in range(SEEDS):
            runs.final(winner, seed)
    for runs in everything:
        grid_table(runs)
    result_table(data, everything)


if __name__ == "__main__":
    typer.run(main)
