"""`report`: one run as a page: what was run, how good it is, on whom it hits and misses.

    molar report                                 writes report.html; opens anywhere, without a network
    molar report page.html --examples 12         more users with their pictures
    molar report page.html --by genres           colours of the map of items

Reads everything under data/ that the stages made, and params.yaml; changes nothing under data/.
"""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.command import command
from stages.paths import CATALOG, DUEG, EMBEDDINGS, EVALUATION, INDEX, MIRM, TEACHER

if TYPE_CHECKING:
    import numpy as np

    from pipeline.artifacts import Artifact
    from pipeline.catalog.catalogue import Items, Queries, Sequences
    from pipeline.recommender.evaluation import Found
    from pipeline.recommender.grid import Recommender
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
    """Write the report of the run that lies under data/."""
    import numpy as np

    from pipeline import artifacts
    from pipeline.catalog.catalogue import open_items, open_sequences
    from pipeline.device import pick
    from pipeline.errors import MolarError
    from pipeline.mirm.shards import conditioned, read_embeddings
    from pipeline.params import load_params, load_runtime
    from pipeline.progress import say
    from pipeline.recommender.grid import load_recommender
    from pipeline.report import gallery, geometry, run_page, scatter
    from pipeline.retrieval.rank import top_k

    if not out.parent.is_dir():
        raise MolarError(f"{out} cannot be written: there is no folder {out.parent}")
    params = load_params()
    read = {stage: artifacts.read(folder, stage) for stage, folder in STAGES.items()}
    report = json.loads(read["evaluate"].file("report.json").read_text("utf-8"))
    items, sequences = open_items(read["ingest"]), open_sequences(read["ingest"])
    device = str(pick(load_runtime()))
    teacher = load_recommender(read["train_teacher"], None, device)
    dueg = load_recommender(read["train_dueg"], read["embed_items"], device)
    queries, items_ND = sequences.queries("test"), dueg.item_vectors()
    candidates_N = dueg.rankable & (np.arange(sequences.num_items) < sequences.num_warm)  # what evaluate ranks
    ranks = _ranks(read["evaluate"].file("per_user.parquet"), report["headline"], sequences, queries)

    def listed(histories: list[np.ndarray], users: np.ndarray) -> Found:
        seen = histories if report["headline"] == "masked" else None
        return top_k(dueg.user_vectors(histories, users), items_ND, LIST, seen, candidates_N)

    raw_ND, conditioned_ND = read_embeddings(read["embed_items"]), conditioned(read["embed_items"])
    attribute = by or scatter.telling_attribute(items.attributes)
    values = scatter.attribute_values(items.attributes, attribute) if attribute else [None] * sequences.num_items
    names = [title or item_id for title, item_id in zip(items.titles, items.item_ids, strict=True)]
    dots = geometry.sample(sequences.num_items, seed, DOTS)
    drawn = gallery.spread(sequences.training_counts(), ROWS, seed)
    near = gallery.rows(
        items, drawn, *geometry.neighbours(conditioned_ND, drawn, 10), sequences.training_counts(), sequences.num_warm
    )
    system = report["test"][report["headline"]]["systems"]["dueg"]
    sections = {
        "Comparison": run_page.comparison(report),
        "Who is served": run_page.buckets(report),
        "Users": run_page.examples(_examples(items, sequences, queries, ranks, listed, examples, seed)),
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
    title = f"Molar on {data}: NDCG@10 {system['ndcg@10']:.4f}, Recall@10 {system['recall@10']:.4f}"
    page = run_page.page(title, sections)
    out.write_text(page, "utf-8")
    say(f"report: {len(page.encode()) / 1e6:.1f} MB -> {out}")


def _ranks(path: Path, headline: str, sequences: Sequences, queries: Queries) -> np.ndarray:
    """(Q,) rank of each test query's target by the user model, from 0, as evaluate saved it."""
    import pyarrow.parquet as pq

    from pipeline.errors import MolarError

    table = pq.read_table(path, columns=["user_id", f"dueg_{headline}"])
    if table["user_id"].to_pylist() != [sequences.user_ids[user] for user in queries.user]:
        raise MolarError(f"{path} and {CATALOG} are not of one run: run `dvc repro evaluate`")
    ranks_Q: np.ndarray = table[f"dueg_{headline}"].to_numpy()
    return ranks_Q


def _examples(
    items: Items,
    sequences: Sequences,
    queries: Queries,
    ranks_Q: np.ndarray,
    listed: Callable[[list[np.ndarray], np.ndarray], Found],
    number: int,
    seed: int,
) -> list[Example]:
    """Test queries drawn at random, half of them with the target in the list, as far as there are any."""
    import numpy as np

    from pipeline.report.recommendation import cards
    from pipeline.report.run_page import Example

    order_Q = np.random.default_rng(seed).permutation(len(queries))
    hits, misses = order_Q[ranks_Q[order_Q] < LIST], order_Q[ranks_Q[order_Q] >= LIST]
    chosen = [*hits[: -(-number // 2)], *misses[: number // 2]]
    shown = []
    for query in chosen:
        user = int(queries.user[query])
        history = sequences.history(user, int(queries.end[query]))
        found_1K, scores_1K = listed([history], np.array([user]))
        real = found_1K[0] >= 0
        target = int(queries.target[query])
        shown.append(
            Example(
                sequences.user_ids[user],
                cards(items, history[-HISTORY:].tolist(), None, pictures=True),
                cards(items, found_1K[0][real].tolist(), scores_1K[0][real].tolist(), pictures=True),
                cards(items, [target], None, pictures=True)[0],
                int(ranks_Q[query]) + 1,
            )
        )
    return shown


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
    sequences: Sequences, teacher: Recommender, dueg: Recommender, embeddings_ND: np.ndarray, seed: int
) -> dict[str, Agreement]:
    """What the user model's vector tells of the teacher's, beside what no user model tells."""
    import numpy as np

    from pipeline.report.agreement import agreement

    queries = sequences.queries("test")
    if len(queries) < 4:
        return {}
    some = np.sort(np.random.default_rng(seed).permutation(len(queries))[:USERS])
    histories = [sequences.history(int(queries.user[q]), int(queries.end[q])) for q in some]
    users = queries.user[some]
    teacher_UE = teacher.user_vectors(histories, users)
    plain_UD = np.stack([embeddings_ND[history].mean(axis=0) for history in histories])
    return {
        "the mean of the history's item embeddings": agreement(plain_UD, teacher_UE, seed),
        "the user model": agreement(dueg.user_vectors(histories, users), teacher_UE, seed),
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
