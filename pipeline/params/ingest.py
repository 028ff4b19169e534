"""Section `ingest`: which raw data, which filters."""

from typing import Literal

from pydantic import Field

from pipeline.params.section import Section


class TablesColumns(Section):
    """Column names of the source `tables`; None: the table has no such column."""

    user: str
    item: str
    timestamp: str
    rating: str | None
    id: str
    title: str
    text: str | None
    caption: str | None  # what the picture shows: a fine-tuning target, never an input
    summary: str | None  # what the text says in plain words: a fine-tuning target, never an input
    image: str | None  # a file name inside images/, or a path
    attributes: list[str]  # empty: every other column of items.csv


class Ingest(Section):
    source: Literal[
        "auto", "tables", "movielens", "recbole", "amazon", "pixelrec"
    ]  # auto: whichever recognises the folder
    path: str  # the raw folder; also the stage's dependency in dvc.yaml
    columns: TablesColumns  # source `tables` only
    published: (
        Literal[
            "ml-100k",
            "ml-1m",
            "ml-10m",
            "ml-20m",
            "ml-25m",
            "ml-32m",
            "ml-latest-small",
            "pixelrec-50k",
            "pixelrec-200k",
            "pixelrec-1m",
            "pixelrec-8m",
            "amazon-2023-Video_Games",
            "molar-amazon",
        ]
        | None
    )  # a known data set, whose published counts the summary shows beside those read
    min_rating: float | None  # keep interactions rated at least this
    k_core: int = Field(ge=1)  # iterative, users and items; 1: no filter
    duplicates: Literal["all", "first", "last"]  # what to keep when a user meets an item again
    cold_items: Literal["none", "listed"]  # listed: items in the raw folder's cold_items.txt are held out
    keep_unseen_items: bool  # keep catalogue items without any interaction, as cold items
    image_size: int = Field(ge=28, le=4096)  # longest side after re-encoding, pixels
    max_image_pixels: int = Field(ge=28 * 28)  # larger pictures are quarantined before decoding
    max_quarantine: float = Field(ge=0, le=1)  # share of rows (or pictures) above which ingest stops
