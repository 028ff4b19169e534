"""`ingest`: raw source -> items, sequences, split, quarantine.

python -m stages.ingest                                       reads ingest.path, writes data/catalog/
dvc exp run -S ingest.source=movielens -S ingest.path=data/raw/ml-100k -S ingest.cold_items=none
"""

import typer

from stages.command import command, running
from stages.paths import CATALOG


@command
def main() -> None:
    """Read the raw data, filter and split it, pack words and pictures into Parquet."""
    from pipeline import artifacts
    from pipeline.catalog.build import build
    from pipeline.catalog.summary import show
    from pipeline.catalog.workers import cores
    from pipeline.params import load_params, load_runtime

    params, processes = load_params().ingest, load_runtime().threads or cores()
    with running("ingest") as run:
        with artifacts.write(CATALOG) as out:
            summary = build(params, out, processes)
        show(summary)
        items, split = summary["items"], summary["split"]
        interactions = split["training"] + split["validation"] + split["test"]
        run.done(f"{split['users']:,} users, {items['all']:,} items, {interactions:,} interactions", CATALOG)


if __name__ == "__main__":
    typer.run(main)
