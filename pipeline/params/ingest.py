"""Section `ingest`: which raw data, which filters, what is held out. Filters act in the order of the fields."""

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
    image: str | None  # a file name inside images/ (or images.zip, images.tar), a path, or the bytes (Parquet)
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
    since: int | None  # keep since <= timestamp < before, in the data's own unit of time
    before: int | None
    min_rating: float | None  # keep interactions rated at least this
    duplicates: Literal["all", "first", "last"]  # what to keep when a user meets an item again
    # Items held out of training altogether: those in the raw folder's cold_items.txt, or a share drawn by hash
    cold_items: Literal["none", "listed", "drawn"]
    cold_share: float = Field(gt=0, lt=1)  # of `drawn`
    cold_seed: int = Field(ge=0)
    # Keep each user's most recent ones, cold items aside. What a user model reads of them is protocol.max_history.
    max_history: int | None = Field(ge=1)
    k_core: int = Field(ge=1)  # iterative, users and items; 1: no filter
    split: Literal["leave_one_out", "global_time"]
    valid_share: float = Field(gt=0, lt=1)  # of `global_time`: at most this share of the kept interactions
    test_share: float = Field(gt=0, lt=1)
    keep_unseen_items: bool  # keep catalogue items without any interaction, as cold items
    image_size: int = Field(ge=28, le=4096)  # longest side after re-encoding, pixels
    max_image_pixels: int = Field(ge=28 * 28)  # larger pictures are quarantined before decoding
    max_quarantine: float = Field(ge=0, le=1)  # share of rows (or pictures) above which ingest stops
