"""The demo world's claims, on fresh training seeds: which system beats which, by paired bootstrap over users.

    python -m benchmarks.demo_world                 seeds 1 2 3, five rows, two at a time; about 40 minutes on 2 cores
    python -m benchmarks.demo_world --seeds 7       one seed
    python -m benchmarks.demo_world --report        only read what is there

Every row is a full set of overrides over the committed params.yaml, run by `dvc repro` in a clone that shares this
checkout's DVC cache, so equal stages are computed once. Results go to .molar/demo_world/<row>-<seed>/; the report
compares rows by the mean over seeds of each user's NDCG@10 (the unit is the user).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import typer

from benchmarks import rows
from pipeline.retrieval.metrics import ndcg_at
from pipeline.retrieval.significance import paired_bootstrap

RESULTS = Path(".molar/demo_world").absolute()
KEPT = (
    "metrics.json",
    *(f"data/evaluation/{f}" for f in ("report.json", "per_user.parquet", "cold_per_query.parquet")),
)
ROWS: dict[str, dict[str, object]] = {
    "molar": {},
    "alpha 0": {"train_dueg.alignment.weight": 0.0},
    "untuned, alpha 0": {"train_dueg.alignment.weight": 0.0, "finetune_mirm.tuning": "none"},
    "text": {"finetune_mirm.modality": "text", "embed_items.modality": "text"},
    "image": {"finetune_mirm.modality": "image", "embed_items.modality": "image"},
}
# (better, worse, which ranking): the claims that are put to the test
CLAIMS = [
    ("molar/oracle", "molar/dueg", "warm"),
    ("molar/dueg", "alpha 0/dueg", "warm"),
    ("alpha 0/dueg", "molar/popularity", "warm"),
    ("molar/dueg", "molar/teacher", "warm"),
    ("molar/dueg", "text/dueg", "warm"),
    ("molar/dueg", "image/dueg", "warm"),
    ("molar/dueg", "molar/sum", "warm"),
    ("alpha 0/sum", "molar/dueg", "warm"),
    ("alpha 0/sum", "alpha 0/dueg", "warm"),
    ("alpha 0/dueg", "untuned, alpha 0/dueg", "warm"),
    ("alpha 0/dueg", "untuned, alpha 0/dueg", "cold"),
    ("alpha 0/dueg", "molar/dueg", "cold"),
    ("molar/dueg", "text/dueg", "cold"),
    ("molar/dueg", "image/dueg", "cold"),
]


def compute(seeds: list[int], jobs: int) -> None:
    """Every row x seed that is not there yet."""
    # rows that fine-tune alike stand apart, so that two jobs at once share no stage in flight
    order = ("molar", "untuned, alpha 0", "alpha 0", "text", "image")
    rows.compute({f"{row}-{seed}": ROWS[row] | {"seed": seed} for seed in seeds for row in order}, RESULTS, KEPT, jobs)


def per_user(system: str, seeds: list[int], ranking: str) -> np.ndarray | None:
    """(Q,) NDCG@10 of each query, averaged over seeds, for `row/system`; None if it cannot rank that way.

    Rankings: warm (ordinary test queries, seen items kept) and cold (cold targets among the cold items).
    """
    row, name = system.split("/")
    file, column = (
        ("per_user", f"{name}_unmasked") if ranking == "warm" else ("cold_per_query", f"cold_{name}_unmasked")
    )
    tables = [pq.read_table(RESULTS / f"{row}-{seed}" / f"{file}.parquet") for seed in seeds]
    if column not in tables[0].column_names:
        return None
    return np.mean([ndcg_at(table[column].to_numpy(), 10) for table in tables], axis=0)


def report(seeds: list[int]) -> None:
    """Print the table of systems and the table of claims, as Markdown."""
    print(f"Seeds {', '.join(map(str, seeds))}; NDCG@10, mean over seeds (and each seed)\n")
    print("| row | system | warm | share of oracle | cold, among cold items |\n|---|---|---|---|---|")
    ceiling = per_user("molar/oracle", seeds, "warm").mean()
    for row in ROWS:
        for name in ("oracle", "popularity", "teacher", "dueg", "sum") if row == "molar" else ("dueg", "sum"):
            warm, cold = (_cell(f"{row}/{name}", seeds, ranking) for ranking in ("warm", "cold"))
            share = per_user(f"{row}/{name}", seeds, "warm").mean() / ceiling
            print(f"| {row} | {name} | {warm} | {share:.0%} | {cold} |")
    print("\n| claim | ranking | difference | 95 % interval | holds |\n|---|---|---|---|---|")
    for better, worse, ranking in CLAIMS:
        ours_U, theirs_U = per_user(better, seeds, ranking), per_user(worse, seeds, ranking)
        found = paired_bootstrap(ours_U, theirs_U, np.arange(len(ours_U)), 5000)
        holds = "yes" if found.low > 0 else "reversed" if found.high < 0 else "open"
        interval = f"{found.low:+.4f} .. {found.high:+.4f}"
        print(f"| {better} > {worse} | {ranking} | {found.mean:+.4f} | {interval} | {holds} |")


def _cell(system: str, seeds: list[int], ranking: str) -> str:
    """Mean over seeds and each seed's figure; a dash where the system cannot rank that way."""
    each = [per_user(system, [seed], ranking) for seed in seeds]
    means = [values.mean() for values in each if values is not None]
    return f"{np.mean(means):.4f} ({', '.join(f'{mean:.4f}' for mean in means)})" if means else "-"


def main(
    seeds: Annotated[list[int] | None, typer.Option("--seeds")] = None,
    jobs: int = 2,
    only_report: Annotated[bool, typer.Option("--report")] = False,
) -> None:
    """Run what is missing, then report."""
    chosen = seeds or [1, 2, 3]
    if not only_report:
        compute(chosen, jobs)
    report(chosen)
    (RESULTS / "rows.json").write_text(json.dumps(ROWS, indent=2))


if __name__ == "__main__":
    typer.run(main)
