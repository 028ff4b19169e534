"""One file per raw source; each reads a folder into the same `Raw`."""

from collections.abc import Callable
from pathlib import Path

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Raw
from pipeline.catalog.sources import amazon, movielens, pixelrec, tables
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest

SOURCES: dict[str, Callable[[Path, Ingest, Quarantine], Raw]] = {
    "tables": tables.read,
    "movielens": movielens.read,
    "amazon": amazon.read,
    "pixelrec": pixelrec.read,
}


def read(params: Ingest, quarantine: Quarantine) -> Raw:
    """The raw data that the params name. Raises MolarError if the folder, a file or a column is missing."""
    root = Path(params.path)
    if not root.is_dir():
        raise MolarError(
            f"ingest.path = '{root}' is no folder: put the raw data there or correct the path in params.yaml"
        )
    return SOURCES[params.source](root, params, quarantine)
