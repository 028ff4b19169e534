"""`embed_items`: every item once through the MIRM (paper 3.3) or a content encoder, known ones from the cache.

python -m stages.embed_items                                 reads catalog, mirm; writes data/embeddings/
dvc exp run -S embed_items.modality=text                     the same MIRM, shown words alone
dvc exp run -S embed_items.encoder=text -S embed_items.text_encoder.model=models/bert    frozen BERT features
"""

import typer

from stages.command import command, running
from stages.paths import CATALOG, EMBEDDINGS, MIRM


@command
def main() -> None:
    """Embed every item once, and fit the conditioning on training items."""
    import numpy as np

    from pipeline import artifacts
    from pipeline.catalog.catalogue import open_items, open_sequences
    from pipeline.device import pick
    from pipeline.encoders.embed import embed_content
    from pipeline.mirm.conditioning import fit
    from pipeline.mirm.embed import embed_items, model_digests
    from pipeline.mirm.folder import load_mirm
    from pipeline.mirm.shards import write_conditioning, write_embeddings
    from pipeline.params import load_params, load_runtime

    params = load_params().embed_items
    device = pick(load_runtime())
    with running("embed_items") as run:
        catalog = artifacts.read(CATALOG, "ingest")
        items = open_items(catalog)
        trained = np.flatnonzero(open_sequences(catalog).training_counts())
        if params.encoder == "mirm":
            folder = artifacts.read(MIRM, "finetune_mirm")
            embedded = embed_items(load_mirm(folder, params.precision), items, params, model_digests(folder), device)
        else:
            embedded = embed_content(items, params, device)
        conditioning = params.conditioning
        mean_D, matrix_DK = fit(embedded.embeddings_ND, trained, conditioning.kind, conditioning.floor)
        with artifacts.write(EMBEDDINGS) as out:
            write_embeddings(out, embedded.embeddings_ND, params.dtype, params.shard_items)
            write_conditioning(out, mean_D, matrix_DK)
        run.done(
            f"{len(items):,} items x {embedded.embeddings_ND.shape[1]}, encoded {embedded.encoded:,}, "
            f"from cache {embedded.from_cache:,}, {embedded.rate:,.0f} items/s",
            EMBEDDINGS,
        )


if __name__ == "__main__":
    typer.run(main)
