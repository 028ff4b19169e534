"""One category of Amazon's reviews in each edition, by hand: the published layouts with their warts.

Every edition tells one story: ann reviews p1, p2, p3; bob p2, p1, p3; nobody reviews p4; p3 has no metadata of its own
but for 2014. Bad lines are added by the tests that count them.
"""

import gzip
import json
from pathlib import Path
from typing import Any

from tests.catalog.shop import png

# user, item, seconds, stars; file order is not the order of time
STORY = [
    ("ANN1", "B000000001", 100, 5.0),
    ("ANN1", "B000000002", 200, 3.0),
    ("BOB2", "B000000002", 110, 4.0),
    ("ANN1", "B000000003", 300, 1.0),
    ("BOB2", "B000000001", 210, 5.0),
    ("BOB2", "B000000003", 310, 2.0),
]

META_2014: list[dict[str, Any]] = [
    {
        "asin": "B000000001",
        "description": "A <b>red</b> scarf &amp; a pin.<br />It's warm.",
        "title": "Scarf &quot;Rouge&quot;",
        "price": 23.26,
        "imUrl": "http://ecx.images-amazon.com/images/I/7113akhDnTL.jpg",
        "related": {"also_bought": ["B000000002"], "buy_after_viewing": ["B000000003"]},
        "salesRank": {"Clothing": 455782},
        "categories": [["Clothing", "Women", "Accessories", "Scarves"], ["Gifts"]],
        "brand": "Alba",
    },
    {"asin": "B000000002", "title": "None", "categories": [["Clothing", "Men"]], "imUrl": "http://x/no_such.jpg"},
    {"asin": "B000000003", "description": "Only a description"},
    {"asin": "B000000004", "title": "Never reviewed", "salesRank": {}},
]

META_2018: list[dict[str, Any]] = [
    {
        "category": ["Clothing", "Women", "Accessories", "Scarves"],
        "tech1": "",
        "description": ["A <b>red</b> scarf.", "", "<p>Warm.</p><script>var a = 1 < 2;</script>"],
        "fit": "",
        "title": '<span id="productTitle" class="a-size-large">\n Scarf Rouge\n</span>',
        "also_buy": ["B000000002"],
        "tech2": "",
        "brand": "Alba",
        "feature": ["Wool", "Hand wash &amp; dry", ""],
        "rank": "866,012 in Clothing (",
        "also_view": [],
        "main_cat": '<img src="https://x/nav.png" class="nav-categ-image" alt="AMAZON FASHION"/>',
        "similar_item": "",
        "date": "",
        "price": "$162.25",
        "asin": "B000000001",
        "imageURL": ["https://m/I/41a._SS40_.jpg"],
        "imageURLHighRes": ["https://m/I/41a.jpg"],
    },
    {
        "category": [],
        "description": [],
        "title": "var aPageStart = (new Date()).getTime();",
        "brand": "",
        "feature": [],
        "main_cat": "Books",
        "price": ".a-box-inner{background-color:#fff}#alohaBuyBoxWidget .selected{color:#111}",
        "asin": "B000000002",
        "imageURL": ["https://m/I/51b._SS40_.jpg"],
        "imageURLHighRes": [],
    },
    {"category": ["Never", "reviewed"], "title": "Clock", "asin": "B000000004", "imageURL": [], "imageURLHighRes": []},
]

IMAGES_2023 = [
    {"thumb": "https://m/I/t0.jpg", "large": "https://m/I/l0.jpg", "hi_res": "https://m/I/h0.jpg", "variant": "PT01"},
    {"thumb": "https://m/I/t1.jpg", "large": "https://m/I/l1.jpg", "hi_res": None, "variant": "MAIN"},
]
DETAILS_2023 = {
    "Brand": "Not the store",
    "Material": "Wool",
    "Best Sellers Rank": {"Clothing": 12, "Scarves": 1},
    "Amazon Bestsellers Rank": "#12 in Clothing",
    "Customer Reviews": "4.5 out of 5 stars",
    "Colour": "Red",
}
META_2023: list[dict[str, Any]] = [
    {
        "main_category": "AMAZON FASHION",
        "title": "Scarf Rouge",
        "average_rating": 4.8,
        "rating_number": 10,
        "features": ["Wool", "Hand wash"],
        "description": ["A red scarf.", "Warm."],
        "price": 16.99,
        "images": IMAGES_2023,
        "videos": [],
        "store": "Alba",
        "categories": ["Clothing", "Women", "Accessories", "Scarves"],
        "details": DETAILS_2023,
        "parent_asin": "B000000001",
        "bought_together": None,
    },
    {
        "main_category": "Books",
        "title": "A Book",
        "average_rating": 4.0,
        "rating_number": 3,
        "features": [],
        "description": [],
        "price": None,
        "images": [],
        "videos": [],
        "store": None,
        "categories": [],
        "details": {},
        "parent_asin": "B000000002",
        "bought_together": None,
        "author": {"avatar": "https://x/a.jpg", "name": "Ada Writer", "about": ["..."]},
    },
    {"title": "Clock", "features": [], "images": [], "details": {}, "parent_asin": "B000000004"},
]


def hugging_face(record: dict[str, Any]) -> dict[str, Any]:
    """The same metadata as the Hugging Face edition writes it."""
    keys = ("hi_res", "large", "thumb", "variant")
    columns = {key: [image[key] for image in record.get("images", [])] for key in keys}
    return record | {
        "images": columns,
        "details": json.dumps(record.get("details", {})),
        "price": str(record.get("price")),
    }


def old_review(user: str, item: str, time: int, stars: float) -> dict[str, Any]:
    return {
        "reviewerID": user,
        "asin": item,
        "reviewerName": 'J. "Mac" O\'Donald',
        "helpful": [2, 3],
        "reviewText": "Good.\nVery good.",
        "overall": stars,
        "summary": "Good",
        "unixReviewTime": time,
        "reviewTime": "09 13, 2009",
    }


def new_review(user: str, item: str, time: int, stars: float) -> dict[str, Any]:
    return {
        "rating": stars,
        "title": "Good",
        "text": "Very good.",
        "images": [],
        "asin": f"{item[:-1]}X",  # the variant that was bought
        "parent_asin": item,
        "user_id": user,
        "timestamp": 1000 * time + 7,
        "helpful_vote": 0,
        "verified_purchase": True,
    }


def json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def literals(rows: list[dict[str, Any]]) -> str:
    return "".join(f"{row!r}\n" for row in rows)


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    """Files of the folder; a name that ends in .gz is gzipped."""
    (root / "images").mkdir(parents=True)
    for name, text in files.items():
        content = text.encode() if isinstance(text, str) else text
        (root / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (root / "images" / "B000000001.jpg").write_bytes(png())
    (root / "images" / "51b._SS40_.jpg").write_bytes(png())
    (root / "images" / "7113akhDnTL.jpg").write_bytes(png())
    return root


REVIEWS_2014 = json_lines([old_review(*event) for event in STORY])
REVIEWS_2023 = json_lines([new_review(*event) for event in STORY])
RATINGS_2014 = "".join(f"{user},{item},{stars},{time}\n" for user, item, time, stars in STORY)
RATINGS_2018 = "".join(f"{item},{user},{stars},{time}\n" for user, item, time, stars in STORY)
RATINGS_2023 = "user_id,parent_asin,rating,timestamp,history\n" + "".join(
    f"{user},{item},{stars},{1000 * time + 7},B000000001 B000000002\n" for user, item, time, stars in STORY
)
