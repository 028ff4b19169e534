"""`report`: one run as a page: what was run, how good it is, on whom it hits and misses.

    molar report                                 writes report.html; opens anywhere, without a network
    molar report page.html --examples 12         more users with their pictures
    molar report page.html --by genres           colours of the map of items
    molar experiment report table5               the page of a table, or of several runs: docs/experiments.md

Reads everything under data/ that the stages made, and params.yaml; changes nothing under data/. Params or metrics that
are not those of dvc.lock are refused, where there is one.
"""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.command import command
from stages.paths import CATALOG, DUEG, EMBEDDINGS, EVALUATION, INDEX, MIRM, TEACHER

if TYPE_CHECKING:
    import numpy as np

    from pipeline.artifacts import Artifact
    from pipeline.catalog.catalogue import Items, Queries, Sequences
    from pipeline.recommender.score_sum import Ranker
    from pipeline.report.agreement import Agreement
    from pipeline.report.run_page import Example

STAGES = {
    "ingest": CATALOG,
    "train_teacher": TEACHER,
    "finetune_mirm": MIRM,
    "embed_items": EMBEDDINGS,
    "train_dueg": DUEG,
    "build_index": INDEX,
    "evaluate": EVALUATION,
}
PACKAGES = ("transformers", "peft", "dvc", "pyarrow", "numpy")
HISTORY, LIST = 10, 10  # items of an example's history, and of its list
DOTS, ROWS = 3000, 6  # of the map, of the gallery: a page stays below five megabytes
USERS = 4096  # asked for the alignment's diagnostics


