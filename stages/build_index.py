"""`build_index`: a FAISS index over the vectors that the user model scores against.

python -m stages.build_index            reads data/embeddings, data/dueg; writes data/index/items.faiss
dvc exp run -S build_index.kind=hnsw    an approximate one; evaluate then shows what it loses
"""

import typer

from stages.command import command, running
from stages.paths import DUEG, EMBEDDINGS, INDEX


@command
def main() -> None:
    """Build the index that serves recommendations."""
    from pipeline import artifacts
    from pipeline.params import load_params
    from pipeline.recommender.grid import load_recommender
    from pipeline.retrieval import index

    params = load_params().build_index
    with running("build_index") as run:
        embeddings = artifacts.read(EMBEDDINGS, "embed_items")
        recommender = load_recommender(artifacts.read(DUEG, "train_dueg"), embeddings)
        items_ND = recommender.item_vectors()
        built = index.build(
            items_ND,
            recommender.rankable,
            params.kind,
            ivf_lists=params.ivf_lists,
            ivf_probes=params.ivf_probes,
            hnsw_neighbours=params.hnsw_neighbours,
            hnsw_ef=params.hnsw_ef,
        )
        with artifacts.write(INDEX, kind=params.kind, items=int(built.ntotal), dim=items_ND.shape[1]) as out:
            index.write(built, out / "items.faiss")
        run.done(f"{params.kind}, {built.ntotal:,} items of {items_ND.shape[1]} dimensions", INDEX)


if __name__ == "__main__":
    typer.run(main)
