"""Source `amazon`: every published layout gives one catalogue, and every mistake one line."""

import gzip
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.catalog import sources
from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Raw
from pipeline.catalog.sources import amazon
from pipeline.progress import console
from tests.catalog.amazon_shelf import (
    META_2014,
    META_2018,
    META_2023,
    RATINGS_2014,
    RATINGS_2018,
    RATINGS_2023,
    REVIEWS_2014,
    REVIEWS_2023,
    STORY,
    hugging_face,
    json_lines,
    literals,
    old_review,
    write,
)
from tests.catalog.shop import ingest, ingest_params, refusal

LAYOUTS = {
    "2014 reviews": {"reviews_Shoes_5.json.gz": REVIEWS_2014, "meta_Shoes.json.gz": literals(META_2014)},
    "2014 loose reviews": {
        "reviews_Shoes.json": literals([old_review(*event) for event in STORY]),
        "meta_Shoes.json": literals(META_2014),
    },
    "2014 ratings": {"ratings_Shoes.csv": RATINGS_2014, "meta_Shoes.json.gz": literals(META_2014)},
    "2018 reviews": {"Shoes_5.json.gz": REVIEWS_2014, "meta_Shoes.json.gz": json_lines(META_2018)},
    "2018 ratings": {"Shoes.csv": RATINGS_2018, "meta_Shoes.json": json_lines(META_2018)},
    "2018 ratings, gzipped": {"Shoes.csv.gz": RATINGS_2018, "meta_Shoes.json": json_lines(META_2018)},
    "2023 reviews": {"Shoes.jsonl.gz": REVIEWS_2023, "meta_Shoes.jsonl.gz": json_lines(META_2023)},
    "2023 ratings": {"Shoes.csv": RATINGS_2023, "meta_Shoes.jsonl": json_lines(META_2023)},
    "2023 ratings, gzipped": {"Shoes.train.csv.gz": RATINGS_2023, "meta_Shoes.jsonl": json_lines(META_2023)},
    "2023 Hugging Face": {
        "Shoes.jsonl": REVIEWS_2023,
        "meta_Shoes.jsonl": json_lines([hugging_face(record) for record in META_2023]),
    },
}


def read(root, **changes: object) -> tuple[Raw, Quarantine]:
    quarantine = Quarantine()
    return sources.read(ingest_params(root, source="amazon", **changes), quarantine), quarantine


def message(root, **changes: object) -> str:
    return refusal(lambda: read(root, **changes))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_tells_the_same_story(layout, tmp_path) -> None:
    raw, quarantine = read(write(tmp_path / "raw", LAYOUTS[layout]))
    events = raw.interactions
    told = [
        (events.user_ids[u], events.item_ids[i], t, r)
        for u, i, t, r in zip(events.user, events.item, events.timestamp, events.rating, strict=True)
    ]
    unit = (lambda time: 1000 * time + 7) if layout.startswith("2023") else int
    assert told == [(user, item, unit(time), stars) for user, item, time, stars in STORY]
    kinds = [array.dtype for array in (events.user, events.item, events.timestamp, events.rating)]
    assert kinds == [np.int32, np.int32, np.int64, np.float64] and events.row.dtype in (np.int32, np.int64)
    first = 2 if "2023 ratings" in layout else 1  # a header is row 1
    assert events.row.tolist() == list(range(first, first + 6))
    assert quarantine.entries == []
    described = ["B000000001", "B000000002"] + ["B000000003"] * layout.startswith("2014")
    assert [item.item_id for item in raw.items] == described, "items that nobody reviewed stay out"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_says_what_it_recognised(layout, tmp_path) -> None:
    root = write(tmp_path / "raw", LAYOUTS[layout])
    events, metadata = LAYOUTS[layout]
    order = {"2014 ratings": " (user, item, rating, timestamp)"}.get(layout, "")
    order = " (item, user, rating, timestamp)" if layout.startswith("2018 ratings") else order
    expected = f"Amazon reviews of {layout[:4]}: {events}{order}, {metadata}"
    assert amazon.recognises(root) == expected
    with console.capture() as capture:
        read(root)
    assert capture.get() == f"recognised {expected}\n"