@command
def main(
    out: Annotated[Path, typer.Argument(help="the page")] = Path("report.html"),
    examples: Annotated[int, typer.Option(min=0, help="users with pictures, half of them hits")] = 8,
    by: Annotated[str | None, typer.Option(help="attribute that colours the map")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of whatever is drawn")] = 0,
) -> None:
    """Write the report of the run that lies under data/. A table's: `molar experiment report`."""
    from pipeline import artifacts
    from pipeline.catalog.catalogue import open_items, open_sequences
    from pipeline.device import pick
    from pipeline.mirm.own import OWN_EMBEDDINGS, own_or
    from pipeline.mirm.shards import conditioned, read_embeddings
    from pipeline.params import load_params, load_runtime
    from pipeline.progress import say
    from pipeline.recommender import score_sum
    from pipeline.recommender.grid import load_recommender
    from pipeline.report import gallery, geometry, run_page, scatter
    from pipeline.report.card_run import one_run
    from pipeline.report.place import check_place

    check_place(out)
    if Path("dvc.lock").is_file():  # there is none where stages are run by hand
        one_run(Path())
    params = load_params()
    read = {stage: artifacts.read(folder, stage) for stage, folder in STAGES.items()}
    report = json.loads(read["evaluate"].file("report.json").read_text("utf-8"))
    items, sequences = open_items(read["ingest"]), open_sequences(read["ingest"])
    device = str(pick(load_runtime()))
    teacher = load_recommender(read["train_teacher"], None, device)
    dueg = load_recommender(read["train_dueg"], read["embed_items"], device)
    mix = score_sum.read(read["build_index"])
    name, served = ("sum", score_sum.Summed(teacher, dueg, mix)) if mix else ("dueg", dueg)
    queries = sequences.queries("test")
    ranks_Q = _ranks(read["evaluate"].file("per_user.parquet"), f"{name}_{report['headline']}", sequences, queries)
    drawn = _drawn(queries, ranks_Q, examples, seed)
    shown = _examples(items, sequences, drawn, served, masked=report["headline"] == "masked")

    embeddings = own_or(read["train_dueg"], OWN_EMBEDDINGS, read["embed_items"])
    raw_ND, conditioned_ND = read_embeddings(embeddings), conditioned(embeddings)
    attribute = by or scatter.telling_attribute(items.attributes)
    values = scatter.attribute_values(items.attributes, attribute) if attribute else [None] * sequences.num_items
    names = [title or item_id for title, item_id in zip(items.titles, items.item_ids, strict=True)]
    dots = geometry.sample(sequences.num_items, seed, DOTS)
    shelf = gallery.spread(sequences.training_counts(), ROWS, seed)
    near = gallery.rows(
        items, shelf, *geometry.neighbours(conditioned_ND, shelf, 10), sequences.training_counts(), sequences.num_warm
    )
    system = report["test"][report["headline"]]["systems"][name]
    sections = {
        "Comparison": run_page.comparison(report, name),
        "Who is served": run_page.buckets(report),
        "Users": run_page.examples(shown),
        "Training": run_page.training(_validation(read), _losses(read["finetune_mirm"])),
        "Alignment": run_page.alignment(_agreements(sequences, teacher, dueg, conditioned_ND, seed)),
        "Map of the items": scatter.svg(scatter.project(raw_ND), names, attribute, values, dots),
        "Nearest neighbours": gallery.sections(near),
        "What was run": run_page.facts(
            _data(json.loads(read["ingest"].file("summary.json").read_text("utf-8"))),
            _versions(),
            {stage: artifacts.sha256(folder / artifacts.MANIFEST) for stage, folder in STAGES.items()},
            Path("params.yaml").read_text("utf-8"),
        ),
    }
    data = Path(params.ingest.path).name
    title = f"Molar on {data}, {name}: NDCG@10 {system['ndcg@10']:.4f}, Recall@10 {system['recall@10']:.4f}"
    page = run_page.page(title, sections)
    out.write_text(page, "utf-8")
    say(f"report: {len(page.encode()) / 1e6:.1f} MB -> {out}")


def _ranks(path: Path, column: str, sequences: Sequences, queries: Queries) -> np.ndarray:
    """(Q,) rank of each test query's target, from 0, as evaluate saved it."""
    import pyarrow.parquet as pq

    from pipeline.errors import MolarError

    table = pq.read_table(path, columns=["user_id", column])
    if table["user_id"].to_pylist() != [sequences.user_ids[user] for user in queries.user]:
        raise MolarError(f"{path} and {CATALOG} are not of one run: run `dvc repro evaluate`")
    ranks_Q: np.ndarray = table[column].to_numpy()
    return ranks_Q


def _drawn(queries: Queries, ranks_Q: np.ndarray, number: int, seed: int) -> tuple[Queries, np.ndarray]:
    """`number` queries drawn at random with their ranks, half of them with the target in the list, if there are any."""
    import numpy as np

    order_Q = np.random.default_rng(seed).permutation(len(queries))
    hits, misses = order_Q[ranks_Q[order_Q] < LIST], order_Q[ranks_Q[order_Q] >= LIST]
    chosen = np.concatenate([hits[: -(-number // 2)], misses[: number // 2]])
    return _some(queries, chosen), ranks_Q[chosen]


def _some(queries: Queries, chosen: np.ndarray) -> Queries:
    return replace(queries, user=queries.user[chosen], end=queries.end[chosen], target=queries.target[chosen])


def _examples(
    items: Items, sequences: Sequences, drawn: tuple[Queries, np.ndarray], served: Ranker, masked: bool
) -> list[Example]:
    """The queries with their history, the list of the system that is served, and the target."""
    import numpy as np

    from pipeline.report.recommendation import cards
    from pipeline.report.run_page import Example
    from pipeline.retrieval.rank import top_k

    queries, ranks_Q = drawn
    histories = queries.histories(sequences)
    if not histories:
        return []
    candidates_N = served.rankable & (np.arange(sequences.num_items) < sequences.num_warm)  # what evaluate ranks
    found_QK, scores_QK = top_k(
        served.user_vectors(histories, queries.user),
        served.item_vectors(),
        LIST,
        histories if masked else None,
        candidates_N,
    )
    return [
        Example(
            sequences.user_ids[user],
            cards(items, history[-HISTORY:].tolist(), None, pictures=True),
            cards(items, found_K[found_K >= 0].tolist(), scores_K[found_K >= 0].tolist(), pictures=True),
            cards(items, [int(target)], None, pictures=True)[0],
            int(rank) + 1,
        )
        for user, history, found_K, scores_K, target, rank in zip(
            queries.user, histories, found_QK, scores_QK, queries.target, ranks_Q, strict=True
        )
    ]


def _validation(read: Mapping[str, Artifact]) -> dict[str, list[tuple[float, float]]]:
    """NDCG@10 by epoch of both trained recommenders."""
    curves = {}
    for name, stage in (("teacher", "train_teacher"), ("dueg", "train_dueg")):
        with read[stage].file("curve.tsv").open(newline="") as handle:
            curves[name] = [(float(r["epoch"]), float(r["ndcg@10"])) for r in csv.DictReader(handle, delimiter="\t")]
    return curves


def _losses(mirm: Artifact) -> dict[str, list[tuple[float, float]]]:
    """Losses by kind and step; empty where nothing was tuned."""
    from pipeline.mirm.folder import LOSSES
    from pipeline.mirm.losses import read_losses

    losses: dict[str, list[tuple[float, float]]] = {}
    for one in read_losses(mirm.file(LOSSES)) if LOSSES in mirm.names else ():
        losses.setdefault(one.kind, []).append((one.step, one.value))
    return losses


def _agreements(
    sequences: Sequences, teacher: Ranker, dueg: Ranker, embeddings_ND: np.ndarray, seed: int
) -> dict[str, Agreement]:
    """What the user model's vector tells of the teacher's, beside what no user model tells."""
    import numpy as np

    from pipeline.report.agreement import agreement
    from pipeline.report.geometry import sample

    queries = sequences.queries("test")
    if len(queries) < 4:
        return {}
    queries = _some(queries, sample(len(queries), seed, USERS))
    histories = queries.histories(sequences)
    teacher_UE = teacher.user_vectors(histories, queries.user)
    plain_UD = np.stack([embeddings_ND[history].mean(axis=0) for history in histories])
    return {
        "the mean of the history's item embeddings": agreement(plain_UD, teacher_UE, seed),
        "the user model": agreement(dueg.user_vectors(histories, queries.user), teacher_UE, seed),
    }


def _data(summary: Mapping[str, Any]) -> dict[str, str]:
    """The catalogue in a few lines."""
    split, items = summary["split"], summary["items"]
    return {
        "users": f"{split['users']:,}",
        "items, warm and cold": f"{items['warm']:,} + {items['cold']:,}",
        "training interactions": f"{split['training']:,}",
        "test and cold queries": f"{split['test']:,} + {split['cold']:,}",
        "items with a picture": f"{items['with_image']:,}",
        "mean length of a sequence": f"{summary['sequence_length']['mean']:.1f}",
    }


def _versions() -> dict[str, str]:
    """Hardware class and libraries."""
    from pipeline.doctor import machine

    return {
        "cores": str(machine.cores()),
        "python": platform.python_version(),
        "torch": machine.torch_build(),
        "faiss": machine.faiss_build(),
        **{package: machine.installed(package) for package in PACKAGES},
    }


if __name__ == "__main__":
    typer.run(main)
