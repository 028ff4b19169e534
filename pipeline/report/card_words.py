"""What a model card says in words: what the run is, what it is for, and the limits that hold for this very run."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import PurePath
from typing import Any

from pipeline.params import Params
from pipeline.params.sharing import HOLDS_DATA
from pipeline.retrieval.metrics import short

ARXIV = "https://arxiv.org/abs/2412.18176"

USE = """In the repository of the project, {first}:

```python
from pipeline.serving import Recommender

recommender = Recommender.load("data")
recommender.recommend(history=["<item id>", "<item id>"], k=10)
new = recommender.add_item("title", "text", "picture.png")     # recommendable at once, in memory
recommender.similar(new)
```

`data/mirm` alone is a folder that plain transformers opens."""

REFERENCE = f"""The method is that of [Molar, arXiv 2412.18176]({ARXIV}). Neither the implementation nor this run is the
authors', and these figures are not the paper's: where the paper leaves something open, a param says what was done.

```bibtex
@article{{molar2024,
  title   = {{Molar: Multimodal LLMs with Collaborative Filtering Alignment for Enhanced Sequential Recommendation}},
  journal = {{arXiv preprint arXiv:2412.18176}},
  year    = {{2024}}
}}
```"""

TUNED = {"none": "as it is", "lora": "fine-tuned by LoRA", "full": "all of it fine-tuned"}
SYSTEMS = {
    "popularity": "times an item was chosen",
    "teacher": "the model over IDs",
    "dueg": "the user model over content",
    "sum": "the scores of these two added",
    "dueg_index": "`dueg` through the index that serves it",
    "sum_index": "`sum` through the index that serves it",
    "oracle": "the world's own probabilities, which know each user's taste",
    "ceiling": "the best that the process and the history alone allow",
}
ALIGNED_WITH = {"ids": "that of", "sum": "the scores of the same model over content alone, unaligned, plus those of"}
READS = {"text": "text alone", "image": "picture alone", "text+image": "text and picture"}


def use(record: bool, held_back: Container[str]) -> str:
    """How it is served, from a record or a run; where the catalogue is held back, with one's own copy of the data."""
    brought = (
        "at the commit above, after `molar experiment pull`, with params.yaml and dvc.lock of this folder copied into "
        "it and `dvc checkout{}`"
        if record
        else "after `dvc pull{}`"
    )
    if not any(out in held_back for out in HOLDS_DATA):
        return USE.format(first=brought.format(""))
    made = ", then `dvc repro ingest` over your own copy of the raw data, for the catalogue is not passed on"
    return USE.format(first=brought.format(" --allow-missing") + made)


def about(params: Params, served: str, mirm: Mapping[str, Any] | None) -> str:
    """What it is, in a paragraph."""
    embed, dueg, teacher = params.embed_items, params.train_dueg, params.train_teacher
    if dueg.items == "id":
        items = "Items are known by their ID alone."
    elif embed.encoder == "mirm":
        llm = f"{backbone(params, mirm)}, {TUNED[params.finetune_mirm.tuning]}"
        items = f"A multimodal LLM ({llm}) turns each item's {READS[embed.modality]} into a vector."
        if dueg.joint.epochs:
            items += f" It went on learning together with the user model ({TUNED[dueg.joint.tuning]})."
    else:
        items = f"Frozen content encoders ({embed.encoder}) turn each item into a vector."
    if dueg.items == "id+mirm":
        items += " A learned vector of its ID is added to it."
    body = {"llm": "the LLM's own decoder"}.get(dueg.model, dueg.model)
    alpha = dueg.alignment.weight
    aligned = (
        f"aligned (weight {alpha:g}, {dueg.alignment.kind}) with {ALIGNED_WITH[dueg.alignment.teacher]} a frozen "
        f"{teacher.model} over IDs"
        if alpha
        else f"not aligned with the teacher's ({teacher.model} over IDs): the alignment's weight is 0"
    )
    whose = "the sum of the teacher's and the user model's" if served.startswith("sum") else "the user model's alone"
    return (
        f"A recommender of the next item. {items} A user model ({body}) reads a user's sequence of these and gives a "
        f"user vector, {aligned}. Scores are {whose}, served through an index ({params.build_index.kind}). The method "
        f"is [Molar's]({ARXIV})."
    )


def backbone(params: Params, mirm: Mapping[str, Any] | None) -> str:
    """The backbone as it may be told: a hub id, the digest of a local folder, or that it is tiny."""
    known = (mirm or {}).get("backbone", {})
    if params.finetune_mirm.backbone == "tiny" or "tiny" in known:
        return "a tiny one, drawn at random"
    if known.get("hub"):
        return f"{known['hub']}{' at ' + known['revision'] if known.get('revision') else ''}"
    if known.get("sha256"):
        return f"a local folder, SHA-256 {known['sha256']}"
    name = params.finetune_mirm.backbone
    return "a local folder" if PurePath(name).is_absolute() else name


def limits(params: Params, metrics: Mapping[str, Any], served: str, is_demo: bool) -> str:
    """Intended use, then one line for each limit that this run has."""
    test = metrics["test"]
    ours = test[served]
    said = ["Meant for research, and for recommendations out of the catalogue it was made from. What limits it:", ""]
    lines = ["It knows the users and items of this catalogue: another catalogue needs another run."]
    if is_demo:
        lines.append(
            "The catalogue is the demo world: users, items and pictures are drawn by a program. Its figures say "
            "nothing of any real shop."
        )
    tiny = params.finetune_mirm.backbone == "tiny"
    if tiny and params.embed_items.encoder == "mirm" and params.train_dueg.items != "id":
        lines.append(
            "The backbone is tiny and was drawn at random, then trained on this catalogue alone: it knows no language "
            "and no pictures beyond it, and new items in other words or other looks get vectors that mean little."
        )
    if params.train_dueg.items == "id":
        lines.append("Items have no content: a new or cold item cannot be ranked.")
    elif "cold_among_cold" not in metrics:
        lines.append("New items can be ranked, but no cold item was held out: how well is not measured.")
    else:
        alone, among = (metrics[part].get(served, {}).get("ndcg@10") for part in ("cold_among_cold", "cold_among_all"))
        lines.append(
            f"New items can be ranked: NDCG@10 {short(alone)} among cold items alone, {short(among)} among all items."
        )
    if served.startswith("sum"):
        lines.append(
            "In the sum a cold or new item has the user's mean teacher score, and a history of such items alone cannot "
            "be served."
        )
    better = [name for name in ("popularity", "teacher", "dueg", "sum") if name in test and _beats(test[name], ours)]
    if better:
        lines.append(
            f"On the test queries {' and '.join(better)} had a higher NDCG@10 than what is served, if not always by "
            "more than the error."
        )
    lines += [
        f"Over all test queries its first ten places show {ours['coverage@10']:.1%} of the warm items, some far more "
        f"than others: the Gini coefficient of exposure is {short(ours['gini@10'])} (0: all alike).",
        "Offline ranking of what users chose by themselves: no experiment says what they would do with these lists.",
        "One seed. The standard errors are over users and do not hold what another seed changes.",
        "`data/catalog` and `data/evaluation` hold user ids and what each user chose, and weights may remember some "
        "of it: they may be published only where the data's conditions and its users allow it.",
        "Another processor, GPU or library version may change last digits.",
    ]
    return "\n".join([*said, *(f"- {line}" for line in lines)])


def _beats(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return one["ndcg@10"] > other["ndcg@10"]
