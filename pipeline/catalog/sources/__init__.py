"""One file per raw source; each reads a folder into the same `Raw`. Another one is its file and its line in SOURCES."""

from pathlib import Path
from typing import Protocol

from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Raw
from pipeline.catalog.sources import amazon, movielens, pixelrec, recbole, tables
from pipeline.errors import MolarError
from pipeline.params.ingest import Ingest
from pipeline.progress import say


class Source(Protocol):
    """What each module here offers."""

    NEEDS: str  # the files that make a folder its own, in words

    def recognises(self, root: Path) -> str | None:
        """What the folder holds, in words, told by file names and headers alone; None if it is not this source's."""

    def read(self, root: Path, params: Ingest, quarantine: Quarantine) -> Raw:
        """The whole folder. Raises MolarError if a file or a column is missing."""


SOURCES: dict[str, Source] = {  # by the names that ingest.source takes
    "tables": tables,
    "movielens": movielens,
    "recbole": recbole,
    "amazon": amazon,
    "pixelrec": pixelrec,
}


def read(params: Ingest, quarantine: Quarantine) -> Raw:
    """The raw data that the params name. Raises MolarError if the folder, a file or a column is missing."""
    root = Path(params.path)
    if not root.is_dir():
        raise MolarError(
            f"ingest.path = '{root}' is no folder: put the raw data there or correct the path in params.yaml"
        )
    return SOURCES[name_of(params)].read(root, params, quarantine)


def name_of(params: Ingest) -> str:
    """The source that the params name; with `auto`, the one that recognises the folder.

    Raises MolarError if none does, or more than one.
    """
    root = Path(params.path)
    if params.source != "auto":
        return params.source
    found = {name: words for name, source in SOURCES.items() if (words := source.recognises(root)) is not None}
    if not found:
        needs = "; ".join(f"'{name}' {source.NEEDS}" for name, source in SOURCES.items())
        raise MolarError(
            f"{root} holds nothing that ingest.source = 'auto' recognises: add what a source needs: {needs}"
        )
    if len(found) > 1:
        claims = "; ".join(f"'{name}' sees {words}" for name, words in found.items())
        raise MolarError(f"{root} is more than one source's: {claims}: name the one you mean in ingest.source")
    [(name, words)] = found.items()
    say(f"{root} holds {words}: source '{name}'")
    return name
