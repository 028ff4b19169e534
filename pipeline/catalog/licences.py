"""What is known of the conditions under which a run's data may be used: our reading, or "unknown"."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from pipeline.catalog import download
from pipeline.catalog.published import PUBLISHED
from pipeline.params.ingest import Ingest

PIXELREC = "Westlake: cite PixelRec; its page forbids altered copies and second downloads, so pass nothing on"
UNKNOWN = "unknown: params.yaml does not say whose data these are. Ask who collected them before anything is passed on"


@dataclass(frozen=True)
class Licence:
    """The data's name and conditions in words; `ours` where this project drew them and its own licence covers them."""

    data: str
    words: str
    ours: bool = False


def of_data(ingest: Ingest) -> Licence:
    """Of what `ingest` reads: by `ingest.published`, else by the folder that `molar download` gives a data set."""
    folder = PurePath(ingest.path).name
    if ingest.source in ("tables", "auto") and PurePath(ingest.path) == PurePath("data/raw/demo"):
        words = "drawn by this project's own program (`molar demo`): Apache-2.0, as the code"
        return Licence("the demo world", words, ours=True)
    title = PUBLISHED[ingest.published].title if ingest.published else folder
    name = ingest.published or folder
    for data in download.MOVIELENS.values():
        if data.folder == name:
            return Licence(title, data.licence)
    if name.startswith("pixelrec"):
        return Licence(title, PIXELREC)
    if name.startswith("amazon-2023"):
        return Licence(title, download.UNSTATED)
    return Licence(title, UNKNOWN)
