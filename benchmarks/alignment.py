"""What lets alignment win? Ways to bring the user model and its ID teacher together, on one MIRM and one teacher.

    python -m benchmarks.alignment                       the demo world, seed 0, every variant
    python -m benchmarks.alignment --only "infonce, subspace 32" --seeds 1 --seeds 2
    python -m benchmarks.alignment --report              only read what is there

Every variant is a row of params over the committed ones (`VARIANTS`), run by `dvc repro` in a clone (`rows.py`): the
stages before train_dueg are the committed ones, and come from the cache. Choose by the column "validation"; "cold" is
NDCG@10 of cold targets among cold items, for which the demo world has no validation queries, so look at it as a price.
"sum" adds the teacher's score when serving, with its weight chosen on validation. A gain over "alpha 0" that the sum of
alpha 0 already has is no gain of alignment's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks import rows

RESULTS = Path(".molar/alignment").absolute()
KEPT = ("metrics.json", "data/dueg/best.json")


def aligned(weight: float, **alignment: object) -> dict[str, object]:
    """Params of a variant that differs in its alignment alone."""
    return {f"train_dueg.alignment.{key}": value for key, value in ({"weight": weight} | alignment).items()}


ID_AND_CONTENT: dict[str, object] = {"train_dueg.items": "id+mirm"}
LINEAR: dict[str, object] = {"train_dueg.head.kind": "linear"}
EVERY_POSITION = aligned(1.0, kind="scores", temperature=1.0, positions="all")
THE_SUM = EVERY_POSITION | {"train_dueg.alignment.teacher": "sum"}
VARIANTS: dict[str, dict[str, object]] = {
    "alpha 0": aligned(0.0),
    "infonce (the default)": {},
    "infonce, alpha .3": aligned(0.3),
    "infonce, every position": aligned(1.0, positions="all"),
    "infonce, queue 2048": aligned(1.0, queue=2048),
    "infonce, subspace 32": aligned(1.0, subspace=32),
    "cosine": aligned(1.0, kind="cosine"),
    "mse": aligned(1.0, kind="mse"),
    "scores, alpha 1": aligned(1.0, kind="scores", temperature=1.0),
    "scores, alpha 1, every position": EVERY_POSITION,
    "scores, alpha .3, every position": aligned(0.3, kind="scores", temperature=1.0, positions="all"),
    "scores, subspace 32, every position": aligned(1.0, kind="scores", temperature=1.0, positions="all", subspace=32),
    "ID + content, alpha 0": ID_AND_CONTENT | aligned(0.0),
    "ID + content, infonce": ID_AND_CONTENT,
    "ID + content, infonce, alpha .3": ID_AND_CONTENT | aligned(0.3),
    "ID + content, infonce, every position": ID_AND_CONTENT | aligned(1.0, positions="all"),
    "ID + content, infonce, subspace 32": ID_AND_CONTENT | aligned(1.0, subspace=32),
    "ID + content, scores, every position": ID_AND_CONTENT | EVERY_POSITION,
    "linear head, alpha 0": LINEAR | aligned(0.0),
    "linear head, infonce": LINEAR,
    "linear head, the sum's scores": LINEAR | THE_SUM,
    "ID + content, linear head, alpha 0": ID_AND_CONTENT | LINEAR | aligned(0.0),
    "ID + content, linear head, infonce": ID_AND_CONTENT | LINEAR,
    "ID + content, linear head, scores": ID_AND_CONTENT | LINEAR | EVERY_POSITION,
    "ID + content, linear head, the sum's scores": ID_AND_CONTENT | LINEAR | THE_SUM,
}
EVERY: dict[str, object] = {"evaluate.ceiling": 0}  # the same for all: evaluated once, in the demo's own run


def report(seeds: list[int]) -> None:
    """The table, as Markdown: means over seeds."""
    print("| variant | validation | warm | cold | sum, warm | sum, cold | teacher |\n|---|---|---|---|---|---|---|")
    for name in VARIANTS:
        found = [RESULTS / f"{name}-{seed}" for seed in seeds]
        if not all((where / KEPT[0]).exists() for where in found):
            continue
        best = [json.loads((where / "best.json").read_text())["validation_ndcg@10"] for where in found]
        metrics = [json.loads((where / "metrics.json").read_text()) for where in found]
        cells = [
            np.mean([of[part][system]["ndcg@10"] for of in metrics])
            for system in ("dueg", "sum")
            for part in ("test", "cold_among_cold")
        ]
        teacher = np.mean([of["test"]["teacher"]["ndcg@10"] for of in metrics])
        print(f"| {name} | {' | '.join(f'{value:.4f}' for value in (np.mean(best), *cells, teacher))} |")


def main(
    seeds: Annotated[list[int] | None, typer.Option("--seeds")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="These variants.")] = None,
    jobs: int = 1,
    only_report: Annotated[bool, typer.Option("--report")] = False,
) -> None:
    """Run what is missing, then report."""
    chosen = seeds or [0]
    if not only_report:
        wanted = {
            f"{name}-{seed}": EVERY | VARIANTS[name] | {"seed": seed} for seed in chosen for name in only or VARIANTS
        }
        rows.compute(wanted, RESULTS, KEPT, jobs)
    report(chosen)


if __name__ == "__main__":
    typer.run(main)