def test_a_folder_of_something_else_is_not_recognised(tmp_path) -> None:
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\n")
    (tmp_path / "items.csv").write_text("id,title\n")
    assert amazon.recognises(tmp_path) is None


def test_items_of_2014(tmp_path) -> None:
    scarf, nameless, described = read(write(tmp_path / "raw", LAYOUTS["2014 reviews"]))[0].items
    assert (scarf.title, scarf.text, scarf.row) == ('Scarf "Rouge"', "A red scarf & a pin. It's warm.", 1)
    assert scarf.attributes == {"brand": "Alba", "category": "Women, Accessories, Scarves", "price": "23.26"}
    assert scarf.image == "images/B000000001.jpg", "a picture named by the id comes before one named by the url"
    assert (nameless.title, nameless.text, nameless.image) == (None, None, None)
    assert nameless.attributes == {"category": "Clothing, Men"}
    assert (described.title, described.text, described.attributes) == (None, "Only a description", {})


def test_items_of_2018(tmp_path) -> None:
    scarf, book = read(write(tmp_path / "raw", LAYOUTS["2018 reviews"]))[0].items
    assert (scarf.title, scarf.text) == ("Scarf Rouge", "A red scarf. Warm.")
    assert scarf.attributes == {
        "brand": "Alba",
        "main category": "AMAZON FASHION",
        "category": "Women, Accessories, Scarves",
        "price": "$162.25",
        "features": "Wool; Hand wash & dry",
    }
    assert (book.title, book.text) == (None, None), "a timing script is no title"
    assert book.attributes == {"main category": "Books"}, "a style sheet is no price"
    assert book.image == "images/51b._SS40_.jpg", "named as at the end of its url"


@pytest.mark.parametrize("layout", ["2023 reviews", "2023 Hugging Face"])
def test_items_of_2023(layout, tmp_path) -> None:
    scarf, book = read(write(tmp_path / "raw", LAYOUTS[layout]))[0].items
    assert (scarf.title, scarf.text) == ("Scarf Rouge", "A red scarf. Warm.")
    assert list(scarf.attributes.items()) == [
        ("brand", "Alba"),
        ("main category", "AMAZON FASHION"),
        ("category", "Women, Accessories, Scarves"),
        ("price", "16.99"),
        ("material", "Wool"),
        ("colour", "Red"),
        ("features", "Wool; Hand wash"),
    ]
    assert book.attributes == {"author": "Ada Writer", "main category": "Books"}, "the price None is nothing"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_that_was_counted_later_reaches_the_model(layout, tmp_path) -> None:
    for item in read(write(tmp_path / "raw", LAYOUTS[layout]))[0].items:
        words = " ".join([item.title or "", item.text or "", *item.attributes, *item.attributes.values()]).lower()
        assert not any(leak in words for leak in ("rank", "455782", "866,012", "4.8", "4.5", "stars", "b00000000"))


def test_urls_of_pictures(tmp_path) -> None:
    urls = {
        "2014 ratings": [
            ("B000000001", "http://ecx.images-amazon.com/images/I/7113akhDnTL.jpg"),
            ("B000000002", "http://x/no_such.jpg"),
        ],
        "2018 reviews": [("B000000001", "https://m/I/41a.jpg"), ("B000000002", "https://m/I/51b._SS40_.jpg")],
        "2023 reviews": [("B000000001", "https://m/I/l1.jpg")],
        "2023 Hugging Face": [("B000000001", "https://m/I/l1.jpg")],
    }
    for layout, expected in urls.items():
        assert list(amazon.picture_urls(write(tmp_path / layout, LAYOUTS[layout]))) == expected, layout


