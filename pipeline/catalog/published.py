"""What publishers say of their data sets, beside what was read: a wrong or half download shows before training does.

Like is compared with like. Counts of a publisher's files stand beside the rows of the files read, before any filter
of ours. Counts that a paper gives after filters of its own stand beside what our filters left, and prove nothing: no
warning comes of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pipeline.catalog.catalogue import Sequences
from pipeline.catalog.raw import Raw

FAR = 0.05  # a difference that no rounding and no later edition of a page explains


@dataclass(frozen=True)
class Published:
    """The counts of one data set and who gives them."""

    title: str
    source: str
    interactions: int
    users: int
    items: int
    items_are: Literal["listed", "chosen"]  # rows of the item table | distinct ones among the interactions
    filtered: bool = False  # the counts follow filters of the source's own


PUBLISHED = {  # by the names that ingest.published takes
    # README: "100,000 ratings (1-5) from 943 users on 1682 movies"
    "ml-100k": Published("MovieLens 100K", "README", 100_000, 943, 1_682, "chosen"),
    # README: "1,000,209 anonymous ratings of approximately 3,900 movies made by 6,040 MovieLens users"; the 3,706 that
    # somebody rated are from Table 1 of the Molar paper, whose other two counts are the README's
    "ml-1m": Published("MovieLens 1M", "README; items: Molar's Table 1", 1_000_209, 6_040, 3_706, "chosen"),
    # README: "10000054 ratings and 95580 tags applied to 10681 movies by 71567 users"; 69,878 of them rated
    "ml-10m": Published("MovieLens 10M", "README", 10_000_054, 71_567, 10_681, "listed"),
    # README: "20000263 ratings and 465564 tag applications across 27278 movies ... created by 138493 users"
    "ml-20m": Published("MovieLens 20M", "README", 20_000_263, 138_493, 27_278, "listed"),
    # README: "25000095 ratings and 1093360 tag applications across 62423 movies ... created by 162541 users"
    "ml-25m": Published("MovieLens 25M", "README", 25_000_095, 162_541, 62_423, "listed"),
    # README: "32000204 ratings and 2000072 tag applications across 87585 movies ... created by 200948 users"
    "ml-32m": Published("MovieLens 32M", "README", 32_000_204, 200_948, 87_585, "listed"),
    # README: "100836 ratings and 3683 tag applications across 9742 movies ... created by 610 users"; it may be renewed
    "ml-latest-small": Published("MovieLens latest-small", "README of September 2018", 100_836, 610, 9_742, "listed"),
    # https://github.com/westlake-repl/PixelRec: "989,494 interactions from 50,000 users with 82,865 items"; Table 1 of
    # the Molar paper has 82,864 items and 989,476 interactions, from before an item was added
    "pixelrec-50k": Published("PixelRec 50K", "its page", 989_494, 50_000, 82_865, "chosen"),
    # Table 1 of HLLM (arXiv 2409.12740), for this and the next two
    "pixelrec-200k": Published("PixelRec 200K", "Table 1 of HLLM", 3_965_656, 200_000, 96_282, "chosen"),
    "pixelrec-1m": Published("PixelRec 1M", "Table 1 of HLLM", 19_886_579, 1_001_822, 100_541, "chosen"),
    "pixelrec-8m": Published("PixelRec 8M", "Table 1 of HLLM", 158_488_652, 8_886_078, 407_082, "chosen"),
    # https://amazon-reviews-2023.github.io: 2.8M users, 137.2K items (counted from reviews), 4.6M ratings
    "amazon-2023-Video_Games": Published(
        "Amazon Reviews 2023, Video_Games", "its page, rounded", 4_600_000, 2_800_000, 137_200, "chosen"
    ),
    # Table 1 of the Molar paper, "Amazon cloth"; which edition and which filters it does not say
    "molar-amazon": Published("Molar's Amazon", "Table 1 of the paper", 8_813_442, 993_087, 301_312, "chosen", True),
}


def compared(name: str, raw: Raw, sequences: Sequences) -> dict[str, Any]:
    """The published counts of a data set beside ours, JSON-ready; `far` names those that differ by more than FAR."""
    known = PUBLISHED[name]
    if known.filtered:
        ours = {"interactions": len(sequences.items), "users": len(sequences), "items": sequences.num_warm}
    else:
        listed = raw.rows_read.get(raw.items_file, len(raw.items))
        ours = {
            "interactions": raw.rows_read[raw.interactions_file],
            "users": len(raw.interactions.user_ids),
            "items": listed if known.items_are == "listed" else len(raw.interactions.item_ids),
        }
    theirs = {key: getattr(known, key) for key in ("interactions", "users", "items")}
    far = [key for key in ours if abs(ours[key] - theirs[key]) > FAR * theirs[key]]
    return {
        "data_set": known.title,
        "source": known.source,
        "published": theirs,
        "after_filters" if known.filtered else "read": ours,
        "far": [] if known.filtered else far,
    }
