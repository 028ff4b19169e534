"""What should train the embedding token: answers, contrast or both? Probes and cold items decide, not warm ranking.

    python -m benchmarks.objectives demo                          every variant on the demo world, one seed
    MOLAR_REAL_DATA=... python -m benchmarks.objectives ml-1m     MovieLens 1M, a tenth of the films cold
    python -m benchmarks.objectives demo --probes --seeds 2 --seeds 3 --only answers     without a user model
    python -m benchmarks.objectives demo --report                 only read what is there

Every variant is a row of params (`VARIANTS`) over the committed ones, run by `dvc repro` in a clone (`rows.py`), with
an unaligned user model and fewer epochs than a finished one gets, the same for all (`SHORT`): an embedding is compared,
not a recommender. "seen" and "said" are the mean accuracies of linear probes (`probes.py`) for what only the picture
shows and only the words say, from the whole item's embedding and, beside it, from that modality's alone: a joint
embedding that neglects one of them falls behind it. Of films, genre and decade are among the words.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks import rows

RESULTS = Path(".molar/objectives").absolute()
KEPT = ("metrics.json", "probes.json", "data/mirm/held_out.tsv", "data/mirm/losses.tsv")
ANSWER, CONTRAST, BOTH = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)  # weights of a kind's two losses
MODALITIES = 5000  # examples of an item beside one of its modalities, where a variant has them


def variant(
    image_text: tuple[float, float], attributes: tuple[float, float], behaviour: tuple[float, float], modalities: int
) -> dict[str, object]:
    """Params of a variant."""
    kinds = {"image_text": image_text, "attributes": attributes, "behaviour": behaviour}
    weights = {
        f"finetune_mirm.objectives.{kind}.{loss}": weight
        for kind, of_kind in kinds.items()
        for loss, weight in zip(("answer", "contrast"), of_kind, strict=True)
    }
    return weights | {"finetune_mirm.tasks.modalities": modalities}


VARIANTS: dict[str, dict[str, object]] = {
    "answers": variant(ANSWER, ANSWER, ANSWER, 0),
    "answers, modalities": variant(ANSWER, ANSWER, ANSWER, MODALITIES),
    "answers, UB by contrast": variant(ANSWER, ANSWER, CONTRAST, 0),
    "contrast": variant(CONTRAST, CONTRAST, CONTRAST, 0),
    "contrast, modalities": variant(CONTRAST, CONTRAST, CONTRAST, MODALITIES),
    "both": variant(BOTH, BOTH, BOTH, 0),
    "both, modalities": variant(BOTH, BOTH, BOTH, MODALITIES),
    "both, contrast .3, modalities": variant(BOTH, BOTH, BOTH, MODALITIES) | {"finetune_mirm.objectives.contrast": 0.3},
    "both, contrast .1, modalities": variant(BOTH, BOTH, BOTH, MODALITIES) | {"finetune_mirm.objectives.contrast": 0.1},
    "untuned": {"finetune_mirm.tuning": "none"},
}
SHORT: dict[str, dict[str, object]] = {
    "demo": {"train_dueg.training.max_epochs": 15},
    "ml-1m": {
        "ingest.cold_items": "drawn",
        "protocol.max_history": 50,
        "train_teacher.training.max_epochs": 1,  # nothing here asks the teacher
        "train_dueg.training.max_epochs": 4,
    },
}
EVERY: dict[str, object] = {
    "train_dueg.alignment.weight": 0.0,
    "finetune_mirm.held_out": 0.1,
    "finetune_mirm.objectives.contrast": 1.0,  # a variant weighs kind by kind
}
SEEN = {"demo": ("colour", "shape"), "ml-1m": ()}
SAID = {"demo": ("category", "brand"), "ml-1m": ("genre", "decade")}


def report(data: str, seeds: list[int]) -> None:
    """The table, as Markdown: means over seeds."""
    print("| variant | seen: whole / picture | said: whole / words | cold NDCG@10 | warm | held out |")
    print("|---|---|---|---|---|---|")
    for name in VARIANTS:
        found = [RESULTS / f"{data}-{name}-{seed}" for seed in seeds]
        if not all((where / "probes.json").exists() for where in found):
            continue
        probes = [json.loads((where / "probes.json").read_text()) for where in found]
        ranked = all((where / "metrics.json").exists() for where in found)  # a mean of some seeds is no neighbour's
        metrics = [json.loads((where / "metrics.json").read_text()) for where in found] if ranked else []

        def mean(modality: str, factors: tuple[str, ...], probes: list[dict] = probes) -> str:
            values = [probe[f"tuned, {modality}"][factor] for probe in probes for factor in factors]
            return f"{np.mean(values):.3f}" if values else "-"

        seen = f"{mean('text+image', SEEN[data])} / {mean('image', SEEN[data])}"
        said = f"{mean('text+image', SAID[data])} / {mean('text', SAID[data])}"
        cold, warm = (
            f"{np.mean([m[part]['dueg']['ndcg@10'] for m in metrics]):.4f}" if metrics else "-"
            for part in ("cold_among_cold", "test")
        )
        print(f"| {name} | {seen} | {said} | {cold} | {warm} | {held_out(found)} |")


def held_out(found: list[Path]) -> str:
    """Losses of what was kept apart, before and after."""
    losses: dict[str, list[tuple[float, float]]] = {}
    for path in (where / "held_out.tsv" for where in found):
        for row in csv.DictReader(path.open(), delimiter="\t") if path.exists() else []:
            name = f"{row['kind']} by {row.get('loss', 'answer')}"
            losses.setdefault(name, []).append((float(row["before"]), float(row["after"])))
    means = {kind: np.mean(pairs, axis=0) for kind, pairs in losses.items()}
    return ", ".join(f"{kind} {before:.2f} -> {after:.2f}" for kind, (before, after) in means.items()) or "-"


def main(
    data: Annotated[str, typer.Argument(help="demo, or ml-1m (found through MOLAR_REAL_DATA).")],
    seeds: Annotated[list[int] | None, typer.Option("--seeds")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="These variants.")] = None,
    probes: Annotated[bool, typer.Option("--probes", help="Fine-tune and probe; no user model.")] = False,
    jobs: int = 2,
    only_report: Annotated[bool, typer.Option("--report")] = False,
) -> None:
    """Run what is missing, then report."""
    chosen = seeds or [1]
    if not only_report:
        path = {"ingest.path": str(Path(os.environ["MOLAR_REAL_DATA"]) / data)} if data != "demo" else {}
        wanted = {
            f"{data}-{name}-{seed}": EVERY | SHORT[data] | path | VARIANTS[name] | {"seed": seed}
            for seed in chosen
            for name in only or VARIANTS
        }
        probing = ("-m", "benchmarks.probes", "--no-untuned", "--json", "probes.json")
        stages = ("finetune_mirm",) if probes else ()
        kept = tuple(file for file in KEPT if not (probes and file == "metrics.json"))  # an earlier row's, in the clone
        rows.compute(wanted, RESULTS, kept, jobs, None if data == "demo" else data, probing, stages)
    report(data, chosen)


if __name__ == "__main__":
    typer.run(main)