def test_the_catalogue_of_2023_in_numbers(tmp_path) -> None:
    """Hand-counted; p3 has no metadata, so its two reviews go to quarantine."""
    root = write(tmp_path / "raw", LAYOUTS["2023 reviews"])
    artifact = ingest(ingest_params(root, source="amazon", max_quarantine=0.4), tmp_path / "catalog")
    summary = json.loads(artifact.file("summary.json").read_text())
    assert summary["rows_read"] == {"Shoes.jsonl.gz": 6, "meta_Shoes.jsonl.gz": 3}
    assert summary["steps"] == [
        {"step": "rows read", "interactions": 6, "users": 0, "items": 0},
        {"step": "readable", "interactions": 4, "users": 2, "items": 2},
    ]
    assert summary["items"] == {
        "all": 2,
        "warm": 2,
        "cold": 0,
        "with_title": 2,
        "with_text": 1,
        "with_caption": 0,
        "with_summary": 0,
        "with_attributes": 2,
        "with_image": 1,
    }
    assert summary["interactions_with_image"] == 0.5
    assert [summary["split"][part] for part in ("users", "training", "validation", "test")] == [2, 4, 0, 0]
    items = pq.read_table(tmp_path / "catalog" / "items" / "part-00000.parquet").to_pylist()
    assert [row["item_id"] for row in items] == ["B000000001", "B000000002"]
    assert [row["image"] is None for row in items] == [False, True]
    assert items[1]["attributes"] == [
        {"key": "author", "value": "Ada Writer"},
        {"key": "main category", "value": "Books"},
    ]
    sequences = pq.read_table(tmp_path / "catalog" / "sequences.parquet").to_pylist()
    assert [(row["user_id"], row["items"], row["timestamps"]) for row in sequences] == [
        ("ANN1", [0, 1], [100_007, 200_007]),
        ("BOB2", [1, 0], [110_007, 210_007]),
    ]
    quarantined = pq.read_table(tmp_path / "catalog" / "quarantine.parquet").to_pylist()
    assert [(row["source"], row["row"], row["reason"]) for row in quarantined] == [
        ("Shoes.jsonl.gz", 4, "item is not in meta_Shoes.jsonl.gz"),
        ("Shoes.jsonl.gz", 6, "item is not in meta_Shoes.jsonl.gz"),
    ]


def test_unseen_items_are_kept_where_the_params_ask_for_them(tmp_path) -> None:
    root = write(tmp_path / "raw", LAYOUTS["2023 reviews"])
    for changes in ({"keep_unseen_items": True}, {"cold_items": "listed"}):
        assert [item.title for item in read(root, **changes)[0].items] == ["Scarf Rouge", "A Book", "Clock"]


def test_bad_lines_carry_their_number_and_reason(tmp_path) -> None:
    good = REVIEWS_2023.splitlines()[0]
    reviews = [
        "\ufeff" + good,  # a byte order mark is nothing
        "",
        '{"user_id": "U", "parent_asin": "B000000001", "rating": 5.0',
        '["a list"]',
        good.replace('"ANN1"', '""'),
        good.replace('"B000000001"', "null"),
        good.replace("100007", "100007.5"),
        good.replace("100007", "true"),
        good.replace("100007", "1" + "0" * 18),
        good.replace("5.0", "NaN"),
        good.replace("5.0", '"five"'),
        good.replace('"ANN1"', '"\\ud800"'),
        good.replace("100007", "1e5"),  # a whole number all the same
    ]
    metadata = json_lines(META_2023) + json_lines([META_2023[0] | {"title": "Again"}, {"title": "No \ud800 id"}])
    root = write(tmp_path / "raw", {"Shoes.jsonl": "\n".join(reviews).encode(), "meta_Shoes.jsonl.gz": metadata})
    raw, quarantine = read(root)
    assert raw.interactions.row.tolist() == [1, 13]
    assert raw.interactions.timestamp.tolist() == [100_007, 100_000]
    assert [entry[1:] for entry in quarantine.entries if entry[0] == "Shoes.jsonl"] == [
        (3, "line is no record (neither JSON nor a literal)", reviews[2]),
        (4, "line is no record (neither JSON nor a literal)", '["a list"]'),
        (5, "user is empty", ""),
        (6, "item is empty", None),
        (7, "timestamp is not a whole number", "100007.5"),
        (8, "timestamp is not a whole number", "True"),
        (9, "timestamp is not a whole number", "1000000000000000000"),
        (10, "rating is not a number", "nan"),
        (11, "rating is not a number", "five"),
        (12, "user is empty", "?"),
    ]
    assert [entry for entry in quarantine.entries if entry[0] != "Shoes.jsonl"] == [
        ("meta_Shoes.jsonl.gz", 4, "item id stands in an earlier row too", "B000000001"),
        ("meta_Shoes.jsonl.gz", 5, "item id is empty", "No ? id"),
    ]
    assert raw.rows_read == {"Shoes.jsonl": 12, "meta_Shoes.jsonl.gz": 5}
    assert raw.items[0].title == "Scarf Rouge", "the first of two rows counts"
    assert quarantine.table().num_rows == 12, "every value can be written"


