"""`build_index`: a FAISS index over the vectors that what is served scores against.

python -m stages.build_index            reads data/embeddings, data/dueg; writes data/index/items.faiss
dvc exp run -S build_index.kind=hnsw    an approximate one; evaluate then shows what it loses
dvc exp run -S build_index.serve=sum    of the teacher's scores and the DUEG's: reads data/teacher and the
                                        validation part as well, and writes data/index/sum.json beside it
"""

import typer

from stages.command import command, running
from stages.paths import CATALOG, DUEG, EMBEDDINGS, INDEX, TEACHER


@command
def main() -> None:
    """Build the index that serves recommendations."""
    from pipeline import artifacts
    from pipeline.catalog.catalogue import open_sequences
    from pipeline.device import pick
    from pipeline.params import load_params, load_runtime
    from pipeline.recommender import score_sum
    from pipeline.recommender.grid import load_recommender
    from pipeline.retrieval import index

    params = load_params()
    settings = params.build_index
    device = str(pick(load_runtime()))
    with running("build_index") as run:
        embeddings = artifacts.read(EMBEDDINGS, "embed_items")
        served: score_sum.Ranker = load_recommender(artifacts.read(DUEG, "train_dueg"), embeddings, device)
        mix = None
        if settings.serve == "sum":
            teacher = load_recommender(artifacts.read(TEACHER, "train_teacher"), None, device)
            sequences = open_sequences(artifacts.read(CATALOG, "ingest"))
            mask_seen = params.protocol.mask_seen
            mix = score_sum.choose(sequences, teacher, served, settings.sum_weights, mask_seen, device)
            served = score_sum.Summed(teacher, served, mix)
        items_ND = served.item_vectors()
        built = index.build(
            items_ND,
            served.rankable,
            settings.kind,
            ivf_lists=settings.ivf_lists,
            ivf_probes=settings.ivf_probes,
            hnsw_neighbours=settings.hnsw_neighbours,
            hnsw_ef=settings.hnsw_ef,
        )
        with artifacts.write(INDEX, kind=settings.kind, items=int(built.ntotal), dim=items_ND.shape[1]) as out:
            index.write(built, out / "items.faiss")
            if mix is not None:
                score_sum.write(mix, out)
        of = "" if mix is None else f"the sum with {mix.weight:g} of the teacher's score, "
        run.done(f"{of}{settings.kind}, {built.ntotal:,} items of {items_ND.shape[1]} dimensions", INDEX)


if __name__ == "__main__":
    typer.run(main)
