"""What can be read off item embeddings: linear probes of the demo world's factors on items they were not fitted on.

    python -m benchmarks.probes                        data/mirm beside its untuned backbone, every modality
    python -m benchmarks.probes --mirm /path/to/mirm   another finished data/mirm

A logistic regression per factor is fitted on the embeddings of 75 % of the warm items and scored on the rest and on
the cold items. Community is told by nothing about an item, so its accuracy shows what chance looks like.
"""

from pathlib import Path
from typing import Annotated

import typer

FACTORS = ("category", "colour", "shape", "brand", "community")
MODALITIES = ("text+image", "image", "text")
HELD_OUT = 0.25


def main(
    mirm: Annotated[Path, typer.Option(help="A finished data/mirm.")] = Path("data/mirm"),
    catalog: Annotated[Path, typer.Option(help="The catalogue it was fine-tuned on.")] = Path("data/catalog"),
    world: Annotated[Path, typer.Option(help="The demo world's truth.")] = Path("data/world"),
) -> None:
    """Print one row of held-out accuracies per model and modality."""
    import tempfile

    import numpy as np
    import pyarrow.parquet as pq
    import torch

    from pipeline import artifacts
    from pipeline.catalog.catalogue import open_items, open_sequences
    from pipeline.mirm.embed import Encoder
    from pipeline.mirm.folder import load_mirm, open_backbone
    from pipeline.mirm.tiny import build_tiny
    from pipeline.params import load_params

    params = load_params()
    source = artifacts.read(catalog, "ingest")
    items = open_items(source)
    trained_N = open_sequences(source).training_counts() > 0
    truth = pq.read_table(artifacts.read(world, "demo").file("items.parquet")).to_pydict()
    row_of = {item_id: row for row, item_id in enumerate(truth["item_id"])}
    rows_N = [row_of[item_id] for item_id in items.item_ids]
    labels = {factor: np.array(truth[factor])[rows_N] for factor in FACTORS}
    held_out_N = ~trained_N | (np.random.default_rng(0).random(len(items)) < HELD_OUT)

    tuned = load_mirm(artifacts.read(mirm, "finetune_mirm"), "float32")
    models = {"tuned": tuned}
    if tuned.settings.backbone == {"tiny": None}:
        with tempfile.TemporaryDirectory() as directory:
            recipe = params.finetune_mirm
            tiny = build_tiny(
                items, np.flatnonzero(trained_N), recipe.instruction, recipe.tiny, params.seed, Path(directory)
            )
            models = {"untuned": open_backbone(recipe, tiny, params.seed), **models}
    typer.echo(f"{'model':8} {'shown':11}" + "".join(f"{factor:>11}" for factor in FACTORS))
    for name, model in models.items():
        for modality in MODALITIES:
            encoder = Encoder(model, items, modality, torch.device("cpu"), params.embed_items.batch_tokens)
            embeddings_ND = np.zeros((len(items), model.model.get_input_embeddings().weight.shape[1]))
            for batch in encoder.batches():
                embeddings_ND[batch] = encoder.encode(batch)
            scores = [probe(embeddings_ND, labels[factor], held_out_N) for factor in FACTORS]
            typer.echo(f"{name:8} {modality:11}" + "".join(f"{score:11.2f}" for score in scores))


def probe(embeddings_ND, labels_N, held_out_N) -> float:  # type: ignore[no-untyped-def]
    """Accuracy of a linear probe on the held-out items."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(embeddings_ND[~held_out_N], labels_N[~held_out_N])
    return float(model.score(embeddings_ND[held_out_N], labels_N[held_out_N]))


if __name__ == "__main__":
    typer.run(main)
