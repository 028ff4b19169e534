"""`molar download`: public data sets and pictures, from their publishers into data/raw/.

    molar download                                        which data sets there are, and their licences in a line
    molar download movielens-100k                         -> data/raw/ml-100k, its MD5 compared with GroupLens' own
    molar download amazon-2023 --category All_Beauty      -> data/raw/amazon-2023-All_Beauty
    molar download pixelrec                               where it lies and how to get it: Google Drive wants a person
    molar download images --limit 100                     the pictures of ingest.path, by the urls its files name

Killed, cut off or offline: the same command goes on where it stopped.
"""

from typing import Annotated

import typer

from stages.command import command, running
from stages.paths import RAW


@command
def main(
    name: Annotated[
        str, typer.Argument(help="A data set (none: list them), or `images`: the pictures of the one ingest reads.")
    ] = "",
    category: Annotated[str | None, typer.Option(help="Of amazon-2023, such as All_Beauty.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Of images: how many at a time (default: 8).")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Of images: how many at most (default: all).")] = None,
) -> None:
    """Download a public data set into data/raw/, or the pictures of the one that ingest reads."""
    from pipeline.catalog import download
    from pipeline.errors import MolarError
    from pipeline.progress import say

    if name != "images" and (workers or limit):
        raise MolarError("--workers and --limit go with `molar download images` alone: leave them out")
    if category and name in ("", "images", "pixelrec"):
        raise MolarError("--category goes with amazon-2023 alone: leave it out")
    if not name:
        for line in download.listing():
            print(line)
    elif name == "pixelrec":
        print(download.PIXELREC, end="")
    elif name == "images":
        _images(workers or 8, limit)
    else:
        data = download.published(name, category)
        with running("download") as run:
            target = download.download(data, RAW)
            run.done(name, target)
        say(f"next: dvc add {target}, and ingest.path in params.yaml: `molar preset` lists whole settings")


def _images(workers: int, limit: int | None) -> None:
    from pathlib import Path

    from pipeline.catalog.download_images import download_images, picture_urls, show
    from pipeline.params import load_params

    params = load_params().ingest
    root = Path(params.path)
    with running("download") as run:
        report = download_images(picture_urls(params), root, workers=workers, limit=limit)
        show(report, root / "images")
        run.done(f"{report.fetched:,} pictures", root / "images")


if __name__ == "__main__":
    typer.run(main)
