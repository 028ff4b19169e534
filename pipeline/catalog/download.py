"""Public data sets, from their publishers to `data/raw/<folder>`: complete or absent, and never vouched for by us.

    movielens-100k, -1m, -25m, -32m, -latest-small   GroupLens' zip, its MD5 file checked, unpacked
    amazon-2023 (by category)                        reviews and meta, .jsonl.gz as published; no checksum exists
    pixelrec                                         on Google Drive, which wants a person: `PIXELREC` says how

Work in progress is in `data/raw/.<folder>.partial/`; a killed download goes on from there. A checksum comes from the
publisher at the moment of the download, none is kept here; where there is none, that is said.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from pipeline.catalog.transfer import fetch, read, writing
from pipeline.catalog.unpack import unpack
from pipeline.catalog.web import RefusedError
from pipeline.errors import MolarError
from pipeline.progress import say

GROUPLENS = "https://files.grouplens.org/datasets/movielens"
AMAZON = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw"
MD5_FILE_BYTES = 4096  # the published ones have less than a hundred

PRIVATE = "GroupLens: research use, cite Harper & Konstan 2015, no passing on without permission, nothing commercial"
SHARED = "GroupLens: research use, cite Harper & Konstan 2015, passing on under the same conditions, nothing commercial"
UNSTATED = "McAuley lab: cite Hou et al. 2024 (arXiv 2403.03952); the page states no licence, so pass nothing on"

PIXELREC = """\
PixelRec lies on Google Drive, which hands large files to people only. By hand, for its 50K edition:

  1. open https://drive.google.com/drive/folders/1bQPgM-6yAnzcD0jKBoUUheA9LL5xnCHG
     (linked from https://github.com/westlake-repl/PixelRec, which has the larger editions too)
  2. download interaction.csv, item_info.csv and cover.7z into data/raw/pixelrec/
  3. 7z x cover.7z -odata/raw/pixelrec      (p7zip; gives data/raw/pixelrec/cover/<item id>.jpg), then remove cover.7z

Expect 989,494 interactions of 50,000 users with 82,865 items. Its page forbids offering altered copies for download.
"""

# fmt: off
CATEGORIES = (
    "All_Beauty", "Amazon_Fashion", "Appliances", "Arts_Crafts_and_Sewing", "Automotive", "Baby_Products",
    "Beauty_and_Personal_Care", "Books", "CDs_and_Vinyl", "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry",
    "Digital_Music", "Electronics", "Gift_Cards", "Grocery_and_Gourmet_Food", "Handmade_Products",
    "Health_and_Household", "Health_and_Personal_Care", "Home_and_Kitchen", "Industrial_and_Scientific",
    "Kindle_Store", "Magazine_Subscriptions", "Movies_and_TV", "Musical_Instruments", "Office_Products",
    "Patio_Lawn_and_Garden", "Pet_Supplies", "Software", "Sports_and_Outdoors", "Subscription_Boxes",
    "Tools_and_Home_Improvement", "Toys_and_Games", "Video_Games", "Unknown",
)
# fmt: on


@dataclass(frozen=True)
class Published:
    """What a publisher offers."""

    folder: str  # under data/raw
    urls: tuple[str, ...]  # one zip archive, or the files themselves
    checksums: bool  # <url>.md5 holds an MD5
    licence: str


MOVIELENS = {
    f"movielens-{edition}": Published(f"ml-{edition}", (f"{GROUPLENS}/ml-{edition}.zip",), True, licence)
    for edition, licence in {
        "100k": PRIVATE,
        "1m": PRIVATE,
        "25m": PRIVATE,
        "32m": SHARED,
        "latest-small": SHARED,
    }.items()
}
NAMES = (*MOVIELENS, "amazon-2023", "pixelrec", "images")


def published(name: str, category: str | None) -> Published:
    """The data set of that name (and, of amazon-2023, category). Raises MolarError if there is none."""
    if name in MOVIELENS:
        if category:
            raise MolarError(f"--category goes with amazon-2023: {name} has no categories, leave it out")
        return MOVIELENS[name]
    if name != "amazon-2023":
        raise MolarError(f"no data set {name!r} to download (there are: {', '.join(NAMES)})")
    if category not in CATEGORIES:
        said = f"--category {category} is none of them" if category else "it needs --category"
        raise MolarError(f"amazon-2023 comes by category, {said}: {', '.join(CATEGORIES)}")
    urls = f"{AMAZON}/review_categories/{category}.jsonl.gz", f"{AMAZON}/meta_categories/meta_{category}.jsonl.gz"
    return Published(f"amazon-2023-{category}", urls, False, UNSTATED)


def listing() -> list[str]:
    """One line for each name that can be downloaded."""
    lines = [f"{name:<24}data/raw/{data.folder:<24}{data.licence}" for name, data in MOVIELENS.items()]
    return [
        *lines,
        f"{'amazon-2023':<24}data/raw/{'amazon-2023-<category>':<24}{UNSTATED}",
        f"{'pixelrec':<24}says where it lies and how to get it",
        f"{'images':<24}the pictures of the data set that ingest reads, by the urls that its files name",
    ]


def download(data: Published, raw: Path) -> Path:
    """The folder `raw/<data.folder>`, fetched, checked and unpacked unless it is there already.

    Raises MolarError: offline, refused, a wrong checksum (the file is removed), an unsafe archive, a full disk.
    """
    target = raw / data.folder
    if target.exists():
        say(f"{target} is there already: remove or rename it to download it again")
        return target
    say(data.licence)
    work = raw / f".{data.folder}.partial"
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
        files = [_checked(url, work, data.checksums) for url in data.urls]
        if files[0].suffix == ".zip":
            unpack(files[0], work / data.folder)
            (work / data.folder).rename(target)
            shutil.rmtree(work)
        else:
            work.rename(target)
    return target


def _checked(url: str, folder: Path, checksums: bool) -> Path:
    """The file of `url` in `folder`, unless it is there, fetched; its checksum compared either way."""
    file = folder / url.rpartition("/")[2]
    expected = _published_md5(url) if checksums else None
    if not file.exists():
        fetch(url, file)
    _verify(file, expected)
    return file


def _published_md5(url: str) -> str | None:
    """The MD5 in hexadecimal that the publisher states beside the file; None where he does not."""
    try:
        text = read(f"{url}.md5", MD5_FILE_BYTES).decode("utf-8", "replace")
    except RefusedError as error:
        say(f"{url}.md5: {error}")
        return None
    found = re.findall(r"\b[0-9a-f]{32}\b", text.lower())  # `MD5 (ml-1m.zip) = c4d9...` or `d472...  ml-32m.zip`
    return found[0] if len(found) == 1 else None


def _verify(file: Path, expected: str | None) -> None:
    """Compare with the published MD5, if there is one, and say which. Raises MolarError and removes what differs."""
    if expected is None:
        say(f"{file.name}: not verified, the publisher gives no checksum")
        return
    with file.open("rb") as handle:
        found = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != expected:
        file.unlink()
        raise MolarError(
            f"{file.name} has the MD5 {found}, its publisher states {expected}: it was removed, download it again"
        )
    say(f"{file.name}: MD5 as its publisher states")
