"""`embed_items`: every item once through the MIRM (paper 3.3) or a content encoder, known ones from the cache.

python -m stages.embed_items                                 reads catalog, mirm; writes data/embeddings/
dvc exp run -S embed_items.modality=text                     the same MIRM, shown words alone
dvc exp run -S embed_items.encoder=text -S embed_items.text_encoder.model=models/bert    frozen BERT features
MOLAR_PROCESSES=2 python -m stages.embed_items               the same in two processes: docs/scale.md
python -m stages.embed_items --verify                        32 items computed anew and compared; nothing is written
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stages.command import command, running
from stages.launch import relaunched
from stages.paths import CATALOG, EMBEDDINGS, MIRM

if TYPE_CHECKING:
    import torch

    from pipeline.params.embed_items import EmbedItems


@command
def main(
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare a sample with data/embeddings, write nothing.")
    ] = False,
    sample: Annotated[int, typer.Option(min=1, help="Items that --verify computes anew.")] = 32,
) -> None:
    """Embed every item once, and fit the conditioning on training items."""
    from pipeline.params import load_params, load_runtime

    params, runtime = load_params().embed_items, load_runtime()
    if not verify and relaunched("stages.embed_items", runtime):
        return
    import numpy as np

    from pipeline import artifacts, processes
    from pipeline.catalog.catalogue import open_items, open_sequences
    from pipeline.device import pick
    from pipeline.encoders.embed import embed_content
    from pipeline.mirm.conditioning import fit
    from pipeline.mirm.embed import embed_items, model_digests
    from pipeline.mirm.folder import load_mirm
    from pipeline.mirm.shards import write_conditioning, write_embeddings

    device = pick(runtime)
    if verify:
        _verify(params, sample, device)
        return
    with running("embed_items", shared=True) as run:
        processes.join(cpu=True)  # they exchange a count alone
        catalog = artifacts.read(CATALOG, "ingest")
        items = open_items(catalog)
        trained = np.flatnonzero(open_sequences(catalog).training_counts())
        if params.encoder == "mirm":
            folder = artifacts.read(MIRM, "finetune_mirm")
            mirm, digests = load_mirm(folder, params.precision), model_digests(folder)
            embedded = embed_items(mirm, items, params, digests, device, runtime.workers)
        else:
            embedded = embed_content(items, params, device)
        if not processes.is_first():
            return
        conditioning = params.conditioning
        with artifacts.write(EMBEDDINGS) as out:
            # first, for it refuses a NaN by its item, of which whitening would only say that it does not converge
            write_embeddings(out, embedded.embeddings_ND, params.dtype, params.shard_items)
            mean_D, matrix_DK = fit(embedded.embeddings_ND, trained, conditioning.kind, conditioning.floor)
            write_conditioning(out, mean_D, matrix_DK)
        run.done(
            f"{len(items):,} items x {embedded.embeddings_ND.shape[1]}, encoded {embedded.encoded:,}, "
            f"from cache {embedded.from_cache:,}, {embedded.rate:,.0f} items/s, "
            f"cache {embedded.cache_bytes / 1e6:,.1f} MB",
            EMBEDDINGS,
        )


def _verify(params: EmbedItems, sample: int, device: torch.device) -> None:
    from pipeline import artifacts
    from pipeline.catalog.catalogue import open_items
    from pipeline.errors import MolarError
    from pipeline.mirm.folder import load_mirm
    from pipeline.mirm.verify import verify
    from pipeline.progress import say

    if params.encoder != "mirm":
        raise MolarError(f"embed_items --verify compares a MIRM's vectors, embed_items.encoder is {params.encoder!r}")
    catalog, folder = artifacts.read(CATALOG, "ingest"), artifacts.read(MIRM, "finetune_mirm")
    stored = artifacts.read(EMBEDDINGS, "embed_items")
    found = verify(load_mirm(folder, params.precision), open_items(catalog), params, stored, sample, device)
    say(
        f"embed_items --verify: {found.items:,} items computed anew, as in {EMBEDDINGS}: "
        f"largest difference {found.largest:.1e}, least cosine {found.cosine:.6f}"
    )


if __name__ == "__main__":
    typer.run(main)