MISTAKES = {
    "no metadata": (
        {"Shoes.jsonl.gz": REVIEWS_2023},
        "lacks metadata: source 'amazon' needs meta_<Category>.jsonl.gz of 2023, or the like of 2014 or 2018",
    ),
    "no reviews": (
        {"meta_Shoes.jsonl.gz": json_lines(META_2023)},
        "lacks reviews: source 'amazon' needs <Category>.jsonl.gz of 2023, or the like of 2014 or 2018",
    ),
    "two of reviews": (
        {"Shoes.jsonl": REVIEWS_2023, "Shoes.jsonl.gz": REVIEWS_2023, "meta_Shoes.jsonl": json_lines(META_2023)},
        "holds more than one file of reviews or ratings (Shoes.jsonl, Shoes.jsonl.gz): keep one",
    ),
    "two of metadata": (
        {"Shoes.jsonl": REVIEWS_2023, "meta_Hats.jsonl": "", "meta_Shoes.jsonl": json_lines(META_2023)},
        "holds more than one file of metadata (meta_Hats.jsonl, meta_Shoes.jsonl): keep one",
    ),
    "splits": (
        {"S.test.csv": "", "S.train.csv": RATINGS_2023, "meta_S.jsonl": json_lines(META_2023)},
        "holds more than one file of reviews or ratings (S.test.csv, S.train.csv): "
        "join them, or take the rating_only file instead",
    ),
    "mixed editions": (
        {"reviews_Shoes.json": REVIEWS_2014, "meta_Shoes.json": json_lines(META_2018)},
        "mixes editions: reviews_Shoes.json is of 2014, meta_Shoes.json of 2018: "
        "take both from one edition, under their published names",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_ambiguity_is_refused_in_one_line(mistake, tmp_path) -> None:
    files, words = MISTAKES[mistake]
    root = write(tmp_path / "raw", files)
    assert message(root) == f"{root} {words}"


def test_users_where_items_should_be(tmp_path) -> None:
    root = write(tmp_path / "raw", {"Shoes.csv": RATINGS_2014, "meta_Shoes.json": json_lines(META_2018)})
    assert message(root) == (
        f"{root}/Shoes.csv has its items where item, user, rating, timestamp has users: 2014 puts users first and is "
        f"named ratings_<Category>.csv, 2018 puts items first and is named <Category>.csv"
    )


def test_files_of_something_else(tmp_path) -> None:
    root = write(tmp_path / "raw", {"Shoes.json": '{"text": "hello"}\n', "meta_Shoes.json": json_lines(META_2018)})
    assert message(root) == (
        f"{root}/Shoes.json holds no Amazon review in its first 20 lines: reviewerID, asin, unixReviewTime, overall "
        f"(2014, 2018) or user_id, parent_asin, timestamp, rating (2023) must be among the keys"
    )
    (root / "Shoes.json").write_text(REVIEWS_2014)
    (root / "meta_Shoes.json").write_text('{"asin": "B000000001", "title": "Scarf"}\n')
    assert message(root) == (
        f"{root}/meta_Shoes.json is no metadata of 2014, 2018 or 2023: the keys of its first 20 lines tell nothing"
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("Shoes.jsonl.gz", REVIEWS_2023 * 2000, " breaks off or is damaged after line "),
        ("Shoes.csv.gz", RATINGS_2023, " breaks off or is damaged"),
    ],
)
def test_a_download_that_broke_off(name, content, words, tmp_path) -> None:
    root = write(tmp_path / "raw", {"meta_Shoes.jsonl": json_lines(META_2023)})
    (root / name).write_bytes(gzip.compress(content.encode())[:-12])
    assert message(root).startswith(f"{root}/{name}{words}")
    assert message(root).endswith(": download it again")


def test_a_gzipped_name_that_a_browser_unpacked(tmp_path) -> None:
    root = write(tmp_path / "raw", {"meta_Shoes.jsonl": json_lines(META_2023)})
    (root / "Shoes.jsonl.gz").write_text(REVIEWS_2023)
    assert len(read(root)[0].interactions) == 6
