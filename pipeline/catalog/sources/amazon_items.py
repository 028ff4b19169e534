"""What a line of Amazon's metadata says of an item, whichever edition wrote it (the keys tell them apart).

    title         title, without the scripts that 2018 put there now and then
    text          description
    attributes    brand, author, main category, category, price, then up to MOST_DETAILS details, then features
    picture url   images (MAIN first; hi_res, else large, else thumb), imageURLHighRes, imageURL or imUrl

Never read, because they were counted after the choices that a model is asked to foresee: average rating and rating
number, sales and best-seller ranks, and the lists of what else was bought or viewed.
"""

from __future__ import annotations

import json
import re
from itertools import zip_longest
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.catalog.raw import RawItem
from pipeline.catalog.sources.json_lines import Record
from pipeline.catalog.sources.plain import joined, plain, shortened

MOST_DETAILS = 8
MOST_FEATURES = 5
LONGEST_NAME = 40  # characters of a detail's name
LONGEST_VALUE = 200  # characters of an attribute
PATH_END = 3  # entries of the category path, from its end, where it is specific
SIZES = ("hi_res", "large", "thumb")

# Some prices of 2018 are style sheets, some of 2023 a dash.
PRICE = re.compile(r"(from )?\$?[0-9][0-9,]*(\.[0-9]+)?( - \$?[0-9][0-9,]*(\.[0-9]+)?)?", re.IGNORECASE)
COUNTED_LATER = re.compile(r"\branks?\b|\bcustomer (reviews?|ratings?)\b", re.IGNORECASE)
SCRIPT = "getTime()"  # in titles of 2018 that hold a page's timing script
ALT = re.compile(r'^\s*<img\b[^<>]*?\balt="([^"<>]*)"')  # main categories of 2018 that are a logo


def raw_item(record: Record, item_id: str, row: int, files: dict[str, str]) -> RawItem:
    """The item of a line. `files`: pictures by file name without suffix, see `pictures_beside`."""
    title = plain(record.get("title"))
    return RawItem(
        item_id=item_id,
        row=row,
        title=None if title is not None and SCRIPT in title else title,
        text=joined(record.get("description")),
        attributes=_attributes(record),
        image=_picture(item_id, picture_url(record), files),
    )


def picture_url(record: Record) -> str | None:
    """The url of the best picture that a line names, None if it names none."""
    images = [image for image in _images(record.get("images")) if isinstance(image, dict)]
    images.sort(key=lambda image: image.get("variant") != "MAIN")  # stable
    urls: list[object] = [image.get(size) for image in images for size in SIZES]
    for key in ("imageURLHighRes", "imageURL", "imUrl"):
        value = record.get(key)
        urls += value if isinstance(value, list) else [value]
    return next((url for url in urls if _is_url(url)), None)  # type: ignore[return-value]


def _images(value: object) -> list[Any]:
    """Raw files hold a list of objects, the Hugging Face form an object of lists."""
    if isinstance(value, dict):
        columns = {key: column for key, column in value.items() if isinstance(column, list)}
        return [dict(zip(columns, row, strict=True)) for row in zip_longest(*columns.values())]
    return value if isinstance(value, list) else []


def _is_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://")) and value.isprintable()


def _picture(item_id: str, url: str | None, files: dict[str, str]) -> str | None:
    """The file of an item, named by its id or else like its url."""
    if item_id in files or url is None:
        return files.get(item_id)
    try:
        name = PurePosixPath(urlsplit(url).path).stem
    except ValueError:  # a bracketed host that is no address
        return None
    return files.get(name) or files.get(unquote(name))


def _attributes(record: Record) -> dict[str, str]:
    """In the order in which they reach the prompt: what says most in few words comes first."""
    author = _mapping(record.get("author"))
    found = {
        "brand": plain(record.get("brand")) or plain(record.get("store")),
        "author": plain(author.get("name")) if author else None,
        "main category": plain(record.get("main_category")) or _main_category(record.get("main_cat")),
        "category": _category(record.get("categories") or record.get("category")),
        "price": _price(record.get("price")),
    }
    details = 0
    for key, value in _mapping(record.get("details")).items():
        name, words = plain(key), joined(value)
        if name is None or words is None or len(name) > LONGEST_NAME or COUNTED_LATER.search(name):
            continue
        if details == MOST_DETAILS:
            break
        if found.get(name.lower()) is None:
            found[name.lower()] = words
            details += 1
    features = joined(record.get("features") or record.get("feature"), "; ", MOST_FEATURES)
    found["features"] = features or found.get("features")
    short = {key: shortened(value, LONGEST_VALUE) for key, value in found.items()}
    return {key: value for key, value in short.items() if value}


def _mapping(value: object) -> dict[str, Any]:
    """An object, or the JSON string of one that the Hugging Face form holds."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def _main_category(value: object) -> str | None:
    logo = ALT.match(value) if isinstance(value, str) else None
    return plain(logo[1] if logo else value)


def _category(value: object) -> str | None:
    """The end of the category path; 2014 lists several paths, of which the first counts."""
    if not isinstance(value, list):
        return None
    path = value[0] if value and isinstance(value[0], list) else value
    return joined(path[-PATH_END:], ", ")


def _price(value: object) -> str | None:
    price = plain(value)
    return price if price and PRICE.fullmatch(price) else None
