"""What can be read off item embeddings: linear probes on items they were not fitted on.

    python -m benchmarks.probes                        data/mirm beside its untuned backbone, every modality
    python -m benchmarks.probes --mirm /path/to/mirm   another finished data/mirm
    python -m benchmarks.probes --json probes.json     the accuracies for a program

Of the demo world: the factors that its choices follow; community is told by nothing about an item, so its accuracy
shows what chance looks like. Of MovieLens: a film's first genre and its decade, both among the words that the MIRM is
shown, beside the words of its title alone.

A logistic regression per factor is fitted on the embeddings of 75 % of the warm items and scored on the rest and on
the cold items. "untuned" is the same tiny backbone before fine-tuning; with "shuffled" every picture is another item's,
which must hurt what is read from pictures and leave the vectors of words alone as they were, to the bit (checked).
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import torch
import typer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline import artifacts
from pipeline.catalog.catalogue import Items, open_items, open_sequences
from pipeline.mirm.embed import Encoder
from pipeline.mirm.folder import Mirm, load_mirm, open_backbone
from pipeline.mirm.tiny import build_tiny
from pipeline.params import Params, load_params

FACTORS = ("category", "colour", "shape", "brand", "community")
MODALITIES = ("text+image", "image", "text")
HELD_OUT = 0.25


def main(
    mirm: Annotated[Path, typer.Option(help="A finished data/mirm.")] = Path("data/mirm"),
    catalog: Annotated[Path, typer.Option(help="The catalogue it was fine-tuned on.")] = Path("data/catalog"),
    world: Annotated[Path, typer.Option(help="The demo world's truth, if it is one.")] = Path("data/world"),
    untuned: Annotated[bool, typer.Option(help="Beside the untuned backbone, if it is the tiny one.")] = True,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the accuracies here as well.")] = None,
) -> None:
    """Print one row of held-out accuracies per model and modality."""
    params = load_params()
    source = artifacts.read(catalog, "ingest")
    items = open_items(source)
    trained_N = open_sequences(source).training_counts() > 0
    labels = of_the_world(items, world) if params.ingest.source == "tables" else of_films(items)
    held_out_N = ~trained_N | (np.random.default_rng(0).random(len(items)) < HELD_OUT)

    models = {"tuned": load_mirm(artifacts.read(mirm, "finetune_mirm"), "float32")}
    if untuned and params.finetune_mirm.backbone == "tiny":
        models = {"untuned": before(items, trained_N, params)} | models
    found: dict[str, dict[str, float]] = {}
    if params.ingest.source != "tables":
        words_NW = CountVectorizer(binary=True).fit_transform([title or "" for title in items.titles]).toarray()
        found["title, words"] = probed(words_NW, labels, held_out_N)
    for name, model in models.items():
        for modality in MODALITIES:
            embeddings_ND = embedded(model, items, modality, params)
            found[f"{name}, {modality}"] = probed(embeddings_ND, labels, held_out_N)
            if name == "tuned" and modality == "image":
                moved_ND = embedded(model, Shuffled(items), modality, params)
                found["tuned, image, shuffled"] = probed(moved_ND, labels, held_out_N)
            if name == "tuned" and modality == "text":
                assert np.array_equal(embeddings_ND, embedded(model, Shuffled(items), modality, params))
    typer.echo(f"{'':24}" + "".join(f"{factor:>11}" for factor in labels))
    for name, scores in found.items():
        typer.echo(f"{name:24}" + "".join(f"{scores[factor]:11.3f}" for factor in labels))
    if as_json:
        as_json.write_text(json.dumps(found, indent=2), "utf-8")


def of_the_world(items: Items, world: Path) -> dict[str, np.ndarray]:
    """Each item's true factors."""
    truth = pq.read_table(artifacts.read(world, "demo").file("items.parquet")).to_pydict()
    row_of = {item_id: row for row, item_id in enumerate(truth["item_id"])}
    rows_N = [row_of[item_id] for item_id in items.item_ids]
    return {factor: np.array(truth[factor])[rows_N] for factor in FACTORS}


def of_films(items: Items) -> dict[str, np.ndarray]:
    """A film's first genre and decade, as MovieLens has them."""
    attributes = [items.attributes[item] for item in range(len(items))]
    return {
        "genre": np.array([(a.get("genres") or "none").split(",")[0].strip() for a in attributes]),
        "decade": np.array([(a.get("year") or "none")[:3] for a in attributes]),
    }


def before(items: Items, trained_N: np.ndarray, params: Params) -> Mirm:
    """The tiny backbone as fine-tuning got it."""
    recipe = params.finetune_mirm
    with tempfile.TemporaryDirectory() as directory:
        trained = np.flatnonzero(trained_N)
        tiny = build_tiny(items, trained, recipe.instruction, recipe.tiny, params.seed, Path(directory))
        return open_backbone(recipe, tiny, params.seed)


def embedded(mirm: Mirm, items: Items | Shuffled, modality: str, params: Params) -> np.ndarray:
    """(N, D), without the cache."""
    encoder = Encoder(mirm, items, modality, torch.device("cpu"), params.embed_items.batch_tokens)  # type: ignore[arg-type]
    embeddings_ND = np.zeros((len(items), mirm.model.get_input_embeddings().weight.shape[1]))
    for batch in encoder.batches():
        embeddings_ND[batch] = encoder.encode(batch)
    return embeddings_ND


class Shuffled:
    """The items, each with the picture of another one."""

    def __init__(self, items: Items) -> None:
        self._items = items
        pictured = np.flatnonzero(items.has_image)
        self._shown = dict(zip(pictured.tolist(), np.roll(pictured, len(pictured) // 3).tolist(), strict=True))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._items, name)

    def __len__(self) -> int:
        return len(self._items)

    def image(self, item: int) -> Any:
        """The picture of another item."""
        return self._items.image(self._shown[item])

    def image_bytes(self, item: int) -> bytes | None:
        """Its bytes."""
        return self._items.image_bytes(self._shown[item])


def probed(features_ND: np.ndarray, labels: dict[str, np.ndarray], held_out_N: np.ndarray) -> dict[str, float]:
    """Accuracy by factor."""
    return {factor: probe(features_ND, of_N, held_out_N) for factor, of_N in labels.items()}


def probe(features_ND: np.ndarray, labels_N: np.ndarray, held_out_N: np.ndarray) -> float:
    """Accuracy of a linear probe on the held-out items."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(features_ND[~held_out_N], labels_N[~held_out_N])
    return float(model.score(features_ND[held_out_N], labels_N[held_out_N]))


if __name__ == "__main__":
    typer.run(main)
