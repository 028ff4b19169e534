"""Source `pixelrec`: the published files and their warts; the counters never reach the model."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.catalog import sources
from pipeline.catalog.quarantine import Quarantine
from pipeline.catalog.raw import Raw
from pipeline.catalog.sources import pixelrec
from tests.catalog.shop import ingest, ingest_params, png, refusal

INTERACTIONS = """item_id,user_id,timestamp
i72138,u209296,1605059546
i15530,u2444520,1628914341
i192714,u209296,1605059500
i15530,u209296,1605059999
i72138,u2444520,1628914342
i192714,u2444520,1628914343
"""
COUNTERS = "view_number,comment_number,thumbup_number,share_number,coin_number,favorite_number,barrage_number"
ITEMS = f"""item_id,{COUNTERS},title,tag,description
i192714,799668.0,739.0,8050.0,220.0,84.0,1049.0,510.0,"My boyfriend gave me a turtle…",Pet Reptiles,Brush it?
i72138,799669.0,1.0,2.0,3.0,4.0,5.0,6.0,,Food,"Noodles, ""fresh""
from the pan"
i15530,799670.0,,,,,,,,Music,
i408373,799671.0,1.0,2.0,3.0,4.0,5.0,6.0,Nobody saw this,,
"""


def write(root: Path, files: dict[str, str], covers: str = "covers") -> Path:
    (root / covers).mkdir(parents=True)
    for name, text in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text, "utf-8")
    (root / covers / "i192714.jpg").write_bytes(png())
    (root / covers / "i15530.jpg").write_bytes(png(colour="blue"))
    return root


def published(root: Path) -> Path:
    return write(root, {"interaction.csv": INTERACTIONS, "item_info.csv": ITEMS})


def read(root: Path, **changes: object) -> tuple[Raw, Quarantine]:
    quarantine = Quarantine()
    return sources.read(ingest_params(root, source="pixelrec", **changes), quarantine), quarantine


def message(root: Path, **changes: object) -> str:
    return refusal(lambda: read(root, **changes))


def test_items_and_interactions(tmp_path) -> None:
    raw, quarantine = read(published(tmp_path / "raw"))
    turtle, noodles, music, unseen = raw.items
    assert (turtle.title, turtle.text) == ("My boyfriend gave me a turtle…", "Brush it?")
    assert (turtle.attributes, turtle.image) == ({"tag": "Pet Reptiles"}, "covers/i192714.jpg")
    assert (noodles.title, noodles.text, noodles.image) == (None, 'Noodles, "fresh"\nfrom the pan', None)
    assert (music.title, music.text, music.attributes) == (None, None, {"tag": "Music"}), "a tag alone makes an item"
    assert (unseen.title, unseen.attributes) == ("Nobody saw this", {})
    assert raw.interactions.user_ids == ["u209296", "u2444520"]
    assert raw.interactions.timestamp.tolist()[:2] == [1605059546, 1628914341]
    assert raw.interactions.rating is None
    assert raw.rows_read == {"interaction.csv": 6, "item_info.csv": 4}
    assert quarantine.entries == []


def test_the_counters_never_reach_the_model(tmp_path) -> None:
    ingest(ingest_params(published(tmp_path / "raw"), source="pixelrec"), tmp_path / "catalog")
    items = pq.read_table(tmp_path / "catalog" / "items").drop_columns(["item_idx", "image"]).to_pylist()
    written = json.dumps(items)
    assert "turtle" in written and "Pet Reptiles" in written
    for counter in ("79966", "79967", "8050", "1049", "739", "510", *COUNTERS.split(",")):
        assert counter not in written.replace("i192714", ""), counter


def test_the_catalogue_in_numbers(tmp_path) -> None:
    """Hand-counted: two users of three items each, in order of time."""
    artifact = ingest(ingest_params(published(tmp_path / "raw"), source="pixelrec"), tmp_path / "catalog")
    items = pq.read_table(tmp_path / "catalog" / "items").to_pylist()
    assert [(row["item_id"], row["image"] is not None) for row in items] == [
        ("i192714", True),
        ("i72138", False),
        ("i15530", True),
    ]
    sequences = pq.read_table(tmp_path / "catalog" / "sequences.parquet").to_pylist()
    assert [(row["user_id"], row["items"]) for row in sequences] == [("u209296", [0, 1, 2]), ("u2444520", [2, 1, 0])]
    summary = json.loads(artifact.file("summary.json").read_text())
    assert [summary["split"][part] for part in ("users", "training", "validation", "test")] == [2, 2, 2, 2]
    counted = {key: summary["items"][f"with_{key}"] for key in ("title", "text", "attributes", "image")}
    assert counted == {"title": 1, "text": 2, "attributes": 3, "image": 2}


@pytest.mark.parametrize("covers", ["covers", "cover", "images"])
def test_other_names_of_the_same_files(covers, tmp_path) -> None:
    files = {"Pixel50K.csv": INTERACTIONS, "information/Pixel50K.csv": ITEMS}
    root = write(tmp_path / "raw", files, covers)
    raw = read(root)[0]
    assert raw.items[0].image == f"{covers}/i192714.jpg"
    assert raw.rows_read == {"Pixel50K.csv": 6, "information/Pixel50K.csv": 4}
    assert pixelrec.recognises(root) == "PixelRec: Pixel50K.csv, information/Pixel50K.csv"


def test_two_tables_of_one_name_are_told_apart(tmp_path) -> None:
    files = {
        "Pixel1M.csv": INTERACTIONS + "i1\n",
        "information/Pixel1M.csv": ITEMS.replace("from the pan", "") + "i2\n",
    }
    assert read(write(tmp_path / "raw", files))[1].entries == [
        ("Pixel1M.csv", 8, "wrong number of fields", "i1"),
        ("information/Pixel1M.csv", 6, "wrong number of fields", "i2"),
    ]


def test_a_folder_of_something_else_is_not_recognised(tmp_path) -> None:
    (tmp_path / "interactions.csv").write_text("user,item,timestamp\n")
    (tmp_path / "items.csv").write_text("id,title\n")
    assert pixelrec.recognises(tmp_path) is None


def test_bad_rows_carry_their_line_number(tmp_path) -> None:
    root = published(tmp_path / "raw")
    (root / "interaction.csv").write_text(INTERACTIONS + "i1,u1,yesterday\ni1,,5\ni1,u1\n")
    (root / "item_info.csv").write_text(
        ITEMS.replace("from the pan", "") + ",1,1,1,1,1,1,1,No id,,\ni15530,,,,,,,,Again,,\n"
    )
    assert sorted(read(root)[1].entries) == [
        ("interaction.csv", 8, "timestamp is not a whole number", "yesterday"),
        ("interaction.csv", 9, "user is empty", ""),
        ("interaction.csv", 10, "wrong number of fields", "i1,u1"),
        ("item_info.csv", 6, "item id is empty", "No id"),
        ("item_info.csv", 7, "item id stands in an earlier row too", "i15530"),
    ]


def test_what_is_missing_or_twice_is_one_line(tmp_path) -> None:
    root = write(tmp_path / "raw", {"item_info.csv": ITEMS})
    wanted = "CSV with the columns item_id, timestamp, user_id"
    assert message(root) == f"{root} holds no {wanted}: source 'pixelrec' needs one"
    (root / "Pixel50K.csv").write_text(INTERACTIONS)
    (root / "Pixel1M.csv").write_text(INTERACTIONS)
    assert message(root) == f"{root} holds more than one {wanted}: keep one of Pixel1M.csv, Pixel50K.csv"
    (root / "Pixel1M.csv").unlink()
    (root / "item_info.csv").write_text("item_id,title,tag\n")
    assert message(root) == (
        f"{root}/item_info.csv has no column 'description' (it has item_id, title, tag): take the file as published"
    )
    (root / "item_info.csv").unlink()
    assert message(root) == (
        f"{root} holds no table of items (item_info.csv or information/*.csv): source 'pixelrec' needs one"
    )


def test_a_minimum_rating_is_refused(tmp_path) -> None:
    assert message(published(tmp_path / "raw"), min_rating=4.0) == (
        "ingest.min_rating = 4 needs ratings, and PixelRec has none: set ingest.min_rating to null"
    )
